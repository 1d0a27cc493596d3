"""A numbered version of the model: all that assigning a shopper needs, and the learner's state to go on from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np

from online_models.clustering.scaler import Scaler
from online_models.distances import Floats
from online_models.encoder.encoder import Encoder
from online_models.lineage import Lineage
from online_models.prediction import registry
from online_models.prediction.first_day import FirstDayModel
from online_models.prediction.propensity import PropensityModel
from online_models.prediction.side_model import SideModel, from_fields, to_fields

FORMAT = 3
Space = Literal["windows", "embedding"]
WINDOWS: Space = "windows"
Model = TypeVar("Model")


class Version(msgspec.Struct, frozen=True):
    """k segments over F features, R of them ratios; the centres have D coordinates."""

    number: int
    names: list[str]  # (F,) of the features
    ratios: int  # R
    scaler: Scaler
    ids: list[int]  # (k,) the segment of each centre; an id is never used again
    next_id: int  # the first that was never used
    centre_bytes: bytes  # (k, D) little-endian float64
    profile_bytes: bytes  # (k, F) likewise: mean features of each segment's people
    weights: list[float]  # (k,) share of the people that it was made from
    learned_to: int  # next offset of training-rows to learn from
    rows: int  # learned so far
    event_time: int  # ms, largest learned from
    parent: int
    error: float  # mean squared distance of its people to their centres
    hysteresis: float = 0.0  # how much nearer, as a share of the distance, another centre has to be for a user to move
    space: Space = "windows"  # where the centres lie
    encoder: Encoder | None = None  # of the embeddings, whatever the segments are made of
    first_day: FirstDayModel | None = msgspec.field(default=None, name="young")
    propensity: PropensityModel | None = None
    quality: dict[str, float] = {}  # figures on people of the holdout, and of the side models
    lineage: list[Lineage] = []  # what became of the segments of the parent
    state: bytes = b""  # of the learner
    format: int = FORMAT
    checksum: str = ""
    side_models: dict[str, bytes] | msgspec.UnsetType = msgspec.UNSET  # msgpack of those without a field of their own

    @property
    def centres(self) -> Floats:
        """(k, D)."""
        return np.frombuffer(self.centre_bytes, "<f8").reshape(len(self.ids), -1).astype(np.float64)

    @property
    def profile(self) -> Floats:
        """Mean features (k, F) of each segment's people."""
        return np.frombuffer(self.profile_bytes, "<f8").reshape(len(self.ids), -1).astype(np.float64)

    def coordinates(self, raw: Floats, features: Floats) -> Floats:
        """Where rows lie among the centres (n, D): raw (n, 2R + L), features (n, F) of this version's scaler."""
        if self.space == "windows":
            return features
        assert self.encoder is not None
        return self.encoder.encode(self.encoder.features(raw))

    def side_model(self, kind: SideModel[Model]) -> Model | None:
        """What this version says by a side model; None where it says nothing yet. ValueError where it is damaged."""
        stored = from_fields(self, kind.name)
        if not isinstance(stored, bytes):
            model: Model | None = stored
            return model
        try:
            return msgspec.msgpack.decode(stored, type=kind.model)
        except msgspec.DecodeError as error:
            raise ValueError(f"{kind.name}: {error}") from None

    def with_side_models(self, models: Mapping[str, Any]) -> Version:
        """The version with these side models, by name; None for those that say nothing yet."""
        fields = to_fields(models)
        if fields["side_models"] is not msgspec.UNSET:
            encoded = {name: msgspec.msgpack.encode(model) for name, model in fields["side_models"].items()}
            fields["side_models"] = encoded
        return msgspec.structs.replace(self, **fields)


def _checksum(version: Version) -> str:
    return hashlib.sha256(msgspec.msgpack.encode(msgspec.structs.replace(version, checksum=""))).hexdigest()


def dumps(version: Version) -> bytes:
    """The version's bytes, with a checksum; equal versions give equal bytes."""
    return msgspec.msgpack.encode(msgspec.structs.replace(version, checksum=_checksum(version)))


def loads(data: bytes) -> Version:
    """ValueError, with the reason, where bytes are no version, are damaged or are of another format."""
    try:
        version = msgspec.msgpack.decode(data, type=Version)
    except msgspec.DecodeError as error:
        raise ValueError(f"no model version: {error}") from None
    if version.format != FORMAT:
        raise ValueError(f"model format {version.format}, expected {FORMAT}")
    if version.checksum != _checksum(version):
        raise ValueError("the checksum does not fit: the version is damaged")
    _check_shapes(version)
    _check_numbers(version)
    for kind in registry.SIDE_MODELS:
        model = version.side_model(kind)
        if model is not None:
            kind.check(model, version)
    return version


def _check_shapes(version: Version) -> None:
    width, k = len(version.names), len(version.ids)
    if version.space == "embedding" and version.encoder is None:
        raise ValueError("segments in the space of an encoder, and no encoder")
    if version.encoder is not None and version.encoder.names != version.names:
        raise ValueError("the encoder is for features of another layout")
    dimensions = version.encoder.latent if version.space == "embedding" and version.encoder else width
    sizes = len(version.centre_bytes), len(version.profile_bytes), len(version.scaler.median)
    if not width or not k or sizes != (8 * k * dimensions, 8 * k * width, width):
        raise ValueError("the shapes do not fit the names")
    version.scaler.check(version.ratios, width)


def _check_numbers(version: Version) -> None:
    k, below = len(version.ids), min(version.next_id, 1 << 31)
    if len({*version.ids}) != k or not all(0 <= segment < below for segment in version.ids):
        raise ValueError("the ids are none: twice, below 0 or not below the next one")
    figures = np.array([*version.weights, *version.quality.values(), version.error])
    finite = all(bool(np.isfinite(part).all()) for part in (version.centres, version.profile, figures))
    if len(version.weights) != k or not finite or min(version.weights) < 0:
        raise ValueError("weights, centres or figures are no numbers")
    if not 0 <= version.hysteresis < 1:
        raise ValueError(f"a hysteresis of {version.hysteresis}")
