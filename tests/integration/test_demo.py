"""The main job as a user runs it: real Kafka, a worker in a process of its own, bundled real data."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kafka


def test_demo(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from streams.cli import main; main()",
            "demo",
            "--exit",
            "--json",
            "--seconds",
            "8",
            "--home",
            str(tmp_path / "demo"),
        ],
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    summary = json.loads(done.stdout)
    assert (summary["events_read"], summary["rejects"], summary["users"]) == (17_435, 0, 4_505)
    assert len(summary["segments"]) >= 4
    assert sum(line["users"] for line in summary["segments"]) == 4_505
    assert summary["changes_by_cause"]["first"] == 4_505
    assert summary["model_version"] >= 2
