"""The state table: Faust's recovery over our own stores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import faust
from faust.types import TP

from streams.crash import fail

if TYPE_CHECKING:
    from streams.worker import Worker


class RowTable(faust.Table):
    """Changelog records go into the partitions' stores in batches; owners start before recovery measures it."""

    worker: Worker

    def persisted_offset(self, tp: TP) -> int | None:
        part = self.worker.partitions.get(tp.partition)
        offset = None if part is None else part.store.offset()
        return None if offset is None else offset - 1

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        for event in batch:
            try:
                self.worker.recover(event.value)
            except Exception as error:
                fail(error)  # Faust would log it and go on

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        actives = self.app.assignor.assigned_actives()
        await self.worker.own({tp.partition for tp in actives if tp.topic == self.changelog_topic_name})
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        await self.worker.begin()
        await super().on_recovery_completed(active_tps, standby_tps)
