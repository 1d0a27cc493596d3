"""`python -m tests.bench.young FILE` or `--planted SEED`: where new users end, foretold by River's trees and others.

As a worker and a learner would: what a version says of a row when it comes is judged when the user's first day has
ended, and only then learned from. The other contenders see the same rows, each as the version of its first day's end
sees it, and are asked just before they learn it: they have it easier.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import numpy as np
from rich.table import Table
from river.forest import ARFClassifier

from online_models.learner.learner import Learner
from online_models.prediction import first_day_learner
from online_models.prediction.first_day_learner import FirstDayLearner, FirstDayParams
from online_models.prediction.hoeffding import Tree
from online_models.training_rows import TrainingRows
from streams.config.settings import load
from streams.offline.event_files import FileRecord
from streams.services.learner import params
from tests.bench.measure import progress, table_console, write
from tests.quality.planted import chunks, shop
from tests.taught import of_file, taught


class Asked(NamedTuple):
    """A row that was learned from: features, where the user stood, where it ended."""

    x: dict[int, float]
    segment: int
    label: int


class Watched(FirstDayLearner):
    """Keeps what it learns for the first time."""

    def _learn_example(self, one: Any) -> None:
        if not self.__dict__.get("again"):
            features = np.frombuffer(one.features, "<i2") / first_day_learner.FEATURE_UNITS
            self.__dict__.setdefault("asked", []).append(
                Asked(dict(enumerate(features.tolist())), one.segment, one.label)
            )
        super()._learn_example(one)

    def _learn_again(self, kept: list[Any]) -> None:
        self.__dict__["again"] = True
        super()._learn_again(kept)
        self.__dict__["again"] = False


class Each:
    """A model of its own for each segment that users stand in; `one`: the same for all."""

    def __init__(self, make: Callable[[], Any], *, one: bool = False) -> None:
        self._make, self._one, self._models = make, one, {}  # type: ignore[var-annotated]

    def right(self, asked: Asked) -> bool:
        model = self._models.setdefault(0 if self._one else asked.segment, self._make())
        chances = model.predict_proba_one(asked.x)
        found = max(chances, key=chances.get) if chances else asked.segment
        model.learn_one(asked.x, asked.label)
        return bool(found == asked.label)


def forest() -> ARFClassifier:
    return ARFClassifier(n_models=10, leaf_prediction="mc", grace_period=50, delta=0.01, seed=1)


def drive(rows: TrainingRows, **settings: float) -> tuple[Watched, float]:
    """The learner's versions and what they say of new users; the latter's processor seconds."""
    versions = Learner.start(params(load(environ={}, **{f"learner.{k}": v for k, v in settings.items()}))).learn(rows)
    one, start, spent, current = Watched(FirstDayParams()), 0, 0.0, None
    assert isinstance(one, Watched)
    for version in [*versions, None]:
        end = len(rows) if version is None else int(np.searchsorted(rows.offset, version.learned_to))
        began = time.process_time()
        if current is not None:
            one.learn(rows.take(slice(start, end)), current)
        if version is not None:
            one.publish(version)
            current = version
        spent += time.process_time() - began
        start = end
    return one, spent


def planted(seed: int) -> TrainingRows:
    events = (
        FileRecord(*line)
        for part in chunks(shop(seed))
        for line in zip(part.keys, part.values, part.times, part.bought, strict=True)
    )
    return taught(events)


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--planted", "seed", type=int, help="A planted shop instead of a file.")
@click.option("--timezone", default="UTC", show_default=True)
@click.option("--k", default=12, show_default=True, help="Segments.")
@click.option("--forests", is_flag=True, help="Adaptive random forests, too (slow).")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(file: Path | None, seed: int | None, timezone: str, k: int, forests: bool, out: Path | None) -> None:
    """Share of new users foretold right, and what it costs."""
    if (file is None) == (seed is None):
        raise click.UsageError("FILE or --planted")
    first_day_learner.FADE = 1 << 60  # figures of all, not of the newest
    rows = of_file(file, timezone) if file else planted(seed or 0)
    one, spent = drive(rows, k_least=k, k_most=k, first_rows=2_000, every=6 * 3_600)
    asked: list[Asked] = one.__dict__.get("asked", [])
    found: dict[str, Any] = {
        "figures": one.figures(),
        "cpu_seconds": spent,
        "learned": len(asked),
        "state_bytes": len(one.state()),
        "model_bytes": len(msgspec.msgpack.encode(one.model)),
    }
    contenders: dict[str, Callable[[Asked], bool]] = {
        "all stay": lambda row: row.segment == row.label,
        "adaptive tree, one": Each(Tree, one=True).right,
        "adaptive tree, one a segment": Each(Tree).right,
    }
    if forests:
        contenders["adaptive random forest, one"] = Each(forest, one=True).right
        contenders["adaptive random forest, one a segment"] = Each(forest).right
    table = Table("", "right", "second half", "us a row", title=f"{len(asked):,} rows of new users")
    seen: Counter[int] = Counter()
    majority = []
    for row in asked:
        majority.append(bool(seen) and seen.most_common(1)[0][0] == row.label)
        seen[row.label] += 1
    half = len(asked) // 2
    table.add_row("the majority", f"{np.mean(majority):.4f}", f"{np.mean(majority[half:]):.4f}", "")
    with progress() as bar:
        work = bar.add_task("contenders", total=len(contenders))
        for name, right in contenders.items():
            began = time.process_time()
            hits = [right(row) for row in asked]
            cost = (time.process_time() - began) / max(1, len(asked)) * 1e6
            found[name] = {"right": float(np.mean(hits)), "second_half": float(np.mean(hits[half:])), "us": cost}
            table.add_row(name, f"{np.mean(hits):.4f}", f"{np.mean(hits[half:]):.4f}", f"{cost:.0f}")
            bar.advance(work)
    console = table_console()
    console.print(table)
    for name, value in one.figures().items():
        console.print(f"as shipped: {name} {value:.4f}")
    sizes = f"state {found['state_bytes']:,} bytes, model {found['model_bytes']:,} bytes"
    console.print(f"{spent:.1f} CPU-seconds, {sizes}")
    write(out, found)


if __name__ == "__main__":
    main()
