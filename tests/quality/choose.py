"""Parameters of the other methods, chosen on the development seeds: `python -m tests.quality.choose [--seeds 2]`.

Each method gets a small grid; what does best (mean of the index at the end and while things change) belongs into
contenders.py. Done again whenever the features change.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from river import cluster

from tests.quality import contenders, measures, runs
from tests.quality.contenders import Contender, K, River, Spark, Started
from tests.quality.fed import Fed
from tests.quality.runs import Run


def grid() -> Iterator[tuple[str, str, Callable[[int], Contender]]]:
    """Method, parameters, what makes it."""
    centres, micro, asked = contenders.by_centres, contenders.by_micro_clusters, contenders.after_predict
    for half in (0.002, 0.005, 0.02, 0.05, 0.1):
        yield "River KMeans", f"halflife {half}", lambda s, h=half: River(Started(h, s), centres)
    for size, half in product((100, 500, 2_000), (0.1, 0.5)):
        yield (
            "STREAMKMeans",
            f"chunks of {size}, halflife {half}",
            lambda s, c=size, h=half: River(cluster.STREAMKMeans(c, K, halflife=h, sigma=1.0, seed=s), centres),
        )
    for half in (0.1, 0.4, 0.8):
        yield (
            "CluStream",
            f"halflife {half}",
            lambda s, h=half: River(
                cluster.CluStream(K, 100, time_window=1_250, time_gap=200, seed=s, halflife=h), micro, 8
            ),
        )
    for epsilon, mu in product((0.4, 0.6, 0.9, 1.5), (4.0, 10.0)):
        yield (
            "DenStream",
            f"epsilon {epsilon}, mu {mu}",
            lambda s, e=epsilon, m=mu: River(
                cluster.DenStream(0.01, beta=0.5, mu=m, epsilon=e, n_samples_init=500), asked
            ),
        )
    for threshold, shared in product((0.8, 1.1, 1.4), (0.05, 0.1, 0.3)):
        yield (
            "DBSTREAM",
            f"threshold {threshold}, shared {shared}",
            lambda s, t=threshold, x=shared: River(
                cluster.DBSTREAM(
                    t, fading_factor=0.001, cleanup_interval=200, intersection_factor=x, minimum_weight=3.0
                ),
                asked,
                8,
            ),
        )
    for half in (500.0, 2_000.0, 9_000.0):
        yield "Spark's rule", f"half-life {half:g} rows", lambda s, h=half: Spark(s, h)
    for size in (256, 1_024):
        yield "MiniBatchKMeans", f"{size} rows", lambda s, n=size: contenders.MiniBatch(s, n)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.quality.choose", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="a part of a method's name")
    chosen = parser.parse_args()
    given = [runs.data(Run(seed, contenders.ENTRIES[0].name)) for seed in range(1, chosen.seeds + 1)]
    fed = [Fed.of(data) for data in given]
    for name, what, make in grid():
        if chosen.only not in name:
            continue
        found = [measures.measures(one.data, contenders.ride(one, make(one.data.planted.seed))) for one in fed]
        end, changing = (np.mean([one[key] for one in found]) for key in ("end", "prequential"))
        print(f"{name:18} {what:36} end {end:.3f}  while things change {changing:.3f}", flush=True)


if __name__ == "__main__":
    main()
