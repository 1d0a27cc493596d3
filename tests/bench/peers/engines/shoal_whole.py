"""`shoal worker` on the same events: all of its job, which is more than this one. Its records are others, so it takes
part in speed only."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.bench import worker
from tests.bench.measure import Figure
from tests.bench.peers import topics
from tests.bench.peers.engine import Engine, Run


class Whole(Engine):
    """The worker as `make bench` runs it."""

    def prepare(self) -> None:
        """It is the environment of the runner."""

    def speed(self, run: Run, total: int, patience: float) -> Figure:
        """All of the run's topic, whose name has the deployment's prefix before the first hyphen."""
        prefix, _, source = run.events.partition("-")
        sources = [{"name": source}]
        settings = worker.of_its_own(run.bootstrap, prefix, run.name, sources=sources, **worker.FEW_SWAPS)
        folder = Path(run.folder)
        try:
            return worker.measure(settings, folder, total, lambda _: None, patience)
        finally:
            topics.forget(run.bootstrap, f"{prefix}-{run.name}")
            shutil.copy(folder / "worker.log", folder.with_suffix(".log"))


ENGINE = Whole(
    name="shoal, its whole job",
    version="this commit",
    guarantee="exactly once",
    commit=0.25,
    note="`shoal worker`: four windows of ten measures, exits, segments, alerts, models; measured as in `make bench`",
    state_in_kafka=True,
    speed_only=True,
)
