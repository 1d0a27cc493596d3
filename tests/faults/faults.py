"""The faults, one function each. What a function leaves running is brought to its end, and verified, by the caller."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from streams.errors import LossError, RecoveryError, StateError
from streams.processing import progress
from streams.processing.partitioner import partitions_of
from streams.processing.progress import PROGRESS_KEY
from tests.faults.disk import fill, mount, small_files, unmount
from tests.faults.evidence import gather
from tests.faults.runner import Run
from tests.support.events.rejects import odd
from tests.support.events.rejects import poison as bad_records
from tests.support.events.squeezed_month import Sent, Shape


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
    for share in (0.2, 0.6):
        run.reach(share)
        run.fault()
        run.kill("a")
        run.recover()


def _killed(run: Run, point: str, hits: tuple[int, ...]) -> None:
    """Kill at a failpoint; the one that follows gets the next, if there is one. On a machine that is slow enough the
    first one has applied the whole stream, and the next has no occasion for its failpoint: it is killed where it is."""
    run.begin(failpoint=f"{point}:{hits[0]}:kill")

    def died_or_idle() -> bool:
        done = run.sender is not None and run.sender.done() and run.follower.applied() >= len(run.records)
        return run.workers["a"].process.poll() is not None or (done and run.ready("a"))

    for i, _ in enumerate(hits):
        one = run.workers["a"].process
        if i == 0:
            run.wait(lambda one=one: one.poll() is not None, f"the failpoint {point}", tend=False)  # type: ignore[misc]
        else:
            run.wait(died_or_idle, f"the failpoint {point}", tend=False)
            one.kill()
            one.wait(60)
        assert one.returncode == -signal.SIGKILL
        run.codes.append(one.returncode)
        run.fault()
        run.start("a", failpoint=f"{point}:{hits[i + 1]}:kill" if i + 1 < len(hits) else None)
        if i + 1 == len(hits):
            run.recover()


@fault()
def kill_in_transaction(run: Run) -> None:
    _killed(run, "in_transaction", (20, 2))


@fault()
def kill_before_rocksdb(run: Run) -> None:
    """Between the commit and the write to RocksDB."""
    _killed(run, "after_commit", (15, 2))


@fault()
def kill_before_ack(run: Run) -> None:
    """Between the write to RocksDB and the ack."""
    _killed(run, "after_written", (15, 2))


@fault()
def kill_in_pass(run: Run) -> None:
    """In the middle of the pass after a swap: a few turns of it are committed, the others are not."""
    _killed(run, "in_pass", (6, 3))


@fault()
def kill_in_sweep(run: Run) -> None:
    _killed(run, "in_sweep", (12, 3))


# -- owners ----------------------------------------------------------------------------------------------------------


@fault()
def wiped(run: Run) -> None:
    """The disk is empty, and the log has more than a fetch."""
    run.begin()
    run.reach(0.4)
    run.fault()
    run.end("a", signal.SIGKILL)
    shutil.rmtree(run.home / "a" / "state")
    run.wait(lambda: run.sender is not None and run.sender.sent > 0.9 * len(run.records), "a backlog")
    run.start("a")
    run.recover()


@fault(rate=600.0, shape=Shape(events=20_000), **{"topics.partitions": 4})
def join_leave(run: Run) -> None:
    """Two workers; a third joins and leaves five times, in every way there is."""
    run.begin("a", "b")
    run.reach(0.05)
    for i in range(5):
        run.start("c")
        run.wait(lambda: run.ready("c"), "the third worker")
        run.fault()
        run.end("c", signal.SIGKILL if i % 2 else signal.SIGTERM)
        run.recover()


CHURNED = {"topics.partitions": 4, "state.session_timeout": 6.0, "state.rebalance_timeout": 6.0}


@fault(rate=700.0, shape=Shape(events=84_000), **CHURNED)
def churn(run: Run) -> None:
    """Two minutes in which workers join, leave, are killed and lose their disks, every two to eight seconds."""
    rng = random.Random(run.seed)
    names = ("a", "b", "c")
    run.begin(*names)
    until = time.monotonic() + 120.0
    while time.monotonic() < until:
        run.pause(rng.uniform(2.0, 8.0))
        name, action = rng.choice(names), rng.choice(("leave", "kill", "kill", "wipe", "join"))
        if action == "join":
            run.start("guest")
            run.pause(rng.uniform(2.0, 8.0))
            run.end("guest", rng.choice((signal.SIGTERM, signal.SIGKILL)))
        else:
            run.end(name, signal.SIGTERM if action == "leave" else signal.SIGKILL)
            if action == "wipe":
                shutil.rmtree(run.home / name / "state", ignore_errors=True)
            run.pause(rng.choice((0.0, 0.0, 4.0)))
            run.start(name)
    run.fault()
    run.recover(180.0)
    _only_ended_from_outside(run)


def _only_ended_from_outside(run: Run) -> None:
    """No worker has ended because others come and go. SIGTERM ends one that has not read its command line yet."""
    assert set(run.codes) <= {0, -signal.SIGKILL, -signal.SIGTERM}, run.codes


def _kill_and_start(run: Run) -> None:
    """Five minutes: one of three workers is killed, and within a second it is started again with its old disk and
    another one with it, whose disk is thousands of changelog records old: two rebalances follow each other at once."""
    rng = random.Random(run.seed)
    away, there = "d", ["a", "b", "c"]
    run.begin(*there)
    until = time.monotonic() + 300.0
    while time.monotonic() < until:
        run.pause(rng.uniform(8.0, 16.0))
        killed, leaves = rng.sample(there, 2)
        run.end(killed, signal.SIGKILL)
        run.start(killed)
        run.pause(rng.uniform(0.0, 0.9))
        run.start(away)
        run.pause(run.settings.state.session_timeout + rng.uniform(2.0, 6.0))
        run.end(leaves, rng.choice((signal.SIGTERM, signal.SIGKILL)))
        there = [name for name in there if name != leaves] + [away]
        away = leaves
    run.fault()
    run.recover(180.0)
    _only_ended_from_outside(run)


for _session in (10.0, 15.0, 30.0):
    _play = partial(_kill_and_start)
    _play.__name__ = f"kill_and_start_{_session:.0f}"  # type: ignore[attr-defined]
    fault(
        rate=700.0,
        shape=Shape(events=210_000, users=4_000),
        patience=300.0,
        **{"topics.partitions": 4, "state.session_timeout": _session},
    )(_play)


def _frozen(run: Run, point: str) -> None:
    """It stops itself at a failpoint; another takes over; thawed, it must bring nothing of what it held."""
    run.begin(failpoint=f"{point}:20:stop")
    run.wait(lambda: run.stopped("a"), f"the failpoint {point}")
    run.fault()
    run.start("b")
    run.wait(lambda: run.ready("b") and run.follower.applied() >= run.target, "the other to take over")
    run.seconds = run.since()
    frozen = run.workers["a"].process
    frozen.send_signal(signal.SIGCONT)
    run.wait(lambda: run.died("a", frozen.pid) or run.ready("a"), "the thawed one to end or to be a member again")


@fault()
def frozen_in_transaction(run: Run) -> None:
    _frozen(run, "in_transaction")


@fault()
def frozen_outside(run: Run) -> None:
    _frozen(run, "before_cut")


# -- the broker ------------------------------------------------------------------------------------------------------


@fault(own=True)
def broker_frozen(run: Run) -> None:
    run.begin()
    run.reach(0.3)
    run.fault()
    run.signal_broker(signal.SIGSTOP)
    run.pause(20.0)
    run.signal_broker(signal.SIGCONT)
    run.recover()


@fault(own=True)
def broker_killed(run: Run) -> None:
    """And started again with its data."""
    run.begin()
    run.reach(0.3)
    run.fault()
    run.signal_broker(signal.SIGKILL)
    run.pause(2.0)
    run.restart_broker()
    run.recover()


@fault(own=True, shape=Shape(events=4_000))
def broker_gone(run: Run) -> None:
    """All data of the broker is gone: what the disk holds stands for more than the topics do. The worker refuses."""
    run.begin()
    run.wait(run.settled, "the end of the stream")
    run.end("a")
    run.signal_broker(signal.SIGKILL)
    run.pause(1.0)
    shutil.rmtree(run.home / "broker" / "kafka" / "logs")
    run.restart_broker()
    run.renew()
    for records in ([], run.records[:500]):  # empty topics, then topics that have begun anew
        run.put_all(records)
        run.fault()
        run.start("a")
        run.workers["a"].wanted = False
        process = run.workers["a"].process
        run.wait(lambda process=process: process.poll() is not None, "the refusal", 60.0)  # type: ignore[misc]
        run.codes.append(process.returncode)
        run.seconds = run.since()
        assert process.returncode in (StateError.exit_code, LossError.exit_code), f"it ended with {process.returncode}"
        assert "shoal: error: " in run.log("a").splitlines()[-1]
    assert not run.committed(), "it has started from zero"
    run.over = True


# -- what cannot be written ------------------------------------------------------------------------------------------


def _unwritable(run: Run, topic: str) -> None:
    """Nothing passes what cannot be written down, whoever starts the worker again; after the repair all is right.

    The limit leaves room for what ends a transaction: without it no later one could begin."""
    run.begin()
    run.reach(0.2)
    run.fault()
    run.configure(topic, {"max.message.bytes": "150"})
    ends = len(run.codes)
    run.wait(lambda: len(run.codes) > ends + 1, "the worker to end twice")
    assert all(code not in (0, 1) and code > 0 for code in run.codes[ends:]), run.codes
    stands = {part: one.ordinal for part, one in run.follower.standing.items()}
    run.wait(lambda: len(run.codes) > ends + 3, "the worker to end again")
    now = {part: one.ordinal for part, one in run.follower.standing.items()}
    assert stands == now, "something passed"
    run.configure(topic, {"max.message.bytes": str(run.settings.topics.max_message_bytes)})
    run.recover()


@fault()
def dead_letters_unwritable(run: Run) -> None:
    _unwritable(run, run.settings.topic("dead_letters"))


@fault()
def changes_unwritable(run: Run) -> None:
    _unwritable(run, run.settings.topic("segment_changes"))


@fault()
def full_disk(run: Run) -> None:
    """The disk has no room for the next table of RocksDB: a small file system that something else fills, or, where none
    may be mounted, a limit on the size of the worker's files."""
    state = run.home / "a" / "state"
    state.mkdir(parents=True)
    mounted = mount(state, "24m")
    try:
        if mounted:
            run.begin()
            run.reach(0.1)
            fill(state / "ballast")
        else:
            run.begin(preexec_fn=small_files)
        run.fault()
        run.kill("a", signal.SIGTERM)  # it cannot write its tables, nor begin again
        run.wait(lambda: len(run.codes) > 2, "the worker to end again and again")
        assert all(code > 0 for code in run.codes[1:]), run.codes
        if mounted:
            (state / "ballast").unlink()
        else:
            run.workers["a"].more.clear()
            run.kill("a")
        run.recover()
        run.finish()
        run.over = True
    finally:
        if mounted:
            run.close()
            unmount(state)


