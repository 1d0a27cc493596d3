"""What an engine is to the runner: prepare, start, stop. The standard library alone: the engines' own environments
import this file.

A module of `engines/` has an `ENGINE`. The Python ones are also the program that the engine runs, started as
`python -m tests.bench.peers.engines.NAME` in the engine's own environment; the program reads its `Run` from variables.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
HOME = ROOT / ".peers"  # environments and builds
STOP_SECONDS = 20.0  # after SIGTERM; then SIGKILL


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the job: what a program finds in PEER_<NAME>."""

    bootstrap: str
    events: str  # topic
    changes: str  # topic
    name: str  # of the application: group, transactional ids, changelog
    folder: str  # for state
    partitions: int
    threads: int
    commit: float  # seconds between two commits, 0 where the engine has no such setting

    def environ(self) -> dict[str, str]:
        return {f"PEER_{name.upper()}": str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_environ(cls) -> Run:
        kinds: dict[str, Any] = {"int": int, "float": float, "str": str}
        return cls(**{f.name: kinds[str(f.type)](os.environ[f"PEER_{f.name.upper()}"]) for f in fields(cls)})


@dataclass(frozen=True, kw_only=True)
class Engine:
    """name: as the table has it. version: of the pinned package. guarantee, commit (seconds, 0 none): how it is run;
    note: what a reader of the table has to know. state_in_kafka: whether it recovers where its disk is lost.
    speed_only: whether it does another job, and so takes part in no other stage."""

    name: str
    version: str
    guarantee: str
    commit: float
    note: str
    state_in_kafka: bool
    speed_only: bool = False
    settle: float = 2.0  # seconds after which what it has read is safe

    def prepare(self) -> None:
        """Install or build what is pinned, once. RuntimeError with the end of what the tools printed."""
        raise NotImplementedError

    def command(self, run: Run) -> list[str]:
        raise NotImplementedError

    def variables(self, run: Run) -> dict[str, str]:
        """Of the environment, beside the run's own."""
        return {}

    def start(self, run: Run) -> Process:
        """The engine's process; its log goes on in the folder's log file."""
        folder = Path(run.folder)
        folder.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".log").open("ab") as log:
            process = subprocess.Popen(
                self.command(run),
                env=os.environ | run.environ() | {"PYTHONUNBUFFERED": "1"} | self.variables(run),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return Process(process, folder.with_suffix(".log"))


@dataclass(frozen=True, slots=True)
class Process:
    """An engine that runs, and its children."""

    popen: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """RuntimeError with the end of its log where it has ended."""
        if (status := self.popen.poll()) is not None:
            raise RuntimeError(f"it ended with exit code {status}:\n{self.tail()}")

    def tail(self, lines: int = 25) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, *, kill: bool = False) -> None:
        """SIGTERM, and after some seconds SIGKILL to all of its session; kill: that at once."""
        if not kill:
            self.popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


@dataclass(frozen=True, kw_only=True)
class PythonEngine(Engine):
    """A module of engines/ run in an environment of its own, `.peers/LOCK`, which is what locks/LOCK.lock names; in the
    project's own where there is no lock."""

    module: str
    lock: str = ""
    arguments: Sequence[str] = field(default=())

    @property
    def python(self) -> str:
        return str(HOME / self.lock / "bin" / "python") if self.lock else sys.executable

    def prepare(self) -> None:
        if not self.lock:
            return
        home, lock = HOME / self.lock, HERE / "locks" / f"{self.lock}.lock"
        installed = home / "installed.lock"
        if installed.exists() and installed.read_bytes() == lock.read_bytes():
            return
        if not (home / "bin" / "python").exists():
            execute([sys.executable, "-m", "venv", "--without-pip", str(home)])
        uv = str(ROOT / ".uv" / "bin" / "uv")
        execute([uv, "pip", "sync", "--quiet", "--require-hashes", "--python", self.python, str(lock)])
        shutil.copy(lock, installed)

    def command(self, run: Run) -> list[str]:
        return [self.python, "-m", self.module, *self.arguments]


@dataclass(frozen=True, kw_only=True)
class JavaEngine(Engine):
    """A Maven project in `project/`, built into `.peers/PROJECT`; what both Java engines share is in `java_shared/`."""

    project: str
    main: str
    options: Sequence[str] = ()  # of the Java machine

    def prepare(self) -> None:
        for tool in ("mvn", "java"):
            if shutil.which(tool) is None:
                raise RuntimeError(f"{tool} is not installed")
        home, sources = HOME / self.project, [HERE / self.project, HERE / "java_shared"]
        files = sorted(path for folder in sources for path in folder.rglob("*") if path.is_file())
        stamp = json.dumps({str(path.relative_to(HERE)): path.read_text() for path in files})
        built = home / "built.json"
        if built.exists() and built.read_text() == stamp:
            return
        execute(
            [
                *("mvn", "--batch-mode", "--quiet", "-f", str(HERE / self.project / "pom.xml")),
                *(f"-Dpeers.build={home}", "compile", "dependency:copy-dependencies"),
                *(f"-DoutputDirectory={home / 'lib'}", "-DincludeScope=runtime"),
            ]
        )
        built.write_text(stamp)

    def command(self, run: Run) -> list[str]:
        home = HOME / self.project
        return ["java", *self.options, "-cp", f"{home / 'classes'}:{home / 'lib'}/*", self.main]


def execute(command: Sequence[str]) -> None:
    """Run a tool to its end; RuntimeError with the end of what it printed where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise RuntimeError(f"{' '.join(command[:3])} ... failed:\n{lines}")
