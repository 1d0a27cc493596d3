"""Shoppers of a file as of several times, through shoal's own core, and what they did next according to the file.

As of a time every shopper with an event up to then is there, whatever came later: choosing shoppers by what they do
later flatters every model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import msgspec
import numpy as np

from online_models.outcomes import HORIZON
from online_models.training_rows import USER, TrainingRows
from state import features
from state import rows as stored
from state.stores.memory import MemoryStore
from state.vocabulary import VOCABULARY
from streams.config.factories import partition_config, schema_of
from streams.config.settings import load
from streams.offline import feature_table
from streams.offline.event_files import FileRecord, read_events
from streams.processing.outputs import training_records
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_processor import PartitionProcessor
from streams.schemas.record_batch import RecordBatch
from tests.support.decoding import decoder

DAY = 86_400_000
HOUR = 3_600_000
TOPICS = Topics("segment-changes", "segments", "alerts", "dead-letters", "training-rows", "commands-results")
FEED = 20_000  # events at a time
NEVER = np.iinfo(np.int64).max

Ints = np.ndarray


@dataclass(frozen=True, slots=True)
class Shoppers:
    """n lines, one a shopper and time, by time; training rows in log order."""

    time: Ints  # (n,) ms: as of when
    user: Ints  # (n,) 0 to u - 1
    raw: np.ndarray  # (n, 2R + L)
    windows: Ints  # (n, 40) the windowed columns, as streams/offline/feature_table.py names them
    last: Ints  # (n,) ms: the newest event
    bought: np.ndarray  # (n,) a purchase within HORIZON after the time
    returned: np.ndarray  # (n,) a session began within it
    carted: np.ndarray  # (n,) and the first of them has a cart
    rows: TrainingRows

    def column(self, name: str) -> Ints:
        return self.windows[:, feature_table.COLUMNS.index(name)]

    def save(self, path: Path) -> None:
        found = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "rows"}
        found |= {f"rows_{one.name}": getattr(self.rows, one.name) for one in fields(TrainingRows)}
        found["rows_user"] = found["rows_user"].view("u1").reshape(-1, USER.itemsize)
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, **found)
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> Shoppers:
        with np.load(path, allow_pickle=False) as found:
            of_rows = {one.name: found[f"rows_{one.name}"] for one in fields(TrainingRows)}
            of_rows["user"] = of_rows["user"].view(USER)[:, 0]
            own = {one.name: found[one.name] for one in fields(cls) if one.name != "rows"}
        return cls(rows=TrainingRows(**of_rows), **own)


def shoppers(
    path: Path, days: tuple[int, ...], home: Path, fresh: bool, progress: Callable[[int, int], None]
) -> tuple[Shoppers, int]:
    """As of so many days after the file's first hour, and that hour (ms); kept in the folder home for the next time."""
    home.mkdir(parents=True, exist_ok=True)
    code = [*sorted(Path(stored.__file__).parent.glob("*.py")), Path(training_records.__file__), Path(__file__)]
    kind = hashlib.sha256(repr((path.stat().st_size, path.stat().st_mtime_ns, days)).encode())
    for one in code:
        kind.update(one.read_bytes())
    cache = home / f"{path.name.partition('.')[0]}-{kind.hexdigest()[:12]}.npz"
    if fresh or not cache.exists():
        _fold(path, days, progress).save(cache)
    found = Shoppers.read(cache)
    return found, int(found.time.min()) - min(days) * DAY


def _fold(path: Path, days: tuple[int, ...], progress: Callable[[int, int], None]) -> Shoppers:
    events = [line for chunk in read_events(path, "shoal") for line in chunk]
    events.sort(key=lambda line: line.timestamp)
    start = events[0].timestamp // HOUR * HOUR
    log, core = _Log(events), _Core()
    parts, at = [], 0
    for time in (start + day * DAY for day in sorted(days)):
        end = int(np.searchsorted(log.time, time, "right"))
        for a in range(at, end, FEED):
            core.feed(events[a : min(end, a + FEED)])
            progress(min(end, a + FEED), len(events))
        at = end
        parts.append(_as_of(core, log, time))
    core.feed(events[at:])
    progress(len(events), len(events))
    return Shoppers(*(np.concatenate(column) for column in zip(*parts, strict=True)), rows=core.rows())


