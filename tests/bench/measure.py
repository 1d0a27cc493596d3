"""What a run is measured by: a process's processor time and memory, figures, medians, and where it was run."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from streams.embedded_kafka.broker import status, stop

ROOT = Path(__file__).parents[2]
PACKAGES = ("faust-streaming", "aiokafka", "msgspec", "numpy", "river", "rocksdict")
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured run: events over seconds of wall time, the process's CPU-seconds (user and system, all threads)
    over the same span, and the most memory it ever had resident."""

    events: int
    seconds: float
    cpu_seconds: float
    peak_mib: float
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def cpu_per_million(self) -> float:
        return self.cpu_seconds / self.events * 1e6

    def document(self) -> dict[str, Any]:
        return asdict(self) | {"events_per_second": self.rate, "cpu_seconds_per_million": self.cpu_per_million}


def cpu_seconds(pid: int | str = "self") -> float:
    """User and system time of a process with its threads so far."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICK


def memory_mib(pid: int | str = "self", what: str = "VmHWM") -> float:
    """Resident memory of a process, MiB: VmHWM its peak, VmRSS now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"/proc/{pid}/status has no {what}")


def child(module: str, passed: Mapping[str, object], timeout: float, *, command: Iterable[str] = ()) -> Figure:
    """Run a module in a process of its own (or a command that ends in the same way): it finds what is passed in
    BENCH_<NAME> and leaves its figure in the file $BENCH_OUT, see leave(). RuntimeError with the end of its log."""
    out, log = Path(str(passed["home"])) / "figure.json", Path(str(passed["home"])) / "child.log"
    out.unlink(missing_ok=True)
    names = {f"BENCH_{name.upper()}": str(value) for name, value in (*passed.items(), ("out", out))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *command],
            env=os.environ | names,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass  # told below, as any run that left nothing
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    if not out.exists():
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise RuntimeError(f"{module} left no figure (exit status {process.returncode}); the end of {log}:\n{tail}")
    return Figure(**json.loads(out.read_text()))


def leave(figure: Figure) -> None:
    """Called by a child at its end."""
    out = Path(os.environ["BENCH_OUT"])
    staged = out.with_suffix(".part")
    staged.write_text(json.dumps(asdict(figure)))
    staged.replace(out)


def spread(figures: Iterable[Figure], of: Callable[[Figure], float]) -> dict[str, float]:
    """Median, least and most of a quantity."""
    values = [of(figure) for figure in figures]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def environment() -> dict[str, Any]:
    """Where and of what a figure was taken."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False).stdout
    kafka = next(iter((ROOT / "streams").glob("kafka-*.sha256")), Path("unknown")).stem
    return {
        "commit": commit or None,
        "changed_files": len(changed.splitlines()),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES} | {"kafka": kafka.removeprefix("kafka-")},
    }


def write(path: Path | None, found: Mapping[str, Any]) -> None:
    """The figures with their environment, as JSON; nowhere without a path."""
    if path is not None:
        path.write_text(json.dumps({"environment": environment(), **found}, indent=1) + "\n", encoding="utf-8")


def fresh(home: Path) -> None:
    """An empty folder; a broker that a killed run left there is stopped."""
    if status(home):
        stop(home)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display on stderr, so that stdout is the table's."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar


def table_console() -> Console:
    """Where tables are printed: stdout, wide enough where it is no terminal."""
    found = Console()
    return found if found.is_terminal else Console(width=130)
