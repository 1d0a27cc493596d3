"""A numbered version of the model: all that assigning a shopper needs, and the learner's state to go on from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.nearest import Floats, nearest
from online_models.scaler import Scaler

FORMAT = 1


class Version(msgspec.Struct, frozen=True):
    number: int
    names: list[str]  # of the features
    ratios: int
    scaler: Scaler
    centre_bytes: bytes  # (k, F) little-endian float64
    weights: list[float]  # share of the window's rows
    learned_to: int  # next offset of training-rows to learn from
    rows: int  # learned so far
    event_time: int  # ms, largest learned from
    parent: int
    error: float  # mean squared distance over the window
    state: bytes = b""
    format: int = FORMAT
    checksum: str = ""

    @property
    def centres(self) -> Floats:
        return np.frombuffer(self.centre_bytes, "<f8").reshape(-1, len(self.names)).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Of n lines: segment, runner-up, margin in [0, 1] (how much farther the runner-up is), features (n, F)."""

    segment: NDArray[np.int32]
    runner_up: NDArray[np.int32]
    margin: Floats
    features: Floats


def assign(version: Version, raw: Floats) -> Assignment:
    """Features and nearest centres of a raw matrix; a line's answer does not depend on the lines around it."""
    features = version.scaler.transform(raw)
    segment, runner_up, first, second = nearest(features, version.centres)
    total = first + second
    margin = np.where(total > 0, (second - first) / np.where(total > 0, total, 1.0), 0.0)
    return Assignment(segment, runner_up, margin, features)


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
    if not width or len(version.centre_bytes) % (8 * width) or len(version.scaler.median) != width:
        raise ValueError("the shapes do not fit the names")
    return version
