"""`python -m tests.bench.propensity FILE`: who buys and who fills a cart, foretold as shipped.

Learned from the training rows of FILE in log order, a version each six hours of it. Judged are its own predictions
(when a row came, once its outcome was known), and all shoppers as of several times, whatever came later.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec
import numpy as np
from rich.table import Table

from online_models.prediction.propensity import OUTCOMES, is_away
from online_models.prediction.propensity import predict as predict_propensity
from online_models.prediction.propensity_learner import PropensityLearner, PropensityParams
from state import features
from tests.auc import Auc
from tests.bench.measure import progress, table_console, write
from tests.quality.shoppers import DAY, HOUR, shoppers
from tests.taught import of_file

DAYS = (8, 11, 14, 17, 20, 23)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--timezone", default="UTC", show_default=True)
@click.option("--home", type=click.Path(path_type=Path), default=Path(".shoal/quality"), show_default=True)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(file: Path, timezone: str, home: Path, out: Path | None) -> None:
    """Areas under the ROC curve, and what was told by what came."""
    with progress() as bar:
        fold = bar.add_task("folding the file", total=None)
        data, start = shoppers(file, DAYS, home, False, lambda done, size: bar.update(fold, completed=done, total=size))
    rows = of_file(file, timezone)
    one = PropensityLearner(PropensityParams(features.R))
    top, at, spent = np.maximum.accumulate(rows.now), 0, 0.0
    told: list[np.ndarray] = []
    for now in range(start + 6 * HOUR, start + DAYS[-1] * DAY + 1, 6 * HOUR):
        end, began = int(np.searchsorted(top, now)), time.process_time()
        one.learn(rows.take(slice(at, end)))
        model, at = one.publish(), end
        spent += time.process_time() - began
        if (now - start) % DAY == 0 and (now - start) // DAY in DAYS:
            here = data.time == now
            told.append(predict_propensity(model, data.raw[here], is_away(now, data.last[here])))
    one.learn(rows.take(slice(at, len(rows))))
    said = np.concatenate(told)
    table = Table("", "AUC", "told by came", "shoppers", "with it", title=f"all shoppers as of {len(DAYS)} times")
    found: dict[str, object] = {"figures": one.figures(), "cpu_seconds": spent}
    for i, (name, came, there) in enumerate(
        zip(OUTCOMES, (data.bought, data.carted), (np.ones(len(data.time), bool), data.returned), strict=True)
    ):
        known = there & ~np.isnan(said[:, i])
        area = Auc(said[known, i], came[known], data.time[known]).value()
        ratio = float(said[known, i].sum() / came[known].sum())
        found[name] = {"auc": area, "told_by_came": ratio}
        table.add_row(name, f"{area:.3f}", f"{ratio:.2f}", f"{known.sum():,}", f"{int(came[known].sum()):,}")
    console = table_console()
    console.print(table)
    for name, value in one.figures().items():
        console.print(f"{name} {value:.4f}")
    size = len(msgspec.msgpack.encode(one.model))
    console.print(f"{spent:.1f} CPU-seconds, state {len(one.state()):,} bytes, model {size:,} bytes")
    write(out, found)


if __name__ == "__main__":
    main()
