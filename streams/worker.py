"""The worker: the tasks of the partitions that it owns, between Faust's calls and the clock's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from faust.types import TP

from monitoring.metrics import Metrics
from online_models.version import Version
from state.store import ForeignStore, Meta, RowStore, block_cache
from streams import faust_app, heap
from streams.crash import fail
from streams.errors import LossError, RecoveryError, StateError
from streams.learner import LearnerService
from streams.models import Models
from streams.outbox import Topics
from streams.partition import Partition
from streams.publisher import Publisher
from streams.records import RecordBatch
from streams.rekeyer import Rekeyer
from streams.rules import forget_units, rule_of, schema_of
from streams.settings import Settings
from streams.task import Task
from streams.wire import shoal
from streams.wire.events import EventBatch

PASS_ROWS = 500  # users a turn of a sweep or of the pass after a swap: a few milliseconds between two batches
PASS_SHARE = 0.2  # of the time between two flushes that the pass may take
SWEEP_SHARE = 0.3  # and that the sweep may take: what it does not get to, the users' next events do
MODELS_WAIT = 60.0  # seconds for a version that a progress names to come from `models`
HOUSEKEEPING = 5.0  # seconds between two commits of the group's offsets, for whoever watches lag, and trims of the heap


class Worker:
    """One process's share of the partitions."""

    def __init__(self, settings: Settings, *, accept_rejects: bool = False, accept_loss: bool = False) -> None:
        self.settings = settings
        self._accept_rejects, self._accept_loss = accept_rejects, accept_loss
        self.partitions: dict[int, Partition] = {}
        self.ready = False
        self.metrics = Metrics()
        self.models = Models(settings, self._adopt)
        self.learner = LearnerService(settings, self.metrics.count)
        self.rekeyers = [
            Rekeyer(settings, source, self.metrics.count, accept_rejects=accept_rejects, accept_loss=accept_loss)
            for source in settings.rekeyed
        ]
        self._rekeying: list[asyncio.Future[None]] = []
        self._cache = block_cache(settings.state.block_cache_mb)
        self._schemas = [schema_of(source, settings) for source in settings.sources]
        self._topics = Topics(
            settings.topic("segment_changes"), settings.topic("segments"), settings.topic("alerts"),
            settings.topic("dead_letters"), settings.topic("training_rows"), settings.topic("commands_results"),
        )  # fmt: skip
        self._deadline: asyncio.TimerHandle | None = None
        self._works: list[asyncio.Future[None]] = []
        self.on_start: Callable[[], Awaitable[None]] | None = None  # before the first assignment: the page
        self.app = faust_app.build(self)

    # -- ownership ----------------------------------------------------------------------------------------------

    async def own(self, owned: set[int]) -> None:
        """After an assignment: all starts from RocksDB and the changelog, also where a partition stays.

        Starting the producers here, before recovery measures the changelog, aborts what a dead owner left open.
        """
        await self.guard(self._own(owned))

    async def _own(self, owned: set[int]) -> None:
        self.ready = False
        await self.release()
        self._await_recovery()
        state = self.settings.state
        for number in sorted(owned):
            meta = Meta(f"{self.settings.prefix}{self.settings.application}", number, self.settings.topics.partitions)
            try:
                store = RowStore(
                    Path(state.datadir) / str(number), meta, cache_rows=max(1000, state.cache_rows // len(owned)),
                    block_cache=self._cache, forget=forget_units(self.settings),
                )  # fmt: skip
            except ForeignStore as error:
                raise StateError(str(error)) from error
            self.partitions[number] = Partition(number, store, Publisher(self.settings, number), self.metrics)
        await asyncio.gather(*(part.start() for part in self.partitions.values()))

    def _await_recovery(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        seconds = self.settings.state.recovery_deadline

        def late() -> None:
            if not self.ready:
                fail(RecoveryError(f"state.recovery_deadline: recovery did not end within {seconds:g} s"))

        self._deadline = asyncio.get_running_loop().call_later(seconds, late)

    async def rest(self) -> None:
        """Before partitions go: flush, and begin nothing more; every assignment starts anew, also where one stays."""
        await self.flush()
        self.ready = False
        for part in self.partitions.values():
            part.task = None

    async def release(self) -> None:
        """Close what is owned; nothing of it is flushed."""
        parts = list(self.partitions.values())
        self.partitions = {}
        for part in parts:
            await part.close()

    async def begin(self) -> None:
        """Recovery is over: tasks start from their progress."""
        await self.guard(self._begin())

    async def _begin(self) -> None:
        owned = self.partitions
        for number, part in list(owned.items()):
            if self.partitions is not owned:  # assigned anew meanwhile: that recovery begins them
                return
            part.store.index()
            try:
                task = Task(
                    rule_of(self.settings, number), self._decode, part.store, self._topics,
                    commands=self.settings.topic("commands"), journal=self.settings.state.journal,
                    accept_rejects=self._accept_rejects, reject_window=self.settings.rejects.window,
                    reject_share=self.settings.rejects.share,
                )  # fmt: skip
            except ValueError as error:
                raise StateError(f"partition {number}: {error}") from error
            await self._check_start(number, task)
            if self.partitions is not owned:
                return
            for version in sorted(self.models.versions.values(), key=lambda v: v.number):
                task.adopt(version)
            part.task = task
        self.ready = True

    async def _check_start(self, number: int, task: Task) -> None:
        """LossError where a source's log begins after the progress, or ends before it."""
        tps = [TP(topic, number) for topic in task.positions()]
        for tp, end in (await self.app.consumer.highwaters(*tps)).items():
            at = task.positions()[tp.topic]
            if end is not None and at > end:
                if not self._accept_loss:
                    raise LossError(
                        f"{tp.topic}/{number} ends at {end}, the progress stands at {at}: the topic is another, or has "
                        "lost its end; --accept-loss goes on from its start"
                    )
                task.skip_to(tp.topic, 0)
        for tp, offset in (await self.app.consumer.earliest_offsets(*tps)).items():
            at = task.positions()[tp.topic]
            if at < offset:
                if not task.fresh and not self._accept_loss:
                    raise LossError(
                        f"{tp.topic}/{number} starts at {offset}, the progress stands at {at}: records between are "
                        "gone; --accept-loss goes on"
                    )
                task.skip_to(tp.topic, offset)

    def resume_at(self) -> dict[tuple[str, int], int]:
        """Where each source is to be read from. Faust asks more than once, and tasks may have records by then."""
        return {
            (topic, number): offset
            for number, part in self.partitions.items()
            if part.task is not None
            for topic, offset in part.task.queued_ends().items()
        }

    def _decode(self, batch: RecordBatch, source: int, key_before: int, now: int | None) -> EventBatch:
        return shoal.decode(batch, self._schemas[source], source=source, key_before=key_before, now=now)

    def _adopt(self, version: Version) -> None:
        for part in self.partitions.values():
            if part.task is not None:
                part.task.adopt(version)

    # -- the turn -----------------------------------------------------------------------------------------------

    async def take(self, batch: RecordBatch) -> None:
        """A fetch of a source: contiguous, or a leftover of an earlier assignment, or after a hole, which is read."""
        part = self.partitions.get(batch.partition)
        if part is None or part.task is None:
            return
        end = part.task.queued_ends()[batch.topic]
        if part.task.offer(batch):
            self.metrics.count({"batches": 1})
            self._turn(part)
        elif batch.last >= end:
            await self.app.consumer.read_again(batch.topic, batch.partition, found=batch.first, expected=end)

    def _turn(self, part: Partition) -> None:
        if part.task is None:
            return
        ends, number = self.app.consumer.ends(), part.number
        # a source whose re-keyer is behind is not at its end, whatever its topic holds
        ends |= {(rekeyer.topic, number): None for rekeyer in self.rekeyers if rekeyer.behind}
        part.task.run(int(time.time() * 1000), {topic: ends.get((topic, number)) for topic in part.task.rule.sources})
        held = {(topic, number) for topic in part.task.held()}
        self.app.consumer.held = {at for at in self.app.consumer.held if at[1] != number} | held

    async def flush(self) -> None:
        """Flush all partitions; a failure ends the process."""
        await self.guard(asyncio.gather(*(part.flush() for part in list(self.partitions.values()))))

    async def _tick(self) -> None:
        interval, told = self.settings.state.flush_interval, time.monotonic()
        while True:
            await asyncio.sleep(interval)
            for part in list(self.partitions.values()):
                self._turn(part)
                await asyncio.sleep(0)
            self._check_models()
            await self._in_turn(Task.sweep, time.monotonic() + SWEEP_SHARE * interval)
            await self._in_turn(Task.pass_on, time.monotonic() + PASS_SHARE * interval)
            await self.flush()
            self.metrics.count({f"seek:{topic}": seeks for topic, seeks in self.app.consumer.seeks.items()})
            self.app.consumer.seeks.clear()
            if time.monotonic() - told > HOUSEKEEPING:
                told = time.monotonic()
                acked = {(t, part.number): o for part in self.partitions.values() for t, o in part.acked.items()}
                await self.app.consumer.commit_positions(acked)
                await asyncio.to_thread(heap.trim)

    def _check_models(self) -> None:
        """StateError where a partition waits for a version that is not in `models`."""
        for number, part in self.partitions.items():
            wanted = part.task.needs() if part.task else 0
            if not wanted or wanted in self.models.versions:
                part.waits_since = None
            elif part.waits_since is None:
                part.waits_since = time.monotonic()
            elif time.monotonic() - part.waits_since > MODELS_WAIT:
                raise StateError(
                    f"partition {number} stands at model version {wanted}, which {self.settings.topic('models')} does "
                    "not hold"
                )

    async def _in_turn(self, work: Callable[[Task, int], int], until: float) -> None:
        """Go on with the partitions' sweeps or passes, in turn, for a bounded time."""
        while time.monotonic() < until:
            looked = [work(part.task, PASS_ROWS) for part in self.partitions.values() if part.task is not None]
            if not any(looked):
                break
            await asyncio.sleep(0)

    async def work(self) -> None:
        """What goes on beside the batches, from the first recovery on."""
        for coroutine in (self.models.run(), self.learner.run(), self._tick()):
            self._works.append(asyncio.ensure_future(self.guard(coroutine)))
        for rekeyer in self.rekeyers:
            self._works.append(asyncio.ensure_future(self.guard(rekeyer.watch())))
            self._rekeying.append(asyncio.ensure_future(self.guard(rekeyer.run())))

    async def hand_over(self) -> None:
        """Before the end: whoever stands by re-keys at once, and not when the session is over."""
        for one in self._rekeying:
            one.cancel()
        await asyncio.gather(*self._rekeying, return_exceptions=True)

    async def guard(self, work: Awaitable[Any]) -> None:
        """A failure here ends the process: Faust cannot give back a single partition."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            fail(error)
