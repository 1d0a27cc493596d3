"""The table, and the thresholds that it is held against."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from tests.quality import contenders
from tests.quality.runs import PRICES, SHOAL

Found = dict[int, dict[str, dict[str, Any]]]  # by seed and name of the run
REFERENCE = contenders.ENTRIES[0].name
NOT_ONLINE = (REFERENCE, contenders.ENTRIES[1].name)


class Verdict(NamedTuple):
    what: str
    kept: bool
    value: str
    wanted: str


def table(found: Found) -> Table:
    """A line a contender: mean over the seeds, and the worst one."""
    out = Table(title=f"{len(found)} seeds: {', '.join(map(str, found))}; mean (worst)")
    out.add_column("method")
    for name in (
        "index at the end",
        "of batch",
        "while things change",
        "of batch",
        "new kind, days",
        "switchers right",
        "churn a day",
        "churn of idle",
        "µs a row",
    ):
        out.add_column(name, justify="right")
    out.add_column("what it gets")
    names = [name for seed in found.values() for name in seed if ":" not in name]
    notes = {entry.name: entry.note for entry in contenders.ENTRIES} | {SHOAL: "its own rows; ids as published"}
    for name in dict.fromkeys(names):
        share = 100.0
        out.add_row(
            name,
            _both(found, name, "end"),
            _ratio(found, name, "end"),
            _both(found, name, "prequential"),
            _ratio(found, name, "prequential"),
            _both(found, name, "found_after", worst=max, form="{:.1f}"),
            _both(found, name, "switchers", form="{:.0f}%", factor=share),
            _both(found, name, "churn_day", worst=max, form="{:.2f}%", factor=share),
            _both(found, name, "churn_idle", worst=max, form="{:.2f}%", factor=share),
            _both(found, name, "us_a_row", worst=max, form="{:.0f}"),
            notes.get(name, ""),
        )
    return out


def values(found: Found, name: str, key: str) -> list[float]:
    return [float(seed[name][key]) for seed in found.values() if name in seed and key in seed[name]]


def ratios(found: Found, name: str, key: str) -> list[float]:
    return [
        float(seed[name][key] / seed[REFERENCE][key]) for seed in found.values() if name in seed and REFERENCE in seed
    ]


def _both(
    found: Found,
    name: str,
    key: str,
    *,
    worst: Callable[[list[float]], float] = min,
    form: str = "{:.3f}",
    factor: float = 1.0,
) -> str:
    given = values(found, name, key)
    if not given:
        return ""
    return f"{form.format(factor * float(np.mean(given)))} ({form.format(factor * worst(given))})"


def _ratio(found: Found, name: str, key: str) -> str:
    given = ratios(found, name, key)
    return f"{np.mean(given):.2f} ({min(given):.2f})" if given else ""


def verdicts(found: Found) -> list[Verdict]:
    """What the runs that there are say of each threshold."""
    out: list[Verdict] = []

    def ask(
        what: str,
        given: list[float],
        least: float | None = None,
        most: float | None = None,
        of: Callable[[list[float]], float] = lambda v: float(np.mean(v)),
        form: str = "{:.3f}",
    ) -> None:
        if given:
            value = of(given)
            kept = not np.isnan(value) and (least is None or value >= least) and (most is None or value <= most)
            wanted = f">= {form.format(least)}" if least is not None else f"<= {form.format(most)}"
            out.append(Verdict(what, kept, form.format(value), wanted))

    ask("index at the end, of batch, mean", ratios(found, SHOAL, "end"), 0.95)
    ask("index at the end, of batch, worst seed", ratios(found, SHOAL, "end"), 0.88, of=min)
    ask("index while things change, of batch, mean", ratios(found, SHOAL, "prequential"), 0.88)
    for key, when in (("end", "at the end"), ("prequential", "while things change")):
        mine = values(found, SHOAL, key)
        for entry in contenders.ENTRIES:
            theirs = values(found, entry.name, key)
            if entry.name not in NOT_ONLINE and mine and theirs:
                better = float(np.mean(mine)) > float(np.mean(theirs))
                out.append(
                    Verdict(
                        f"better than {entry.name} {when}", better, f"{np.mean(mine):.3f}", f"> {np.mean(theirs):.3f}"
                    )
                )
    ask("churn a day of unchanged rows", values(found, SHOAL, "churn_day"), most=0.01, form="{:.4f}")
    ask("churn of idle users on a retrain", values(found, SHOAL, "churn_idle"), most=0.003, form="{:.5f}")
    ask("agreement from other seeds of the algorithm", values(found, SHOAL, "agreement"), 0.92)
    ask(
        "days until a new kind has its segment, median",
        values(found, SHOAL, "found_after"),
        most=3.0,
        of=lambda v: float(np.median(v)),
        form="{:.1f}",
    )
    ask(
        "days until a new kind has its segment, worst seed",
        values(found, SHOAL, "found_after"),
        most=3.0,
        of=max,
        form="{:.1f}",
    )
    ask("switchers right after 7 to 10 days", values(found, SHOAL, "switchers"), 0.5)
    priced = f"{SHOAL}:prices"
    cost = [
        a - b for a, b in zip(values(found, SHOAL, "last_quarter"), values(found, priced, "last_quarter"), strict=False)
    ]
    if len(cost) == len(values(found, priced, "last_quarter")):
        ask(f"index that prices x {PRICES:g} cost", cost, most=0.05)
    lineage = f"{SHOAL}:lineage"
    planted, named = sum(values(found, lineage, "planted")), sum(values(found, lineage, "named"))
    if planted:
        ask("changes of the set of kinds named", [named / planted], 0.9, form="{:.2f}")
    ask("lineage names invented over a run", values(found, lineage, "invented"), most=2.0, form="{:.1f}")
    return [verdict._replace(value="never") if not isfinite(_number(verdict.value)) else verdict for verdict in out]


def _number(text: str) -> float:
    return float(text)


def judgement(verdicts: list[Verdict]) -> Table:
    out = Table(title="thresholds")
    for name in ("", "what", "is", "wanted"):
        out.add_column(name)
    for verdict in verdicts:
        out.add_row("[green]kept[/]" if verdict.kept else "[red]missed[/]", verdict.what, verdict.value, verdict.wanted)
    return out
