"""A planted stream through shoal's own core: training rows as a worker sends them, features of all users as of times.

The events go through `PartitionProcessor` with rows in memory, as in streams/offline/backfill.py, in the order of their
arrival. What does not depend on a model is kept by seed under .shoal/quality, named by the code that made it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.training_rows import SAMPLE_ROW, TrainingRows
from online_models.version import Version
from state import features, rows
from state.stores.memory import MemoryStore
from streams.config.factories import partition_config, schema_of
from streams.config.settings import Settings, SourceSettings
from streams.offline import feature_table
from streams.processing.outputs import training_records
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.partitioner import partitions_of
from streams.schemas.record_batch import RecordBatch
from tests.quality import planted as planted_
from tests.quality.planted import DAY, HOUR, START, Ints, Planted
from tests.support.decoding import decoder

Floats = NDArray[np.float64]
ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".shoal" / "quality"
CODE = (
    "state/*.py",
    "online_models/training_rows.py",
    "streams/processing/outputs/training_records.py",
    "streams/processing/batch_step.py",
    "streams/processing/decisions.py",
    "streams/processing/partition_processor.py",
    "tests/quality/kinds.py",
    "tests/quality/planted.py",
    "tests/quality/played.py",
)
EVERY = 12 * HOUR  # what is measured is measured each so much event time
LIMIT = 1 << 30
_TRAINING, _CHANGES = "training-rows", "segment-changes"
_NOWHERE = Topics(_CHANGES, "segments", "alerts", "dead-letters", _TRAINING, "commands-results")


class _Data(msgspec.Struct):
    cause: str


class _Event(msgspec.Struct):
    data: _Data


_CAUSE = msgspec.json.Decoder(_Event)


class Flushed(NamedTuple):
    """Training records, and the changes of segment: planted users and causes."""

    keys: list[bytes]
    values: list[bytes]
    moved: list[int]
    causes: list[str]


@dataclass(frozen=True, slots=True)
class Taught:
    """n training records in the order of the log, of all kinds."""

    rows: TrainingRows
    user: Ints  # numbers of the planted users
    truth: Ints  # kind of the user as of the row

    def __len__(self) -> int:
        return len(self.user)

    def learned(self) -> Ints:
        """Which of them (indices) the k-means learns from."""
        return np.flatnonzero(self.rows.kind == SAMPLE_ROW)


@dataclass(frozen=True, slots=True)
class Data:
    """Of one planted stream: what contenders learn from, and whom they label as of each time."""

    planted: Planted
    taught: Taught
    times: Ints  # (t,) ms
    upto: Ints  # (t,) training records that were there by then
    raw: Floats  # (t, users, 2R + L) of all users as of each time; zeros where there is no row yet
    last: Ints  # (t, users) ms, latest event; rows.NEVER where there is no row yet

    def active(self, i: int, days: float = 7.0) -> NDArray[np.bool_]:
        """Users with an event in so many days before time i."""
        return self.last[i] >= self.times[i] - days * DAY


def deployment(**learner: Any) -> Settings:
    """One partition; learner: its settings."""
    return Settings(topics={"partitions": 1}, learner=learner)  # type: ignore[arg-type]


class Core:
    """The partitions of one deployment, fed up to a time of arrival."""

    def __init__(self, planted: Planted, settings: Settings | None = None) -> None:
        self.settings = settings or deployment()
        self.planted = planted
        topics, partitions = self.settings.source_topics, self.settings.topics.partitions
        schema = schema_of(SourceSettings(name=topics[0]), self.settings)

        self.tasks = [
            PartitionProcessor(
                partition_config(self.settings, number), decoder(schema), MemoryStore(), _NOWHERE, accept_rejects=True
            )
            for number in range(partitions)
        ]
        self._keys = [name.encode() for name in planted.ids()]
        self._number = {key: i for i, key in enumerate(self._keys)}
        self._place = partitions_of(self._keys, partitions)
        self._read = 0  # events handed over so far
        self._ends = {(number, topic): 0 for number in range(partitions) for topic in topics}

    def feed(self, until: int) -> None:
        """Apply the events that arrived before a time (ms)."""
        stop = int(np.searchsorted(self.planted.arrival, until))
        while self._read < stop:
            start, self._read = self._read, min(stop, self._read + 100_000)
            self._hand_over(planted_.records(self.planted, start, self._read), self.planted.user[start : self._read])

    def _hand_over(self, found: planted_.Records, user: Ints) -> None:
        place, bought = self._place[user], np.array(found.bought)
        for number, task in enumerate(self.tasks):
            for source, topic in enumerate(self.settings.source_topics):
                at = np.flatnonzero((place == number) & (bought == bool(source))).tolist()
                if at:
                    first = self._ends[number, topic]
                    self._ends[number, topic] += len(at)
                    task.add(
                        RecordBatch(
                            topic,
                            number,
                            first,
                            first + len(at) - 1,
                            list(range(first, first + len(at))),
                            [found.keys[i] for i in at],
                            [found.values[i] for i in at],
                            [found.times[i] for i in at],
                        )
                    )
            task.run(0, dict(task.queued_ends()))

    def flush(self) -> Flushed:
        """Cut all partitions: what they have said since the last time."""
        out = Flushed([], [], [], [])
        for task in self.tasks:
            flush = task.cut(0)
            for (topic, _), records in flush.outputs.items() if flush else ():
                if topic == _TRAINING:
                    out.keys.extend(key for key, _, _ in records)
                    out.values.extend(value for _, value, _ in records)
                elif topic == _CHANGES:
                    out.moved.extend(self._number[key] for key, _, _ in records)
                    out.causes.extend(_CAUSE.decode(value).data.cause for _, value, _ in records)
        return out

    def adopt(self, version: Version) -> None:
        for task in self.tasks:
            task.adopt(version)

    def settle(self) -> None:
        """End the pass of a swap, then decide the exits up to the watermark."""
        for task in self.tasks:
            while task.progress.cursor is not None:
                task.continue_pass(LIMIT)
            while task.sweep(LIMIT):
                pass

    def rows(self) -> tuple[Ints, list[bytes]]:
        """All users that there are: numbers and rows."""
        found = [(self._number[key], row) for task in self.tasks for key, row in _rows(task).items()]
        return np.array([user for user, _ in found], np.int64), [row for _, row in found]

    def segments(self) -> Ints:
        """The segment that each planted user (users,) is in, as the rows have it; -1 none."""
        user, stored = self.rows()
        out = np.full(self.planted.users, rows.UNASSIGNED)
        out[user] = rows.join(stored).heads["segment"]
        return out


def _rows(task: PartitionProcessor) -> dict[bytes, bytes]:
    store = task._state.store
    assert isinstance(store, MemoryStore)
    return {key: row for key, row in store.rows.items() if key[:1] != b"\0"}


def raw_and_last(stored: Sequence[bytes], now: int) -> tuple[Floats, Ints]:
    """Raw matrix (n, 2R + L) and latest event (n,) of rows as of now (ms)."""
    heads, sums = feature_table.window_sums(stored, now)
    return features.raw(sums, heads["hours"].astype(np.int64)), heads["last"].copy()


def taught(planted: Planted, keys: list[bytes], values: list[bytes], first: int, settings: Settings) -> Taught:
    """Training records from an offset on, with the truth beside them. The one place that reads their bytes."""
    width, columns = 2 * features.R + len(features.PLAIN), training_records.layout(features.NAMES)
    found = training_records.decode(keys, values, range(first, first + len(keys)), columns, width)
    number = _pseudonyms(planted.seed, planted.users, settings.learner.hash_key.get_secret_value().encode())
    user = np.array([number[one.tobytes()] for one in found.user], np.int64)
    return Taught(found, user, planted.kind_of(user, found.now))


@cache
def _pseudonyms(seed: int, users: int, secret: bytes) -> dict[bytes, int]:
    names = [name.encode() for name in planted_.ids(seed, users)]
    return {pseudonym: i for i, pseudonym in enumerate(training_records.pseudonyms(names, secret))}


def times_of(planted: Planted) -> Ints:
    return np.arange(START + EVERY, planted.end + 1, EVERY)


def data(planted: Planted, name: str, progress: Callable[[float], None] = lambda _: None) -> Data:
    """What contenders get, from the cache where it is there. name: of the stream, with its seed and size."""
    path = CACHE / f"{name}-{_digest()}.npz"
    times = times_of(planted)
    chosen = deployment()
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            found = {key: kept[key] for key in kept.files}
        keys = [key.tobytes() for key in found["keys"]]
        values = [value.tobytes() for value in np.split(found["values"], found["cuts"])]
        upto, raw, last = found["upto"], found["raw"], found["last"]
    else:
        core = Core(planted, chosen)
        keys, values, upto, raw, last = _play(core, times, progress)
        CACHE.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez_compressed(
            part,
            keys=np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1),
            values=np.frombuffer(b"".join(values), np.uint8),
            cuts=np.cumsum([len(v) for v in values])[:-1],
            upto=upto,
            raw=raw,
            last=last,
        )
        part.rename(path)
    return Data(planted, taught(planted, keys, values, 0, chosen), times, upto, raw, last)


def _play(
    core: Core, times: Ints, progress: Callable[[float], None]
) -> tuple[list[bytes], list[bytes], Ints, Floats, Ints]:
    keys: list[bytes] = []
    values: list[bytes] = []
    upto = np.zeros(len(times), np.int64)
    users = core.planted.users
    raw = np.zeros((len(times), users, 2 * features.R + len(features.PLAIN)))
    last = np.full((len(times), users), rows.NEVER)
    for i, now in enumerate(times.tolist()):
        core.feed(now)
        core.settle()
        more = core.flush()
        keys += more.keys
        values += more.values
        upto[i] = len(keys)
        user, stored = core.rows()
        raw[i, user], last[i, user] = raw_and_last(stored, now)
        progress((i + 1) / len(times))
    return keys, values, upto, raw, last


def _digest() -> str:
    files = sorted(path for pattern in CODE for path in ROOT.glob(pattern))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
