"""Training rows: which steps the learner sees, and their bytes.

A user has at most one sample row an active hour: the event whose number within the hour is 1, 2, 4 or 8, which a hash
of user and hour chooses, so that short and long visits are both seen. In a busy shop only some users are sampled. Carts
and purchases of the same users are sent too, so that the learner knows what came after a row; and for new users, their
features at the end of their first day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from online_models.learner import control_messages
from online_models.learner.control_messages import ControlMessage
from online_models.prediction import first_day
from online_models.training_rows import FIRST_DAY_ROW, OUTCOME_ROW, SAMPLE_ROW, USER, TrainingRows
from state import history, windows
from state.history import HOUR_MS, Steps
from state.rows import Heads, Ints
from streams.processing.progress import Shop

LARGEST = float(1 << 53)  # below it whole numbers are exact
_HEAD = np.dtype(
    [
        ("columns", "<u4"),
        ("kind", "u1"),
        ("now", "<i8"),
        ("born", "<i8"),
        ("carts", "<u4"),
        ("orders", "<u4"),
        ("sessions", "<u4"),
    ]
)


def choose_steps(steps: Steps, birth: Ints) -> tuple[Ints, NDArray[np.int8], NDArray[np.uint64]]:
    """Steps (indices) that could be sent, what each is (SAMPLE_ROW, OUTCOME_ROW), and a hash of each one's user,
    uniform over 2**32 values.

    birth (s,): of each step's row; with the partition it names the user.
    """
    user_hash = _mix(birth.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))  # splitmix64's constants
    hour = (steps.now // HOUR_MS).astype(np.uint64)
    hour_hash = _mix(user_hash ^ hour * np.uint64(0xBF58476D1CE4E5B9))
    sampled_ordinal = np.int64(1) << (hour_hash >> np.uint64(62)).astype(np.int64)  # 1, 2, 4 or 8
    is_sample = (steps.event >= 0) & (steps.ordinal == sampled_ordinal)
    chosen = np.flatnonzero(is_sample | steps.outcome)
    kind = np.where(is_sample[chosen], SAMPLE_ROW, OUTCOME_ROW).astype(np.int8)
    return chosen, kind, user_hash[chosen] >> np.uint64(32)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = value ^ value >> np.uint64(29)
    value *= np.uint64(0x94D049BB133111EB)
    return value ^ value >> np.uint64(32)


def day_end(born: Ints) -> Ints:
    """The edge (ms) at which the hour of a first event (units of five minutes) leaves the window of 24 hours."""
    return first_day.first_day_end(born * windows.UNIT)


def first_day_ends(heads: Heads, steps: Steps) -> Ints:
    """Steps (indices) that end the first day of a followed user."""
    exits = np.flatnonzero(steps.event == history.EXIT)
    exits = exits[heads["followed"][steps.row[exits]] != 0]
    end = day_end(heads["born"][steps.row[exits]].astype(np.int64))
    return exits[steps.now[exits] == end]


def sample(shop: Shop, hour: Ints, user_hash: NDArray[np.uint64], hourly: int) -> Ints:
    """Which of the candidates (indices, in applied order) are sent: those of users whose hash lies below a share.

    The share is what the hour before would have needed to send `hourly` rows, so the same users are followed through
    time; twice as many are never sent. hour (n,): accounting hours, never falling; user_hash (n,): below 2**32. Counts
    the candidates in shop, in place.
    """
    if not len(hour):
        return hour
    parts = []
    edges = [*np.flatnonzero(np.r_[True, hour[1:] != hour[:-1]]).tolist(), len(hour)]
    for start, end in pairwise(edges):
        if int(hour[start]) > shop.training_hour:
            if shop.training_hour >= 0:
                shop.share = min(1 << 32, (hourly << 32) // max(1, shop.candidates))
            shop.training_hour, shop.candidates, shop.training = int(hour[start]), 0, 0
        shop.candidates += end - start
        room = max(0, 2 * hourly - shop.training)
        sent = start + np.flatnonzero(user_hash[start:end] < np.uint64(shop.share))[:room]
        shop.training += len(sent)
        parts.append(sent)
    return np.concatenate(parts)


def pseudonyms(users: Iterable[bytes], key: bytes) -> list[bytes]:
    """Keyed hashes of user ids, 16 bytes each: the same user over time, and no way back without the key."""
    keyed = hashlib.blake2b(key=key[:64], digest_size=16)
    found = []
    for user in users:
        user_hash = keyed.copy()  # half the time of a new one
        user_hash.update(user)
        found.append(user_hash.digest())
    return found


def layout(names: Sequence[str]) -> int:
    """A number for the columns' names and order."""
    return int.from_bytes(hashlib.blake2b("\n".join(names).encode(), digest_size=4).digest(), "little")


