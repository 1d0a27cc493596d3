"""What the embedded broker needs of the operating system: ports, processes, locks, signs of life."""

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


def free_port(wanted: int | None, last: int | None, *, taken: int | None = None) -> int:
    """`wanted`, or BrokerError if it is not free; where it is None, `last` if free, else any but `taken`."""
    if wanted is not None:
        if not _is_free(wanted):
            raise BrokerError(f"port {wanted} of 127.0.0.1 is taken")
        return wanted
    if last is not None and last != taken and _is_free(last):
        return last
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port != taken:
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does: TIME_WAIT is no owner
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def is_ours(pid: int, config: Path) -> bool:
    """Whether process `pid` lives and is the broker that was started on that server.properties.

    Pids are given anew: only the command line tells. A process that has ended but was not reaped has none.
    """
    shown = _command_line(pid).rstrip("\0\n ")
    return any(shown.endswith(f"kafka.Kafka{gap}{config}") for gap in "\0 ")


def _command_line(pid: int) -> str:
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return ""
    shown = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)
    return shown.stdout.decode(errors="replace")


def death_signal() -> Callable[[], None] | None:
    """A `preexec_fn` by which the child gets SIGTERM when its parent ends, however; None but on Linux."""
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (AttributeError, OSError):
        return None
    parent = os.getpid()

    def set_it() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)

    return set_it


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock on the file: one start at a time in a folder. It ends with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def answers(port: int) -> bool:
    """Whether something listens on that port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def cluster_answers(bootstrap: str) -> bool:
    """Whether a Kafka answers there with metadata that names a controller and a broker."""
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