def _as_of(core: _Core, log: _Log, time: int) -> tuple[np.ndarray, ...]:
    users = sorted(core.store.rows.keys() & log.number.keys())
    heads, sums = feature_table.window_sums([core.store.rows[user] for user in users], time)
    number = np.array([log.number[user] for user in users])
    windows = sums[:, :, VOCABULARY.columns(VOCABULARY.published)].reshape(len(users), -1)
    raw = features.raw(sums, heads["hours"].astype(np.int64))
    came = [one[number] for one in log.after(time)]
    return np.full(len(users), time), number, raw, windows, heads["last"].astype(np.int64), *came


class _Core:
    """A worker's task over one partition, in memory."""

    def __init__(self) -> None:
        settings = load(environ={}, **{"topics.partitions": 1})
        self.store = MemoryStore()
        self._names = settings.source_topics
        schema = schema_of(settings.sources[0], settings)

        self._task = PartitionProcessor(
            partition_config(settings, 0), decoder(schema), self.store, TOPICS, accept_rejects=True
        )
        self._records: list[tuple[bytes, bytes]] = []

    def feed(self, events: list[FileRecord]) -> None:
        for bought, topic in zip((False, True), self._names, strict=True):
            chosen = [line for line in events if line.bought == bought]
            if chosen:
                first = self._task.queued_ends()[topic]
                self._task.add(
                    RecordBatch(
                        topic,
                        0,
                        first,
                        first + len(chosen) - 1,
                        list(range(first, first + len(chosen))),
                        [line.key for line in chosen],
                        [line.value for line in chosen],
                        [line.timestamp for line in chosen],
                    )
                )
        self._task.run(0, dict(self._task.queued_ends()))
        while self._task.progress.sweeping or self._task.progress.swept < self._task.progress.watermark:
            self._task.sweep(FEED)  # first days end also of those who never come back
        flush = self._task.cut(0)
        if flush is not None:
            found = flush.outputs.get((TOPICS.training, 0), [])
            self._records += [(key, value) for key, value, _ in found]

    def rows(self) -> TrainingRows:
        """Training rows, in log order."""
        width = 2 * features.R + len(features.PLAIN)
        keys, values = ([record[i] for record in self._records] for i in (0, 1))
        return training_records.decode(keys, values, range(len(keys)), training_records.layout(features.NAMES), width)


class _Log:
    """The events as they stand in the file, by time: what came of whom."""

    def __init__(self, events: list[FileRecord]) -> None:
        self.time = np.array([line.timestamp for line in events])
        decode = msgspec.json.Decoder(dict).decode
        told = [decode(line.value) for line in events]
        self.number = {user: i for i, user in enumerate(dict.fromkeys(line.key for line in events))}
        self._user = np.array([self.number[line.key] for line in events])
        kinds = np.array([str(one.get("event_type")) for one in told])
        self._bought, self._carted = kinds == "purchase", kinds == "add_to_cart"
        # an event without a session id is a session by itself
        names = [(line.key, one.get("session_id") or i) for i, (line, one) in enumerate(zip(events, told, strict=True))]
        numbers: dict[tuple[bytes, object], int] = {}
        self._session = np.array([numbers.setdefault(name, len(numbers)) for name in names])
        self._begun = np.full(len(numbers), NEVER)
        np.minimum.at(self._begun, self._session, self.time)
        self._owner = np.zeros(len(numbers), np.int64)
        self._owner[self._session] = self._user
        self._filled = np.zeros(len(numbers), bool)  # sessions with a cart
        self._filled[self._session[self._carted]] = True

    def after(self, time: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each user: bought, returned, carted, as Shoppers has them."""
        size = len(self.number)
        coming = (self.time > time) & (self.time <= time + HORIZON)
        bought, returned, carted = (np.zeros(size, bool) for _ in range(3))
        bought[self._user[coming & self._bought]] = True
        opened = np.flatnonzero((self._begun > time) & (self._begun <= time + HORIZON))
        opened = opened[np.argsort(self._begun[opened], kind="stable")[::-1]]
        first = np.full(size, -1)
        first[self._owner[opened]] = opened  # the earliest is written last
        returned[first >= 0] = True
        carted[returned] = self._filled[first[returned]]
        return bought, returned, carted
