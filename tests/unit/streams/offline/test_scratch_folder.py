"""A command's temporary folder holds users' data: it goes however the command ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streams.errors import DataError
from streams.offline.scratch_folder import scratch_folder


def test_it_lies_beside_the_output_and_is_deleted(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "out.parquet") as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "rows").write_text("ann")
    assert list(tmp_path.iterdir()) == []


def test_it_is_deleted_after_an_error(tmp_path: Path) -> None:
    def fail(error: Exception) -> None:
        with scratch_folder(tmp_path / "out.parquet") as folder:
            (folder / "rows").write_text("ann")
            raise error

    with pytest.raises(DataError, match=r"out\.parquet was not written: .*full"):
        fail(OSError(28, "full"))
    with pytest.raises(TimeoutError):  # no broker
        fail(TimeoutError())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    there = scratch_folder(tmp_path / "nowhere" / "out.parquet")
    with pytest.raises(DataError, match=r"nowhere/out\.parquet: its folder cannot be written to: No such"):
        there.__enter__()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_is_deleted_when_a_signal_ends_the_command(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import sys, time; from pathlib import Path; from streams.offline.scratch_folder import scratch_folder\n"
        "with scratch_folder(Path(sys.argv[1]) / 'out'): print('there', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_command_left_is_deleted_by_the_next_one(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    running = os.getppid()
    for process in (ended.pid, running):
        (tmp_path / f".out.scratch-{process}").mkdir()
    other = tmp_path / f".another.scratch-{ended.pid}"
    other.mkdir()
    with scratch_folder(tmp_path / "out"):
        pass
    assert set(tmp_path.iterdir()) == {tmp_path / f".out.scratch-{running}", other}
