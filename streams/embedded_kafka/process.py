"""What the embedded broker needs from the operating system: ports, processes, locks, readiness probes."""

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from streams.errors import BrokerError

PR_SET_PDEATHSIG = 1  # prctl(2)
PROBE_SECONDS = 1.0


def free_port(wanted: int | None, last: int | None, *, exclude: int | None = None) -> int:
    """A free port: `wanted`, or BrokerError if it is not free. If that is None: `last` if it is free, else any other
    than `exclude`."""
    if wanted is not None:
        if not _is_free(wanted):
            raise BrokerError(f"port {wanted} of 127.0.0.1 is taken")
        return wanted
    if last is not None and last != exclude and _is_free(last):
        return last
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port != exclude:
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does: a port in state TIME_WAIT is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def is_ours(pid: int, config: Path) -> bool:
    """Whether process `pid` is alive and is the broker that was started with that server.properties.

    The system reuses process ids, so the command line is compared. A process that has ended and was not reaped has an
    empty one.
    """
    command_line = _command_line(pid).rstrip("\0\n ")
    return any(command_line.endswith(f"kafka.Kafka{separator}{config}") for separator in "\0 ")


def _command_line(pid: int) -> str:
    """From /proc on Linux, from ps elsewhere; "" where there is no such process."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return ""
    result = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)
    return result.stdout.decode(errors="replace")


def death_signal() -> Callable[[], None] | None:
    """A `preexec_fn` that makes the kernel send SIGTERM to the child when its parent ends; None except on Linux."""
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (AttributeError, OSError):
        return None
    parent = os.getpid()

    def request_signal() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # the parent ended before the call
            os._exit(1)

    return request_signal


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock on a file, so that one process at a time starts a broker in a folder.

    The system releases the lock when the process ends.
    """
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_listening(port: int) -> bool:
    """Whether a process listens on that port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def is_kafka_ready(bootstrap: str) -> bool:
    """Whether Kafka answers with metadata that names a controller and a broker."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
    except KafkaError:
        return False
    try:
        cluster = admin.describe_cluster()
        return bool(cluster["brokers"])
    except KafkaError:
        return False
    finally:
        admin.close()
