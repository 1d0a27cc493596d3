"""What a worker imports before it is ready."""

from __future__ import annotations

import subprocess
import sys


def test_a_worker_imports_river_only_once_it_learns() -> None:
    late = {"river", "scipy.optimize", "sklearn", "torch"}
    code = f"import sys, streams.runtime.process; print({late} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
