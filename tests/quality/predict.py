"""`python -m tests.quality.predict FILE`: who buys within seven days, and whose next session has a cart, foretold from
segments and from what they have to be better than (area under the ROC curve, all shoppers as of several times)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from online_models.evaluation.bootstrap import DRAWS, interval
from online_models.outcomes import HORIZON
from tests.auc import Auc
from tests.bench.measure import progress, table_console, write
from tests.quality import predictors
from tests.quality.predictors import Predictor, Skipped
from tests.quality.shoppers import DAY, Shoppers, shoppers

WEEK = HORIZON // DAY
DAYS = (8, 11, 14, 17, 20, 23)
OUTCOMES = {"purchase": "a purchase within 7 days", "cart": "a cart in the next session"}
RIVALS = (predictors.RFM, predictors.WINDOWS)  # that the others are compared with, draw by draw


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--day", "days", type=click.IntRange(min=WEEK + 1), multiple=True, help="After the start; may be repeated."
)
@click.option("--k", "ks", type=click.IntRange(min=2), multiple=True, help="Also segments of so many; may be repeated.")
@click.option("--encoders", type=click.IntRange(min=0), default=0, help="Also so many encoders of other seeds.")
@click.option("--draws", type=click.IntRange(min=10), default=DRAWS, show_default=True, help="Of users, for intervals.")
@click.option("--seed", default=0, show_default=True, help="Of the draws.")
@click.option("--home", type=click.Path(path_type=Path), default=Path(".shoal/quality"), show_default=True)
@click.option("--fresh", is_flag=True, help="Fold the file again, though it was folded before.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(
    file: Path,
    days: tuple[int, ...],
    ks: tuple[int, ...],
    encoders: int,
    draws: int,
    seed: int,
    home: Path,
    fresh: bool,
    out: Path | None,
) -> None:
    """Foretell from FILE (in shoal's schema) as of several days, from what was known before each."""
    asked = tuple(sorted(set(days or DAYS)))
    told = tuple(sorted({*asked, *(day - WEEK for day in asked)}))
    began = time.monotonic()
    with progress() as bar:
        fold = bar.add_task("folding the file", total=None)
        data, start = shoppers(file, told, home, fresh, lambda done, size: bar.update(fold, completed=done, total=size))
        bar.update(fold, total=1, completed=1)
        makers = predictors.contenders(data, ks, encoders)
        work = bar.add_task("foretelling", total=len(OUTCOMES) * len(makers))
        questions = [Field.of(data, [start + day * DAY for day in asked], outcome) for outcome in OUTCOMES]
        for name, make in makers.items():
            for one in questions:
                one.take(name, make)
                bar.advance(work)
        work = bar.add_task("drawing users", total=sum(len(one.scores) for one in questions))
        found = [one.compare(draws, seed, lambda: bar.advance(work)) for one in questions]
    console = table_console()
    for one, figures in zip(questions, found, strict=True):
        show(one, figures, console)
    for name, why in questions[0].skipped.items():
        console.print(f"left out: {name}: {why}")
    write(
        out,
        {
            "file": file.name,
            "days": asked,
            "draws": draws,
            "seed": seed,
            "skipped": questions[0].skipped,
            "seconds": round(time.monotonic() - began, 1),
            "outcomes": {
                one.outcome: {
                    "shoppers": len(one.lines),
                    "events": int(one.came.sum()),
                    "figures": msgspec.to_builtins(figures),
                }
                for one, figures in zip(questions, found, strict=True)
            },
        },
    )


@dataclass
class Field:
    """The shoppers whose outcome is foretold, and the scores that each predictor gives them."""

    outcome: str
    lines: np.ndarray  # (m,) as of the times asked for, by time
    known: dict[int, np.ndarray]  # lines whose outcome is known at each of these times
    data: Shoppers
    scores: dict[str, np.ndarray] = field(default_factory=dict)  # (m,) by predictor
    notes: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)  # why

    @classmethod
    def of(cls, data: Shoppers, times: list[int], outcome: str) -> Field:
        there = np.ones(len(data.time), bool) if outcome == "purchase" else data.returned
        known = {at: np.flatnonzero(there & (data.time + HORIZON <= at)) for at in times}
        return cls(outcome, np.flatnonzero(there & np.isin(data.time, times)), known, data)

    @property
    def came(self) -> np.ndarray:
        return (self.data.bought if self.outcome == "purchase" else self.data.carted)[self.lines]

    def take(self, name: str, make: Callable[[], Predictor]) -> None:
        """Let a new predictor score all lines, in the order of time."""
        whole = self.data.bought if self.outcome == "purchase" else self.data.carted
        times = self.data.time[self.lines]
        try:
            predictor = make()
            parts = [predictor.score(known, self.lines[times == at], whole) for at, known in self.known.items()]
        except Skipped as reason:
            self.skipped[name] = str(reason)
        else:
            self.scores[name] = np.concatenate(parts)
            self.notes[name] = getattr(predictor, "note", "")

    def compare(self, draws: int, seed: int, done: Callable[[], None]) -> dict[str, dict[str, Any]]:
        """Of each predictor its area, what it has over the rivals (paired draws), and its area at each time."""
        user = np.unique(self.data.user[self.lines], return_inverse=True)[1]
        time_of = self.data.time[self.lines]
        areas = {name: Auc(score, self.came, time_of) for name, score in self.scores.items()}
        drawn = {}
        for name, area in areas.items():
            drawn[name] = area.drawn(user, draws, seed)
            done()
        found = {}
        for name, area in areas.items():
            at_times = [Auc(self.scores[name][time_of == at], self.came[time_of == at]).value() for at in self.known]
            over = {
                rival: interval(area.value() - areas[rival].value(), drawn[name] - drawn[rival])
                for rival in RIVALS
                if rival in areas and rival != name
            }
            found[name] = {
                "auc": interval(area.value(), drawn[name]),
                "over": over,
                "by_time": at_times,
                "note": self.notes[name],
            }
        return found


def show(asked: Field, found: dict[str, dict[str, Any]], console: Console) -> None:
    size = f"{len(asked.lines):,} shoppers as of {len(asked.known)} times, {int(asked.came.sum()):,} with it"
    table = Table("", "AUC", *(f"over {one}" for one in RIVALS), "by time", title=f"{OUTCOMES[asked.outcome]}: {size}")
    for name, line in found.items():
        over = [str(line["over"].get(rival, "")) for rival in RIVALS]
        times = " ".join(f"{value:.2f}" for value in line["by_time"])
        table.add_row(f"{name}{line['note'] and ' (' + line['note'] + ')'}", str(line["auc"]), *over, times)
    console.print(table)


if __name__ == "__main__":
    main()
