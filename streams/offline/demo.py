"""The demo: an embedded Kafka, a worker, and an hour or three of a real shop in some twenty seconds."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from streams.config.settings import Settings, load
from streams.embedded_kafka.broker import Broker, status, stop
from streams.embedded_kafka.process import death_signal
from streams.errors import ShoalError
from streams.kafka import changelog
from streams.kafka.topics import ensure
from streams.offline.event_files import count_events, read_events
from streams.offline.replay import replay
from streams.operations.segment_profile import profiles
from streams.services.model_feed import read_newest

DATA = Path(__file__).parents[1] / "data" / "rees46_2019-10-01.csv.gz"
SCHEMA = "rees46"
MARK = "shoal-demo"  # a file in the folder of a demo: the next demo may delete the folder
WAIT = 120.0  # seconds for the last record and the last pass
SETTLED = 1.5  # seconds that all must be applied and judged before the result is shown


class DemoError(ShoalError):
    """The demo could not be brought to its end."""


def run(
    home: Path,
    *,
    seconds: float,
    leave: bool,
    as_json: bool,
    bootstrap: str | None = None,
    prefix: str | None = None,
    config: Path | None = None,
) -> None:
    """Start everything, replay, show, and stop everything that was started, whatever happens.

    With bootstrap servers given those are used, under a prefix of its own where none is given, and no broker is
    started; its topics stay there. config: a settings file whose other keys hold.
    """
    console = Console(stderr=True)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    mark = home / MARK
    if home.exists() and any(home.iterdir()) and not mark.exists():
        raise DemoError(f"{home} holds something else than a demo: name another folder with --home")
    if status(home):
        stop(home)  # left behind by a demo that was killed
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    mark.touch()
    with ExitStack() as stack:
        if bootstrap is None:
            broker = Broker.running(home, notify=lambda text: console.print(f"[dim]{text}[/dim]"))
            bootstrap, prefix = stack.enter_context(broker).bootstrap, prefix or ""
        settings = _settings(bootstrap, home, f"demo-{int(time.time())}-" if prefix is None else prefix, config)
        ensure(settings)
        with _worker(settings, home, config) as worker:
            summary = _watch(settings, worker, console, seconds)
            if as_json:
                print(json.dumps(summary), flush=True)
            else:
                _show(summary, Console())
            if not leave:
                console.print(f"serving on {bootstrap}, http://127.0.0.1:{settings.web.port}/status; Ctrl-C ends it")
                with suppress(KeyboardInterrupt):
                    worker.process.wait()
                    worker.status()  # it ended by itself: raise the reason


def _settings(bootstrap: str, home: Path, prefix: str, config: Path | None) -> Settings:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return load(
        config,
        **{
            "kafka.bootstrap_servers": bootstrap,
            "prefix": prefix,
            "topics.replication": 1,
            "topics.min_insync_replicas": 1,
            "topics.source_retention": -1,
            "state.datadir": str(home / "state"),
            "web.port": port,
            "learner.first_rows": 300,
            "learner.every_rows": 400,
            "learner.every": 1800.0,
        },
    )


class _worker:
    """A worker in a process of its own, as an operator would run it; its log lies beside the data."""

    def __init__(self, settings: Settings, home: Path, config: Path | None) -> None:
        self._settings, self._config, self.log = settings, config, home / "worker.log"

    def __enter__(self) -> _worker:
        settings = self._settings
        passed = {
            "KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
            "PREFIX": settings.prefix,
            "TOPICS__REPLICATION": "1",
            "TOPICS__MIN_INSYNC_REPLICAS": "1",
            "STATE__DATADIR": str(settings.state.datadir),
            "WEB__PORT": str(settings.web.port),
            "LEARNER__FIRST_ROWS": str(settings.learner.first_rows),
            "LEARNER__EVERY_ROWS": str(settings.learner.every_rows),
            "LEARNER__EVERY": str(settings.learner.every),
        }
        if self._config:
            passed["CONFIG"] = str(self._config)
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from streams.cli import main; main()", "-v", "worker"],
            env=os.environ | {f"SHOAL_{name}": value for name, value in passed.items()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log.open("wb"),
            start_new_session=True,
            preexec_fn=death_signal(),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def status(self) -> dict[str, Any] | None:
        """The content of its status page; None while it does not answer. DemoError where it has ended."""
        if self.process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise DemoError(f"the worker ended with exit code {self.process.returncode}:\n{tail}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._settings.web.port}/status", timeout=5) as page:
                status: dict[str, Any] = json.load(page)
                return status
        except (OSError, ValueError):
            return None


def _watch(settings: Settings, worker: _worker, console: Console, seconds: float) -> dict[str, Any]:
    total = count_events(DATA, SCHEMA)
    _wait(lambda: bool((s := worker.status()) and s["ready"]), "the worker to be ready")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=console)
    sent_bar = bar.add_task("events sent", total=total)
    applied_bar = bar.add_task("events applied", total=total)
    failure: list[BaseException] = []
    ended = threading.Event()

    def show_sent(count: int) -> None:
        if ended.is_set():  # the broker is about to go
            raise DemoError("the replay was cut off")
        bar.update(sent_bar, completed=count)

    def send() -> None:
        try:
            # at a rate of events, not of event time: nine tenths of the file are in its last half hour
            replay(settings, read_events(DATA, SCHEMA), rate=total / seconds, progress=show_sent)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=send, daemon=True)
    started = time.monotonic()
    thread.start()
    finished = 0.0
    settled_since: float | None = None
    state: dict[str, Any] = {}
    try:
        with Live(bar, console=console, refresh_per_second=4) as live:
            while True:
                if failure:
                    raise failure[0]
                now = time.monotonic()
                if now - started > seconds + WAIT:
                    raise DemoError(f"the last record or pass did not come in time; see {worker.log}")
                status = worker.status()
                if status and status["ready"]:
                    state = status
                    applied = sum(
                        source["offset"]
                        for partition in state["partitions"].values()
                        for source in partition["sources"].values()
                    )
                    bar.update(applied_bar, completed=applied)
                    live.update(Group(bar, _sizes(state)))
                    if applied >= total and not finished:
                        finished = now
                    settled = (
                        not thread.is_alive()
                        and applied >= total
                        and all(
                            partition["model_version"] == state["newest_version"] and not partition["pass_under_way"]
                            for partition in state["partitions"].values()
                        )
                    )
                    if not settled:
                        settled_since = None
                    elif settled_since is None:
                        settled_since = now
                    elif now - settled_since > SETTLED:
                        break
                time.sleep(0.25)
    finally:
        ended.set()
        thread.join(10)
    return _summary(settings, state, finished - started)


def _summary(settings: Settings, state: dict[str, Any], seconds: float) -> dict[str, Any]:
    async def read() -> tuple[Any, Any]:
        return await changelog.read(settings), await read_newest(settings)

    (stored, _), version = asyncio.run(read())
    counts = Counter(state["counts"])
    read_count = counts["events"]
    return {
        "events_read": read_count,
        "rejects": sum(n for name, n in counts.items() if name.startswith("reject:")),
        "users": len(stored),
        "segments": profiles(list(stored.values()), version),
        "changes": sum(n for name, n in counts.items() if name.startswith("change:")),
        "changes_by_cause": {n.split(":")[1]: c for n, c in sorted(counts.items()) if n.startswith("change:")},
        "alerts": sum(n for name, n in counts.items() if name.startswith("alert:")),
        "events_per_second": round(read_count / seconds, 1),
        "model_version": state["newest_version"],
    }


def _wait(condition: Callable[[], bool], description: str) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        if time.monotonic() > deadline:
            raise DemoError(f"waited {WAIT:.0f} s for {description}")
        time.sleep(0.2)


def _sizes(state: dict[str, Any]) -> Table:
    sizes: Counter[int] = Counter()
    for partition in state["partitions"].values():
        sizes.update({int(segment): count for segment, count in partition["sizes"].items()})
    users = max(1, sum(partition["users"] for partition in state["partitions"].values()))
    table = Table("segment", "users", "", title=f"model version {state['newest_version']}", title_justify="left")
    for segment, count in sorted(sizes.items()):
        table.add_row(str(segment), f"{count:,}", "█" * round(40 * count / users))
    return table


def _show(summary: dict[str, Any], console: Console) -> None:
    table = Table("segment", "users", "share", "what sets it apart from the average shopper")
    for segment in summary["segments"]:
        share = f"{segment['share']:.1%}"
        table.add_row(str(segment["id"]), f"{segment['users']:,}", share, segment["description"])
    console.print(table)
    causes = ", ".join(f"{count:,} {cause}" for cause, count in summary["changes_by_cause"].items())
    console.print(
        f"{summary['events_read']:,} events of {summary['users']:,} shoppers, {summary['rejects']} rejects; "
        f"{summary['changes']:,} segment changes ({causes}), {summary['alerts']} alerts; "
        f"{summary['events_per_second']:,} events/s; model version {summary['model_version']}"
    )
