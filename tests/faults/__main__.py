"""`make faults SEEDS=3`: every fault with seeds 1 to 3, and a table of what came out.

A run's result is a JSON file in RESULTS (.shoal/faults by default); one that is there, for the same commit and well,
is not run again unless FRESH=1. ONLY=name[,name] picks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from streams.embedded_kafka.broker import Broker
from tests.faults.faults import FAULTS, Fault
from tests.faults.runner import Run

COLUMNS = ("lost", "repeated", "wrong_cells", "missing", "invented", "repeated_transitions")
WORDS = ("lost", "repeated", "wrong cells", "missing", "invented", "repeated transitions")


def play(fault: Fault, seed: int, bootstrap: str | None, home: Path) -> dict[str, Any]:
    """One run; what it says, and what went wrong where it did not come to its end."""
    begun, run, error = time.monotonic(), None, None
    try:
        run = Run(home, seed, None if fault.own else bootstrap, **fault.options)
        fault.play(run)
        if not run.over:
            run.finish()
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    finally:
        if run is not None:
            run.close()
    report = run.report if run else None
    return {
        "fault": fault.name,
        "seed": seed,
        "error": error,
        "ok": error is None and run is not None and (not report.faults() if report else run.over),
        "seconds": run.seconds if run else None,
        "codes": run.codes if run else [],
        "wall": round(time.monotonic() - begun, 1),
        "report": asdict(report) if report else None,
    }


def commit() -> str:
    """The commit that is tried, with a hash of the changes that the tree has beside it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()

    changes = git("diff", "HEAD")
    return git("rev-parse", "HEAD") + (f"+{hashlib.sha256(changes.encode()).hexdigest()[:12]}" if changes else "")


def table(results: list[dict[str, Any]]) -> str:
    """A line a run."""
    head = ("fault", "seed", *WORDS, "any reader", "seconds", "starts", "")
    lines = [head]
    for one in results:
        report = one["report"]
        cells = [str(report[name]) for name in COLUMNS] if report else ["-"] * len(COLUMNS)
        others = f"{report['any_missing']}/{report['any_invented']}" if report else "-"
        said = "ok" if one["ok"] else one["error"] or "WRONG"
        lines.append(
            (one["fault"], str(one["seed"]), *cells, others, str(one["seconds"]), str(len(one["codes"])), said[:90])
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--results", type=Path, default=Path(".shoal/faults"))
    chosen = parser.parse_args()
    names = [name for name in chosen.only.split(",") if name] or list(FAULTS)
    if unknown := [name for name in names if name not in FAULTS]:
        parser.error(f"no such fault: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    chosen.results.mkdir(parents=True, exist_ok=True)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # brokers go away here
    tried, results, shared = commit(), [], None
    with ExitStack() as stack:
        for seed in range(1, chosen.seeds + 1):
            for name in names:
                path = chosen.results / f"{name}-{seed}.json"
                known = json.loads(path.read_text()) if path.exists() else {}
                if chosen.fresh or known.get("commit") != tried or not known["ok"]:
                    home = Path(tempfile.mkdtemp(prefix="shoal-fault-"))
                    if shared is None and not FAULTS[name].own:
                        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="shoal-faults-"))
                        shared = stack.enter_context(Broker.running(Path(folder)))
                    known = play(FAULTS[name], seed, shared.bootstrap if shared else None, home)
                    known["commit"] = tried
                    path.write_text(json.dumps(known, indent=1) + "\n")
                    if known["ok"]:
                        shutil.rmtree(home)
                    else:
                        print(f"{name} {seed}: {known['error'] or 'WRONG'}; its logs: {home}", file=sys.stderr)
                results.append(known)
                print(table([known]).splitlines()[1], file=sys.stderr, flush=True)
    print(table(results))
    return not all(one["ok"] for one in results)


if __name__ == "__main__":
    sys.exit(main())
