"""`shoal tune`: the learner's settings, searched over on the training rows that there are."""

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
from streams import training, training_log
from streams.errors import DataError
from streams.learner import params
from streams.settings import Settings
from streams.training_log import WIDTH

Step = Callable[[int, float], None]  # number of the trial from 0, share of it that is done


class Found(msgspec.Struct, frozen=True):
    trials: list[Trial]  # the first is of the settings in force
    best: Trial
    rows: int  # learned from
    scored: int  # judged by
    events: dict[str, list[int]]  # of each outcome, in the earlier and in the later part
    seconds: float
    ended: str  # why: "trials", "time"

    @property
    def advice(self) -> str:
        """In words."""
        chosen = self.best
        if not chosen.changes:
            return "no candidate is better than the settings in force: keep them"
        said = f"share of the log-loss saved on rows that had no say in the choice: {chosen.later.gain}"
        return f"better than the settings in force; {said}" if chosen.better else f"not clearly better; {said}"

    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found | {"advice": self.advice, "clearly_better": self.best.better, "toml": toml(self.best.changes)}


async def rows_of(settings: Settings) -> TrainingRows:
    """All rows of the topic. DataError where there is none."""
    parts = [chunk.rows() async for chunk in training_log.read(settings)]
    found = join(parts)
    if not len(found):
        raise DataError("there are no training rows yet")
    return found


def save(path: Path, rows: TrainingRows) -> None:
    """Rows as a file that load() takes."""
    columns = {name: getattr(rows, name) for name in TrainingRows.__slots__}
    columns["user"] = rows.user.view(np.uint8).reshape(-1, USER.itemsize)
    try:
        with path.open("wb") as file:
            np.savez_compressed(file, layout=np.uint32(training.layout(features.NAMES)), **columns)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def load(path: Path) -> TrainingRows:
    """Rows from a file; DataError where it is no such file, or of features of another layout."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            if int(kept["layout"]) != training.layout(features.NAMES):
                raise DataError(f"{path}: rows of other features than this version's")
            columns = {name: kept[name] for name in TrainingRows.__slots__}
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or 'no file of training rows'}") from None
    except (ValueError, KeyError, TypeError, EOFError):
        raise DataError(f"{path}: no file of training rows") from None
    n = len(columns["offset"])
    if columns["user"].shape != (n, USER.itemsize) or columns["raw"].shape != (n, WIDTH) or not n:
        raise DataError(f"{path}: no file of training rows")
    columns["user"] = np.ascontiguousarray(columns["user"]).view(USER).reshape(-1)
    return TrainingRows(**columns)


def tune(
    settings: Settings,
    rows: TrainingRows,
    *,
    trials: int,
    seconds: float,
    seed: int = 0,
    step: Step = lambda i, share: None,
) -> Found:
    """Try settings on rows, at most so many and about so long. DataError where there is too little to judge by."""
    began = time.monotonic()
    base = params(settings)
    came = outcomes(rows)
    judge: Judge | None = None
    done: list[Trial] = []
    ended = "trials"
    for i, one in enumerate(candidates(base, trials, seed)):

        def look(rows_done: int, of: int, i: int = i) -> bool:
            step(i, rows_done / of)
            return i == 0 or time.monotonic() - began < seconds  # what there is to compare with is always played

        played = replay(one, rows, look)
        if played is None:
            ended = "time"
            break
        if judge is None:
            judge = Judge(rows, came, played, seed=seed)
            if judge.lacks:
                raise DataError(judge.lacks)
        done.append(judge.trial(changes(base, one), played))
    assert judge is not None
    scored = sum(map(len, judge.spans))
    return Found(done, best(done), len(came.at), scored, judge.events, time.monotonic() - began, ended)


def toml(changes: dict[str, Any]) -> str:
    """Lines to paste into shoal.toml; nothing where nothing changes."""
    lines = [f"{name} = {value!r}" for name, value in changes.items()]
    return "\n".join(["[learner]", *lines]) if lines else ""


