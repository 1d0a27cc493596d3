"""Searches for better settings of the learner on the existing training rows, for `shoal tune`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from online_models.evaluation.search import Judge, Trial, best, candidates, changes, replay
from online_models.outcomes import outcomes
from online_models.training_rows import USER, TrainingRows, join
from state import features
from streams.config.settings import Settings
from streams.errors import DataError
from streams.kafka import training_log
from streams.kafka.training_log import WIDTH
from streams.processing.outputs import training_records
from streams.services.learner import params

ReportProgress = Callable[[int, float], None]  # number of the trial from 0, and the share of it that is done


class TuneResult(msgspec.Struct, frozen=True):
    trials: list[Trial]  # the first one has the settings in force
    best: Trial
    rows: int  # training rows learned from
    scored: int  # training rows that the trials are compared on
    events: dict[str, list[int]]  # outcome -> number of events in the earlier and in the later part of the rows
    seconds: float
    ended: str  # what ended the search: "trials", "time"

    @property
    def advice(self) -> str:
        """The conclusion in words."""
        if not self.best.changes:
            return "no candidate is better than the settings in force: keep them"
        gain = f"share of the log-loss saved on rows that were not used for the choice: {self.best.later.gain}"
        verdict = "better than the settings in force" if self.best.better else "not clearly better"
        return f"{verdict}; {gain}"

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON types, with the advice and the settings as TOML."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields | {"advice": self.advice, "clearly_better": self.best.better, "toml": toml(self.best.changes)}


async def read_rows(settings: Settings) -> TrainingRows:
    """All training rows of the topic. DataError where there are none."""
    rows = join([chunk.rows() async for chunk in training_log.read(settings)])
    if not len(rows):
        raise DataError("there are no training rows yet")
    return rows


def save(path: Path, rows: TrainingRows) -> None:
    """Write training rows to a file that load() reads. DataError where that fails."""
    columns = {name: getattr(rows, name) for name in TrainingRows.__slots__}
    columns["user"] = rows.user.view(np.uint8).reshape(-1, USER.itemsize)
    try:
        with path.open("wb") as file:
            np.savez_compressed(file, layout=np.uint32(training_records.layout(features.NAMES)), **columns)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def load(path: Path) -> TrainingRows:
    """Read training rows from a file of save().

    DataError where it is not such a file, or has other features than this version.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if int(arrays["layout"]) != training_records.layout(features.NAMES):
                raise DataError(f"{path}: rows of other features than this version's")
            columns = {name: arrays[name] for name in TrainingRows.__slots__}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or 'not a file of training rows'}") from None
    except (ValueError, KeyError, TypeError, EOFError):
        raise DataError(f"{path}: not a file of training rows") from None
    count = len(columns["offset"])
    if columns["user"].shape != (count, USER.itemsize) or columns["raw"].shape != (count, WIDTH) or not count:
        raise DataError(f"{path}: not a file of training rows")
    columns["user"] = np.ascontiguousarray(columns["user"]).view(USER).reshape(-1)
    return TrainingRows(**columns)


def tune(
    settings: Settings,
    rows: TrainingRows,
    *,
    trials: int,
    seconds: float,
    seed: int = 0,
    report: ReportProgress = lambda number, share: None,
) -> TuneResult:
    """Try settings on the rows: at most `trials` of them, and no longer than about `seconds`.

    The settings in force come first, and are tried even if that takes longer. DataError where there are too few
    outcomes to compare settings by.
    """
    began = time.monotonic()
    base = params(settings)
    row_outcomes = outcomes(rows)
    judge: Judge | None = None
    finished: list[Trial] = []
    ended = "trials"
    for number, candidate in enumerate(candidates(base, trials, seed)):

        def may_continue(rows_done: int, row_count: int, number: int = number) -> bool:
            report(number, rows_done / row_count)
            return number == 0 or time.monotonic() - began < seconds

        replayed = replay(candidate, rows, may_continue)
        if replayed is None:
            ended = "time"
            break
        if judge is None:
            judge = Judge(rows, row_outcomes, replayed, seed=seed)
            if judge.lacks:
                raise DataError(judge.lacks)
        finished.append(judge.trial(changes(base, candidate), replayed))
    assert judge is not None
    scored = sum(len(span) for span in judge.spans)
    elapsed = time.monotonic() - began
    return TuneResult(finished, best(finished), len(row_outcomes.at), scored, judge.events, elapsed, ended)


def toml(changes: dict[str, Any]) -> str:
    """Changed settings as lines for shoal.toml; empty where nothing changes."""
    lines = [f"{name} = {value!r}" for name, value in changes.items()]
    return "\n".join(["[learner]", *lines]) if lines else ""
