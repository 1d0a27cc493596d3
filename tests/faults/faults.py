"""The faults, one function each. What a function leaves running is brought to its end, and verified, by the caller."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.generate import Shape
from tests.faults.runner import Run


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    play: Callable[[Run], None]
    own: bool = False  # has a broker of its own
    options: dict[str, Any] = field(default_factory=dict)  # of the run


FAULTS: dict[str, Fault] = {}


def fault(own: bool = False, **options: Any) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    def take(play: Callable[[Run], None]) -> Callable[[Run], None]:
        FAULTS[play.__name__] = Fault(play.__name__, play, own, options)
        return play

    return take


# -- ends of a worker ------------------------------------------------------------------------------------------------


@fault()
def sigterm(run: Run) -> None:
    run.begin()
    run.reach(0.3)
    run.fault()
    run.kill("a", signal.SIGTERM)
    assert run.workers["a"].process.returncode == 0
    run.recover()


@fault()
def sigkill(run: Run) -> None:
    run.begin()
    for share in (0.2, 0.45, 0.7):
        run.reach(share)
        run.fault()
        run.kill("a")
        run.recover()


def _killed(run: Run, point: str, hits: tuple[int, ...]) -> None:
    """Kill at a failpoint; the one that follows gets the next, if there is one."""
    run.begin(failpoint=f"{point}:{hits[0]}:kill")
    for i, _ in enumerate(hits):
        one = run.workers["a"].process
        run.wait(lambda one=one: one.poll() is not None, f"the failpoint {point}", tend=False)  # type: ignore[misc]
        assert one.returncode == -signal.SIGKILL
        run.codes.append(one.returncode)
        run.fault()
        run.start("a", failpoint=f"{point}:{hits[i + 1]}:kill" if i + 1 < len(hits) else None)
        if i + 1 == len(hits):
            run.recover()


@fault()
def kill_in_transaction(run: Run) -> None:
    _killed(run, "in_transaction", (30, 25, 40))


@fault()
def kill_before_rocksdb(run: Run) -> None:
    """Between the commit and the write to RocksDB."""
    _killed(run, "after_commit", (15, 10, 22))


@fault()
def kill_before_ack(run: Run) -> None:
    """Between the write to RocksDB and the ack."""
    _killed(run, "after_written", (15, 10, 22))
