"""A numbered version of the model: all that assigning a shopper needs, and the learner's state to go on from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.clustering.scaler import Scaler
from online_models.distances import Floats, distances
from online_models.encoder.encoder import Encoder
from online_models.lineage import Lineage
from online_models.prediction import first_day as young
from online_models.prediction import propensity
from online_models.prediction.first_day import YoungModel
from online_models.prediction.propensity import Propensity
from online_models.training_rows import Ints

FORMAT = 3
Space = Literal["windows", "embedding"]
WINDOWS: Space = "windows"


class Version(msgspec.Struct, frozen=True):
    number: int
    names: list[str]  # of the features
    ratios: int
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
    error: float  # their mean squared distance
    hysteresis: float = 0.0  # how much nearer, as a share of the distance, another centre has to be for a user to move
    space: Space = "windows"  # where the centres lie
    encoder: Encoder | None = None  # of the embeddings, whatever the segments are made of
    young: YoungModel | None = None  # where new users end their first day
    propensity: Propensity | None = None  # who will buy, and who will fill a cart
    quality: dict[str, float] = {}  # on rows that were held out
    lineage: list[Lineage] = []  # what became of the segments of the parent
    state: bytes = b""
    format: int = FORMAT
    checksum: str = ""

    @property
    def centres(self) -> Floats:
        return np.frombuffer(self.centre_bytes, "<f8").reshape(len(self.ids), -1).astype(np.float64)

    def place(self, raw: Floats, features: Floats) -> Floats:
        """Where lines lie among the centres (n, D): raw (n, 2R + L), features (n, F) of this version's scaler."""
        if self.space == "windows":
            return features
        assert self.encoder is not None
        return self.encoder.encode(self.encoder.features(raw))

    @property
    def profile(self) -> Floats:
        return np.frombuffer(self.profile_bytes, "<f8").reshape(len(self.ids), -1).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Of n lines: segment and runner-up by id, margin in [-1, 1] (how much farther the runner-up is than the segment;
    below 0 where a user is held that has a nearer centre), features (n, F)."""

    segment: NDArray[np.int32]
    runner_up: NDArray[np.int32]
    margin: Floats
    features: Floats


def assign(version: Version, raw: Floats, row: Ints | None = None, held: Ints | None = None) -> Assignment:
    """Features and segments of a raw matrix (n, 2R + L); a line's answer does not depend on the lines around it, but
    for the user's own before it.

    A user stays in the segment of the line before unless another centre is nearer by more than the version's
    hysteresis. row (n,): user of each line, ascending, a user's lines in order; held (users,): the segment that each
    comes from, -1 for none. Without them each line is judged by itself.
    """
    features = version.scaler.transform(raw)
    distance = distances(version.place(raw, features), version.centres)
    found = chosen = distance.argmin(0)  # the lower index of equals
    if row is not None and held is not None and version.hysteresis > 0:
        chosen = _held(distance, found, row, index(version.ids, held), (1.0 - version.hysteresis) ** 2)
    line = np.arange(len(raw))
    mine = distance[chosen, line]
    if len(version.ids) > 1:
        distance[chosen, line] = np.inf
    second = distance.argmin(0)
    total = mine + distance[second, line]
    margin = np.where(total > 0, (distance[second, line] - mine) / np.where(total > 0, total, 1.0), 0.0)
    ids = np.array(version.ids, np.int32)
    return Assignment(ids[chosen], ids[second], margin, features)


def index(ids: list[int], segment: Ints) -> Ints:
    """Which centre is each segment's, -1 where none is."""
    known = np.array(ids, np.int64)
    order = np.argsort(known)
    at = order[np.minimum(np.searchsorted(known, segment, sorter=order), len(ids) - 1)]
    return np.where(known[at] == segment, at, -1)


def _held(distance: Floats, found: NDArray[np.int64], row: Ints, held: Ints, nearer: float) -> NDArray[np.int64]:
    """Centres as users keep them: the one before where it is good enough, else the nearest.

    distance (k, n) squared; found (n,) the nearest; held (users,) centres that users come from, -1 for none.
    """
    enough = distance * nearer <= distance[found, np.arange(len(found))]
    open_ = np.flatnonzero(np.count_nonzero(enough, axis=0) > 1)  # elsewhere only the nearest will do
    out = found.tolist()
    rows, first = row.tolist(), held.tolist()
    for i in open_.tolist():
        before = out[i - 1] if i and rows[i - 1] == rows[i] else first[rows[i]]
        if before >= 0 and enough[before, i]:
            out[i] = before
    return np.array(out, np.int64)


def _sum(version: Version) -> str:
    return hashlib.sha256(msgspec.msgpack.encode(msgspec.structs.replace(version, checksum=""))).hexdigest()


def dumps(version: Version) -> bytes:
    """The version's bytes, with a checksum; equal versions give equal bytes."""
    return msgspec.msgpack.encode(msgspec.structs.replace(version, checksum=_sum(version)))


def loads(data: bytes) -> Version:
    """ValueError, with the reason, where bytes are no version, are damaged or are of another format."""
    try:
        version = msgspec.msgpack.decode(data, type=Version)
    except msgspec.DecodeError as error:
        raise ValueError(f"no model version: {error}") from None
    if version.format != FORMAT:
        raise ValueError(f"model format {version.format}, expected {FORMAT}")
    if version.checksum != _sum(version):
        raise ValueError("the checksum does not fit: the version is damaged")
    width = len(version.names)
    if version.space == "embedding" and version.encoder is None:
        raise ValueError("segments in the space of an encoder, and no encoder")
    if version.encoder is not None and version.encoder.names != version.names:
        raise ValueError("the encoder is for features of another layout")
    within = version.encoder.latent if version.space == "embedding" and version.encoder else width
    sizes = len(version.centre_bytes), len(version.profile_bytes), len(version.scaler.median)
    k = len(version.ids)
    if not width or not k or sizes != (8 * k * within, 8 * k * width, width):
        raise ValueError("the shapes do not fit the names")
    version.scaler.check(version.ratios, width)
    below = min(version.next_id, 1 << 31)
    if len({*version.ids}) != k or not all(0 <= one < below for one in version.ids):
        raise ValueError("the ids are none: twice, below 0 or not below the next one")
    others = np.array([*version.weights, *version.quality.values(), version.error])
    finite = all(bool(np.isfinite(part).all()) for part in (version.centres, version.profile, others))
    if len(version.weights) != k or not finite or min(version.weights) < 0:
        raise ValueError("weights, centres or figures are no numbers")
    if not 0 <= version.hysteresis < 1:
        raise ValueError(f"a hysteresis of {version.hysteresis}")
    if version.young is not None:
        young.check(version.young, width, min(version.next_id, 1 << 31))
    if version.propensity is not None:
        propensity.check(version.propensity, width + version.ratios, version.ratios)
    return version
