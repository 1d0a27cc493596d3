"""`python -m tests.bench.memory`: what users cost a worker in memory, and on disk where its cache is bounded.

Every user comes twice (by default), four events each time, all users in one random order and then in another: the
second visit finds its row in the cache only where the cache holds all of them. Traffic is made and sent in pieces
while the worker reads, a bounded number of events ahead of it. A run that is interrupted goes on where it stood when
it is started again with the same options; memory is then that of the worker since, so a figure a user wants a run in
one go.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table

from streams.config.settings import Settings
from streams.embedded_kafka.broker import Broker
from tests.bench import traffic, worker
from tests.bench.measure import cpu_seconds, fresh, memory_mib, progress, table_console, write

PIECE = 25_000  # users a piece
AHEAD = 2_000_000  # events sent that the worker has not applied: what a broker's disk must hold beside the state
QUIET = 10.0  # seconds after the last commit before memory is read
SEED = 3


@dataclass(slots=True)
class Stand:
    """Where a run stands; what is kept between two starts."""

    users: int
    cache_rows: int
    visits: int  # of a user
    each: int  # events of a visit
    end: int  # ms, event time of the last event
    base_mib: float = 0.0  # the worker with no users
    pieces: int = 0  # sent
    starts: int = 0

    def save(self, path: Path) -> None:
        staged = path.with_suffix(".part")
        staged.write_text(json.dumps(asdict(self)))
        staged.replace(path)


@click.command()
@click.option("--users", type=click.IntRange(min=PIECE), default=1_000_000, show_default=True)
@click.option("--cache-rows", type=click.IntRange(min=1_000), help="Rows in the cache; by default more than users.")
@click.option("--visits", type=click.IntRange(min=1), default=2, show_default=True, help="Of a user.")
@click.option("--each", type=click.IntRange(min=1), default=4, show_default=True, help="Events of a visit.")
@click.option("--home", type=click.Path(path_type=Path), default=Path(".shoal/bench-memory"), show_default=True)
@click.option("--anew", is_flag=True, help="Forget an interrupted run.")
@click.option("--keep", is_flag=True, help="Leave topics and state in place.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(
    users: int, cache_rows: int | None, visits: int, each: int, home: Path, anew: bool, keep: bool, out: Path | None
) -> None:
    """Resident memory a user, events/s and disk of a worker with many users."""
    home = home.resolve()
    rows = cache_rows or 2 * users
    path = home / "stand.json"
    stand = Stand(**json.loads(path.read_text())) if path.exists() and not anew else None
    if stand is None or (stand.users, stand.cache_rows, stand.visits, stand.each) != (users, rows, visits, each):
        fresh(home)
        stand = Stand(users, rows, visits, each, int(time.time() * 1000))
    stand.starts += 1
    with Broker.running(home) as broker, progress() as bar:
        more = worker.FEW_SWAPS | {"state.cache_rows": rows}
        settings = worker.of_its_own(broker.bootstrap, "many", "memory", **more)
        total = users * visits * each
        sent, done = bar.add_task("events sent", total=total), bar.add_task("events applied", total=total)

        def told(now_sent: int, now_applied: int) -> None:
            bar.update(sent, completed=now_sent)
            bar.update(done, completed=now_applied)

        with worker.running(settings, home / "worker") as shoal:
            found = asyncio.run(run(settings, shoal, stand, path, told))
        found["disk_mib"] = disk_mib(home / "worker" / "state")
    found |= {
        "users": users,
        "cache_rows": rows,
        "visits_a_user": visits,
        "events_a_visit": each,
        "block_cache_mb": settings.state.block_cache_mb,
        "starts": stand.starts,
    }
    table(found)
    write(out, found)
    if not keep:
        shutil.rmtree(home, ignore_errors=True)


async def run(
    settings: Settings, shoal: worker.Running, stand: Stand, path: Path, show: Callable[[int, int], None]
) -> dict[str, Any]:
    """Send what is missing and follow the worker to the commit of the last event."""
    pid, total = shoal.process.pid, stand.users * stand.visits * stand.each
    while shoal.status() is None:
        await asyncio.sleep(0.2)
    if not stand.base_mib:
        await asyncio.sleep(QUIET)
        stand.base_mib = memory_mib(pid, "VmRSS")
        stand.save(path)
    marks: list[tuple[int, float, float]] = []  # applied, time, CPU-seconds: the start and the end of each visit
    ends = [stand.users * stand.each * (visit + 1) for visit in range(stand.visits)]
    goals = [1 + worker.applied(shoal.status()), *ends]

    resident: list[tuple[int, float]] = []  # users, MiB

    def look() -> int:
        state = shoal.status()
        applied = worker.applied(state)
        users = sum(part["users"] for part in state["partitions"].values()) if state else 0
        if not resident or users > resident[-1][0] + stand.users // 50:
            resident.append((users, memory_mib(pid, "VmRSS")))
        while goals and applied >= goals[0]:
            del goals[0]
            marks.append((applied, time.monotonic(), cpu_seconds(pid)))
        return applied

    per_visit = -(-stand.users // PIECE)
    visit, order = -1, np.zeros(0, np.int64)
    async with traffic.Sender(settings) as sender:
        while stand.pieces < stand.visits * per_visit:
            if stand.pieces // per_visit != visit:
                visit = stand.pieces // per_visit
                order = np.random.default_rng((SEED, visit)).permutation(stand.users)
            await sender.send(traffic.encode(piece(order, visit, per_visit, stand)))
            stand.pieces += 1
            stand.save(path)
            count = min(stand.pieces * PIECE * stand.each, total)
            while count - (applied := look()) > AHEAD:
                show(count, applied)
                await asyncio.sleep(0.2)
            show(count, applied)
    while (applied := look()) < total or await worker.committed(settings) < total:
        show(total, applied)
        await asyncio.sleep(0.2)
    show(total, total)
    peak = memory_mib(pid)
    await asyncio.sleep(QUIET)
    settled = memory_mib(pid, "VmRSS")
    state = shoal.status()
    assert state is not None
    names = [traffic.ident(int(user)).decode() for user in order[:200]]
    spans = [
        {
            "events": b[0] - a[0],
            "events_per_second": (b[0] - a[0]) / (b[1] - a[1]),
            "cpu_seconds_per_million": (b[2] - a[2]) / (b[0] - a[0]) * 1e6,
        }
        for a, b in pairwise(marks)
        if b[0] > a[0]
    ]
    return {
        "users_counted": sum(part["users"] for part in state["partitions"].values()),
        "base_mib": stand.base_mib,
        "settled_mib": settled,
        "peak_mib": max(peak, memory_mib(pid)),
        "kib_a_user": (settled - stand.base_mib) * 1024 / stand.users,
        "row_bytes": float(np.mean([shoal.page(f"/users/{name}")["row_bytes"] for name in names])),
        "visits": spans,
        "versions": state["newest_version"],
        "resident_mib_by_users": resident,
    }


def piece(order: np.ndarray, visit: int, per_visit: int, stand: Stand) -> traffic.Traffic:
    """The events of the next piece: its users' visits, interleaved, in its share of the event time."""
    number, pieces = stand.pieces, stand.visits * per_visit
    at = number % per_visit * PIECE
    some = order[at : at + PIECE]
    span = int(traffic.HOURS * 3_600_000) // pieces
    rng = np.random.default_rng((SEED, visit, number))
    user = rng.permutation(np.repeat(some, stand.each))
    begin = stand.end - span * (pieces - number)
    time = begin + np.sort(rng.integers(0, span, len(user)))
    return traffic.Traffic(time, user, visit * len(order) + user, SEED * 1_000_003 + number)


def disk_mib(folder: Path) -> float:
    """What the files of a folder take on disk."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / (1 << 20)


def table(found: dict[str, Any]) -> None:
    lines = Table("", "", title=f"{found['users']:,} users, {found['cache_rows']:,} rows of cache")
    for i, span in enumerate(found["visits"]):
        words = f"{span['events_per_second']:,.0f} events/s, {span['cpu_seconds_per_million']:.1f} CPU-s a million"
        lines.add_row(f"visit {i + 1} (the producer on the same cores)", words)
    memory = " / ".join(f"{found[name]:,.0f} MiB" for name in ("base_mib", "settled_mib", "peak_mib"))
    lines.add_row("resident: no users / all users / peak", memory)
    lines.add_row("a user", f"{found['kib_a_user']:.2f} KiB resident, {found['row_bytes']:,.0f} bytes of row")
    lines.add_row("disk", f"{found['disk_mib']:,.0f} MiB")
    if found["starts"] > 1:
        lines.add_row("", "not in one go: the memory is that of the last start")
    table_console().print(lines)


if __name__ == "__main__":
    main()
