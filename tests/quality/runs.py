"""The pieces of work behind the table: one contender on one seed each. What it said is kept, named by the code that it
comes from; what that is worth is worked out anew."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import adjusted_rand_score

from tests.quality import contenders, lineages, measures, planted, played, worker
from tests.quality.fed import Fed
from tests.quality.measures import Labels
from tests.quality.planted import DAY, Planted
from tests.quality.played import CACHE, ROOT, Data

SHOAL = "shoal"
SEEDS = (7, 1_007, 2_007)  # of the algorithm: the default, and two far off, for starts count on from a seed
PRICES = 4.0
RETRAINS: dict[str, Any] = {"every": 1.5 * 86_400, "every_rows": 10_000}  # some twenty while the kinds change
_OURS = (
    "online_models/**/*.py",
    "streams/processing/outputs/segment_changes.py",
    "streams/services/learner.py",
    "streams/config/settings.py",
    "tests/quality/worker.py",
)
_THEIRS = (
    "online_models/clustering/scaler.py",
    "online_models/distances.py",
    "tests/quality/contenders.py",
    "tests/quality/fed.py",
)


class Run(NamedTuple):
    seed: int
    name: str  # a contender, and after a colon what is different
    users: int = 3_000
    days: int = 40

    @property
    def contender(self) -> str:
        return self.name.partition(":")[0]

    @property
    def variant(self) -> str:
        return self.name.partition(":")[2]

    @property
    def file(self) -> Path:
        patterns = (*played.CODE, *(_OURS if self.contender == SHOAL else _THEIRS))
        files = sorted({path for pattern in patterns for path in ROOT.glob(pattern)})
        text = b"".join(path.read_bytes() for path in files) + repr(tuple(self)).encode()
        name = self.name.replace(":", "-").replace(" ", "-").replace("'", "")
        return CACHE / "runs" / f"{name}-{self.seed}-{hashlib.sha256(text).hexdigest()[:12]}.npz"


def wanted(seeds: list[int], users: int, days: int, only: list[str]) -> list[Run]:
    """shoal alone, with other prices, with other seeds of the algorithm, with other kinds; then the others."""
    ours = [SHOAL, f"{SHOAL}:prices", *(f"{SHOAL}:seed {seed}" for seed in SEEDS[1:]), f"{SHOAL}:lineage"]
    whole = [*ours, *names()[1:], f"{names()[1]}:prices"]
    return [
        Run(seed, name, users, days)
        for seed in seeds
        for name in whole
        if not only or any(name == one or name.startswith(one + ":") for one in only)
    ]


def names() -> list[str]:
    """The contenders."""
    return [SHOAL, *(entry.name for entry in contenders.ENTRIES)]


def stream(run: Run) -> Planted:
    if run.variant == "lineage":
        return planted.changing(run.seed, run.users, round(run.days * 1.15))
    return planted.shop(run.seed, run.users, run.days, PRICES if run.variant == "prices" else 1.0)


def data(run: Run) -> Data:
    variant = "prices" if run.variant == "prices" else "shop"
    return played.data(stream(run), f"{variant}-{run.seed}-{run.users}-{run.days}")


def carry_out(run: Run) -> Run:
    """Do the work of a run, unless the same code has done it."""
    if run.file.exists():
        return run
    run.file.parent.mkdir(parents=True, exist_ok=True)
    part = run.file.with_suffix(".part.npz")
    began = time.process_time()
    if run.contender == SHOAL:
        chosen: dict[str, Any] = RETRAINS if run.variant == "lineage" else {}
        if run.variant.startswith("seed "):
            chosen = {"seed": int(run.variant.removeprefix("seed "))}
        worker.save(worker.live(stream(run), played.deployment(**chosen)), part)
    else:
        entry = next(one for one in contenders.ENTRIES if one.name == run.contender)
        fed = Fed.of(data(run))
        began = time.process_time()
        labels = contenders.ride(fed, entry.make(run.seed))
        spent = (time.process_time() - began) * 1e6 / max(1, len(fed.learned))
        assert labels.again is not None
        assert labels.before is not None
        np.savez_compressed(
            part,
            now=labels.now.astype(np.int32),
            again=labels.again.astype(np.int32),
            before=labels.before.astype(np.int32),
            us_a_row=spent,
        )
    part.rename(run.file)
    return run


def figures(run: Run) -> dict[str, Any]:
    """What came of a run that was carried out."""
    if run.variant == "lineage":
        seen = worker.load(run.file)
        return asdict(lineages.score(stream(run), seen)) | {"versions": len(seen.versions)}
    given = data(run)
    if run.contender != SHOAL:
        with np.load(run.file, allow_pickle=False) as kept:
            labels = Labels(*(kept[name].astype(np.int64) for name in ("now", "again", "before")))
            return measures.measures(given, labels) | {"us_a_row": float(kept["us_a_row"])}
    seen = worker.load(run.file)
    labels = Labels(np.stack(seen.segments))
    steady = measures.steady(given)
    moved = np.array(seen.remodelled)
    daily = [
        float(((moved[i] + moved[i - 1]) > 0)[given.active(i)].mean()) for i in np.flatnonzero(steady).tolist() if i
    ]
    calm = [swap for swap in seen.swaps if swap.idle and (np.abs(given.times[steady] - swap.time) < DAY / 2).any()]
    idle = [swap.idle_moved / swap.idle for swap in calm]
    return measures.measures(given, labels) | {
        "churn_day": float(np.mean(daily)),
        "churn_day_worst": float(np.max(daily)),
        "churn_idle": float(np.mean(idle)) if idle else 0.0,
        "churn_idle_worst": float(np.max(idle, initial=0.0)),
        "versions": len(seen.versions),
        "index": [None if np.isnan(x) else round(float(x), 4) for x in measures.index(given, labels.now)],
        "sizes": [len(np.unique(one[one >= 0])) for one in seen.segments],
    }


def agreement(runs: list[Run]) -> dict[str, float]:
    """How alike the last partitions of people are from run to run: adjusted Rand index of pairs, mean and least."""
    given = data(runs[0])
    active = given.active(-1)
    last = [worker.load(run.file).segments[-1] for run in runs]
    found = [adjusted_rand_score(a[active], b[active]) for a, b in combinations(last, 2)]
    return {"agreement": float(np.mean(found)), "agreement_least": float(np.min(found))}


def first_of_each_stream(todo: list[Run]) -> list[Run]:
    """A run for each stream whose rows and features others share."""
    return list({(run.seed, run.variant == "prices"): run for run in todo if run.variant in ("", "prices")}.values())


def prepare(run: Run) -> None:
    """Fill the cache of a run's stream."""
    data(run)