def encode(
    kind: NDArray[np.int8], steps: Steps, step: Ints, born: Ints, columns: int, raw: NDArray[np.float64]
) -> list[bytes]:
    """The records of n steps: step (n,) indices, kind (n,), born (n,) units of five minutes; raw (s, width): of all
    steps."""
    record = np.zeros(len(step), [("head", _HEAD), ("raw", "<f8", raw.shape[1])])
    head, record["raw"] = record["head"], raw[step]
    head["columns"], head["kind"], head["now"], head["born"] = columns, kind, steps.now[step], born * windows.UNIT
    for i, name in enumerate(history.LIFETIME):
        head[name] = steps.lifetime[step, i]
    data, size = record.tobytes(), record.itemsize
    return [data[start : start + size] for start in range(0, len(data), size)]


def pieces(
    keys: Sequence[bytes | None], values: Sequence[bytes | None], offsets: Sequence[int], columns: int, width: int
) -> Iterator[TrainingRows | tuple[int, ControlMessage | str]]:
    """The log in its order: rows, and between them control messages (or what is wrong with one) with their offsets."""
    start = 0
    for end in [*(i for i, key in enumerate(keys) if key == control_messages.KEY), len(keys)]:
        rows = decode(keys[start:end], values[start:end], offsets[start:end], columns, width)
        if len(rows):
            yield rows
        if end < len(keys):
            yield offsets[end], control_messages.decode(values[end])
        start = end + 1


def decode(
    keys: Sequence[bytes | None], values: Sequence[bytes | None], offsets: Sequence[int], columns: int, width: int
) -> TrainingRows:
    """The records that are rows of these columns.

    Others are left out, control messages (online_models/learner/control_messages.py) among them, and what no worker
    sends: values that are not finite or not below LARGEST, unknown kinds.
    """
    size = _HEAD.itemsize + 8 * width
    fits = [
        i
        for i, (key, value) in enumerate(zip(keys, values, strict=True))
        if value is not None
        and len(value) == size
        and key is not None
        and len(key) == USER.itemsize
        and value[:4] == columns.to_bytes(4, "little")
    ]
    data = np.frombuffer(b"".join([values[i] or b"" for i in fits]), np.uint8).reshape(len(fits), size)
    head = np.ascontiguousarray(data[:, : _HEAD.itemsize]).view(_HEAD)[:, 0]
    raw = np.ascontiguousarray(data[:, _HEAD.itemsize :]).view("<f8").astype(np.float64)
    numbers = {name: head[name].astype(np.int64) for name in ("now", "born", "carts", "orders", "sessions")}
    user = np.frombuffer(b"".join([keys[i] or b"" for i in fits]), USER)
    offset = np.array([offsets[i] for i in fits], np.int64)
    rows = TrainingRows(offset=offset, kind=head["kind"].astype(np.int8), user=user, raw=raw, **numbers)
    kinds = (SAMPLE_ROW, OUTCOME_ROW, FIRST_DAY_ROW)
    valid = (np.abs(raw) < LARGEST).all(1) & np.isin(rows.kind, kinds)  # a comparison with nan is false
    return rows if valid.all() else rows.take(valid)
