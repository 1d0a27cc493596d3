"""Python processes made by fork from one that has the worker's modules imported already.

A worker's imports and its compiled code take some five seconds of processor time, and the tests start some hundred
workers. Each process of the test session has one fork server; what it forks becomes a child of the test's process
(which adopts orphans), so that it can be waited for like any other. Where that cannot be done (not Linux, an option of
the interpreter, a hash seed) a process is started in the ordinary way.

A forked worker differs from an ordinary one in the pace of two timers alone, see `_quicken`.
"""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Protocol

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
PRELOADED = (
    "streams.runtime.process",
    "streams.cli",
    "streams.operations.overview",
    "streams.kafka.dead_letter_topic",
    "online_models.learner.learner",
)
ONLY_AT_START = ("PYTHONHASHSEED", "PYTHONOPTIMIZE", "PYTHONDEVMODE", "PYTHONUTF8")


class Process(Protocol):
    """What the tests use of subprocess.Popen."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    output: IO[bytes],
    errors: IO[bytes] | None = None,
    cwd: Path | None = None,
    **more: Any,
) -> Process:
    """A Python process with nothing to read, which writes to files; more: options of subprocess.Popen."""
    errors = errors or output
    if not more and _can_fork(command, env):
        return _server().fork(command[1:], env, output.fileno(), errors.fileno(), cwd or Path.cwd())
    return subprocess.Popen(
        command, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=errors, cwd=cwd, **more
    )


def run(
    command: Sequence[str], *, env: Mapping[str, str] = os.environ, cwd: Path | None = None, timeout: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run a Python process to its end, at most so many seconds; what it wrote, as text."""
    with TemporaryFile() as output, TemporaryFile() as errors:
        process = spawn(command, env=env, output=output, errors=errors, cwd=cwd)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(command, code, *texts)


def _can_fork(command: Sequence[str], env: Mapping[str, str]) -> bool:
    return (
        sys.platform == "linux"
        and command[0] == sys.executable
        and command[1] in ("-c", "-m")
        and all(env.get(name) == os.environ.get(name) for name in ONLY_AT_START)
    )


class Forked:
    """A forked process, a child of this one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = os.pidfd_open(pid)

    def poll(self) -> int | None:
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
                os.close(self._ended)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code; minus a signal's number where that ended it. TimeoutExpired after so many seconds."""
        if self.poll() is None:
            select.select([self._ended], [], [], timeout)
            if self.poll() is None:
                raise subprocess.TimeoutExpired(f"forked process {self.pid}", timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that forks. It ends when this process does."""

    def __init__(self) -> None:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forks", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=Path(__file__).parents[2],
            )

    def fork(self, arguments: Sequence[str], env: Mapping[str, str], output: int, errors: int, cwd: Path) -> Forked:
        """A process that runs what follows `python` on a command line; output, errors: file descriptors."""
        request = json.dumps({"arguments": list(arguments), "env": dict(env), "cwd": str(cwd)}).encode()
        socket.send_fds(self._channel, [request], [output, errors])
        answer = self._channel.recv(100)
        assert answer, "the fork server has ended"
        return Forked(int(answer))


_started: list[ForkServer] = []


def _server() -> ForkServer:
    if not _started:
        _started.append(ForkServer())
    return _started[0]


# -- in the fork server -----------------------------------------------------------------------------------------------


def serve(channel: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. Returns in a forked process, with its request; None in the server, at its end."""
    while True:
        message, fds, _, _ = socket.recv_fds(channel, 1 << 20, 2)
        if not message:
            return None
        reading, writing = os.pipe()
        between = os.fork()  # ends at once, so that the process that it forks is adopted
        if between == 0:
            child = os.fork()
            if child == 0:
                for unused in (reading, writing, channel.fileno()):
                    os.close(unused)
                _redirect(*fds)
                found: dict[str, Any] = json.loads(message)
                return found
            os.write(writing, str(child).encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(between, 0)
        channel.send(os.read(reading, 100))
        for used in (reading, *fds):
            os.close(used)


def _redirect(output: int, errors: int) -> None:
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.close(output)
    os.close(errors)


def _become(request: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    os.chdir(request["cwd"])
    option, what, *rest = request["arguments"]
    sys.argv = [what if option == "-m" else option, *rest]
    _quicken()
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


def _quicken() -> None:
    """Two timers that no setting names: the wait before Faust looks at its tables (all are there when it is built), and
    the time between two commits of the group's offsets, which are for whoever watches lag."""
    from faust.tables.manager import TableManager
    from mode import Service

    from streams.runtime import worker

    assert worker.HOUSEKEEPING_SECONDS > 0.5
    worker.HOUSEKEEPING_SECONDS = 0.5

    async def sleep(self: Any, n: Any, **options: Any) -> None:
        await Service.sleep(self, min(n, 0.05), **options)

    TableManager.sleep = sleep


def main() -> None:
    import gc
    import importlib

    from streams.compiling import ensure_compiled

    channel = socket.socket(fileno=int(sys.argv[1]))
    for name in PRELOADED:
        importlib.import_module(name)
    ensure_compiled()  # loads the compiled loops, which takes two seconds
    gc.freeze()
    request = serve(channel)
    if request is not None:
        _become(request)


if __name__ == "__main__":
    main()