# -- what is broken --------------------------------------------------------------------------------------------------


@fault()
def poison(run: Run) -> None:
    """Every bad record there is, in the middle of the stream; see tests/support/events/rejects.py."""
    middle = len(run.records) // 2
    stamp = run.records[middle].stamp
    corpus = bad_records("poisoned", stamp) | odd("odd", stamp)
    ahead = "a time ahead of the worker"  # whose clock is not the stream's
    corpus[ahead] = bad_records("poisoned", int(time.time() * 1000))[ahead]
    bad = [Sent(i % 2, one.key, one.value, one.stamp, one.reason) for i, one in enumerate(corpus.values())]
    run.records[middle:middle] = bad
    run.begin()
    run.reach(0.6)
    run.fault()
    run.kill("a")
    run.recover()


@fault()
def undecodable_changelog(run: Run) -> None:
    """A progress record, then a user's row, that nobody can read: recovery ends with a line that says so. What they
    stood for lies behind them, so accepting their loss loses nothing."""
    run.begin()
    run.wait(run.settled, "the end of the stream")
    run.end("a")
    shutil.rmtree(run.home / "a" / "state")
    evidence = gather(run.settings)
    user, row = next(iter(evidence.rows.items()))
    newest = evidence.progress[0][-1]
    good = progress.dumps(msgspec.structs.replace(newest, journal=[], number=newest.number + 1))
    place = int(partitions_of([user], run.settings.topics.partitions)[0])
    for key, partition, value in ((PROGRESS_KEY, 0, good), (user, place, row)):
        run.fault()
        run.put(run.settings.changelog, key, b"\xff no row \xff", partition)
        run.start("a")
        run.workers["a"].wanted = False
        process = run.workers["a"].process
        try:
            run.wait(lambda process=process: process.poll() is not None, "the end of recovery", 45.0)  # type: ignore[misc]
        finally:
            run.put(run.settings.changelog, key, value, partition)
        run.codes.append(process.returncode)
        assert process.returncode in (StateError.exit_code, RecoveryError.exit_code), process.returncode
        assert "shoal: error: " in run.log("a").splitlines()[-1]
        shutil.rmtree(run.home / "a" / "state", ignore_errors=True)
    run.start("a", "--accept-loss")
    run.recover()


@fault()
def flipped_byte(run: Run) -> None:
    """In a table of RocksDB: its checksum fails, that partition's rows are set aside and built anew."""
    run.begin()
    run.reach(0.5)
    run.end("a")
    tables = sorted((run.home / "a" / "state").glob("*/*.sst"), key=lambda path: -path.stat().st_size)
    assert tables, "no table was written"
    data = bytearray(tables[0].read_bytes())
    data[len(data) // 3] ^= 0x10
    tables[0].write_bytes(data)
    run.fault()
    run.start("a")
    run.recover()


# -- shapes of the stream --------------------------------------------------------------------------------------------


@fault(shape=Shape(events=8_000, users=600, hot=True), rate=800.0)
def hot_user(run: Run) -> None:
    """One user has half of all events."""
    run.begin()
    run.reach(0.4)
    run.fault()
    run.kill("a")
    run.recover()


@fault(shape=Shape(cold=1_000_000), rate=20_000.0, patience=900.0)
def million_users(run: Run) -> None:
    """A million who have come once lie in the store while it happens."""
    run.begin()
    run.reach(0.5)
    run.fault()
    run.kill("a")
    run.recover(600.0)
