"""A worker and a learner together over a planted stream: the segments as whoever reads them sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from online_models.learner.learner import Learner
from online_models.lineage import Lineage
from online_models.version import Version
from state import rows
from streams.config.settings import Settings
from streams.services import learner as service
from tests.quality.planted import DAY, HOUR, START, Ints, Planted
from tests.quality.played import EVERY, Core, Taught, taught

STEP = 3 * HOUR  # of event time, between two flushes
IDLE = DAY  # without an event: idle


class Swap(NamedTuple):
    """One change of version: how many of those who were quiet, and of all, it moved to another segment."""

    time: int  # ms
    number: int
    idle: int
    idle_moved: int
    active: int  # with an event in the seven days before
    active_moved: int


@dataclass(slots=True)
class Seen:
    """What a worker's reader saw, each EVERY: t times."""

    times: list[int] = field(default_factory=list)  # ms
    segments: list[Ints] = field(default_factory=list)  # (users,) each, -1 none
    versions: list[tuple[int, list[Lineage]]] = field(default_factory=list)  # ms when each came, what it says
    swaps: list[Swap] = field(default_factory=list)
    remodelled: list[Ints] = field(default_factory=list)  # (users,) changes of cause `model` in the EVERY before


def save(seen: Seen, path: Path) -> None:
    said = [[came, msgspec.to_builtins(lineage)] for came, lineage in seen.versions]
    np.savez_compressed(
        path,
        times=np.array(seen.times),
        segments=np.array(seen.segments, np.int32),
        remodelled=np.array(seen.remodelled, np.int32),
        swaps=np.array(seen.swaps, np.int64).reshape(-1, 6),
        versions=np.frombuffer(msgspec.json.encode(said), np.uint8),
    )


def load(path: Path) -> Seen:
    with np.load(path, allow_pickle=False) as kept:
        versions = msgspec.json.decode(kept["versions"].tobytes(), type=list[tuple[int, list[Lineage]]])
        return Seen(
            kept["times"].tolist(),
            list(kept["segments"].astype(np.int64)),
            versions,
            [Swap(*line) for line in kept["swaps"].tolist()],
            list(kept["remodelled"].astype(np.int64)),
        )


def teach(learner: Learner, rows_: Taught) -> list[Version]:
    """The one place that calls Learner.learn."""
    return learner.learn(rows_.rows)


def live(planted: Planted, chosen: Settings, progress: Callable[[float], None] = lambda _: None) -> Seen:
    """Each STEP the worker applies what has arrived, swaps to the newest version, re-judges, and sweeps; the learner
    learns from its rows."""
    core, offset, seen = Core(planted, chosen), 0, Seen()
    learner = Learner.start(service.params(chosen))
    remodelled = np.zeros(planted.users, np.int64)
    number = 0
    for now in range(START + STEP, planted.end + 1, STEP):
        core.feed(now)
        first = core.flush()  # swaps, too
        core.settle()
        second = core.flush()  # what the swap's pass and the sweep have said
        moved = np.array(
            [user for user, cause in zip(second.moved, second.causes, strict=True) if cause == "model"], np.int64
        )
        np.add.at(remodelled, moved, 1)
        if core.tasks[0].progress.version != number:
            number = core.tasks[0].progress.version
            seen.swaps.append(_swap(core, now, number, moved))
        rows_ = taught(planted, first.keys + second.keys, first.values + second.values, offset, chosen)
        for version in teach(learner, rows_):
            seen.versions.append((now, version.lineage))
            core.adopt(version)
        offset += len(first.keys) + len(second.keys)
        if (now - START) % EVERY == 0:
            seen.times.append(now)
            seen.segments.append(core.segments())
            seen.remodelled.append(remodelled)
            remodelled = np.zeros(planted.users, np.int64)
            progress((now - START) / (planted.end - START))
    return seen


def _swap(core: Core, now: int, number: int, moved: Ints) -> Swap:
    user, stored = core.rows()
    heads = rows.join(stored).heads
    had = (heads["segment"] != rows.UNASSIGNED) & (heads["last"] < now - STEP)
    hit = np.isin(user, moved)
    idle, active = had & (heads["last"] < now - IDLE), heads["last"] >= now - 7 * DAY
    return Swap(now, number, int(idle.sum()), int((idle & hit).sum()), int(active.sum()), int((active & hit).sum()))
