"""What a worker refuses on real Kafka until its loss is accepted: the process truly ends, as often as it is started."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from state.rows import BLANK
from streams.processing import progress
from streams.processing.outputs.output_buffer import Flush
from streams.processing.progress import PROGRESS_KEY, Progress
from streams.runtime.publisher import Publisher
from tests.deployed import Deployed
from tests.processes import wait_for
from tests.rocks import biggest, flip
from tests.support.sending import Message, send

pytestmark = pytest.mark.kafka


@pytest.fixture
def one(kafka: str, prefix: str, tmp_path: Path) -> Deployed:
    """A deployment that has counted 500 records, and whose group knows it; its worker has stopped."""
    made = Deployed(kafka, prefix, tmp_path)
    made.send(500)
    with made.run() as process:
        made.settled(process)
        wait_for(lambda: known(made), "the group's offsets")
        process.terminate()
        assert process.wait(60) == 0
    return made


def known(made: Deployed) -> bool:
    admin = made.admin()
    group = f"{made.settings.prefix}{made.settings.application}"
    found = admin.list_group_offsets({group: None})[group]
    admin.close()
    return any(at.offset > 0 for at in found.values())


def refused(made: Deployed, told: str, code: int = 11) -> None:
    for _ in range(2):
        with made.run() as process:
            assert process.wait(60) == code, made.log()[-3000:]
        assert told in made.last_words()


def recreated(made: Deployed) -> None:
    """And grown past the progress."""
    made.anew(made.clicks)
    made.sent.clear()
    made.send(600)


def test_a_source_recreated_and_grown_past_the_progress(one: Deployed) -> None:
    before = Counter(one.sent)
    recreated(one)
    refused(one, f"{one.clicks}/0 is another topic of the same name, the progress is at 500 of the former one")
    one.sent += before
    with one.run("--accept-loss") as process:
        one.settled(process)
    assert f"shoal: loss accepted: {one.clicks}/0 is another topic" in one.log()
    with one.run() as process:  # accepted once for all
        wait_for(one.ready, "the worker")
        assert process.poll() is None


def test_a_source_that_expired(one: Deployed) -> None:
    before = Counter(one.sent)
    one.send(100)
    one.empty(one.clicks, 520)
    refused(one, f"{one.clicks}/0 starts at 520, the progress is at 500: records between are gone")
    one.sent = before
    for i in range(20, 100):
        one.sent[b"user-%d" % (i % 97)] += 1
    with one.run("--accept-loss") as process:
        one.settled(process)


@pytest.mark.parametrize("disk", ["kept", "lost"])
def test_a_changelog_recreated(one: Deployed, disk: str) -> None:
    one.anew(one.settings.changelog)
    if disk == "lost":
        shutil.rmtree(one.folder / "state")
        refused(one, f"), although the group has committed offsets of {one.clicks}")
    else:
        refused(one, "holds rows of another changelog topic of the same name")
    with one.run("--accept-loss") as process:
        one.settled(process)
    assert one.log().count("loss accepted") == (1 if disk == "lost" else 2)


@pytest.mark.parametrize("disk", ["kept", "lost"])
def test_a_changelog_emptied(one: Deployed, disk: str) -> None:
    """With the disk kept the rows are all there, yet nothing stands behind them any more; without, they begin anew."""
    one.empty(one.settings.changelog, -1)
    if disk == "lost":
        shutil.rmtree(one.folder / "state")
    refused(one, "rows are gone")
    one.send(10 if disk == "kept" else 0)
    with one.run("--accept-loss") as process:
        if disk == "kept":
            wait_for(lambda: one.applied() == 510, "the records")
        else:
            one.settled(process)


def test_an_undecodable_changelog_record(one: Deployed) -> None:
    send(one.settings, one.settings.changelog, [Message(b"no row", b"user-1", 0)])
    refused(one, f"{one.settings.changelog}/0: the record at offset ", code=9)
    assert "user-1" not in one.last_words()
    with one.run("--accept-loss") as process:
        wait_for(one.ready, "the worker")
        assert process.poll() is None


def test_a_recovery_that_takes_too_long(kafka: str, prefix: str, tmp_path: Path) -> None:
    """The page is up all the while, and says why the worker is not ready."""
    made = Deployed(kafka, prefix, tmp_path, **{"state.recovery_deadline": 0.2})
    asyncio.run(rows_for(made, 400_000))
    seen: list[tuple[int, str]] = []
    with made.run() as process:
        while process.poll() is None:
            if made.page("/livez")[0] == 200:
                seen.append(made.page("/readyz"))
            time.sleep(0.02)
        assert process.returncode == 9, made.log()[-3000:]
    assert {status for status, _ in seen} <= {503, 0}
    assert any(body.startswith(("recovering: ", "no assignment yet")) for _, body in seen), seen
    assert "recovery did not end within state.recovery_deadline (0.2 s): " in made.last_words()
    # how far it comes in that time is the machine's to say
    where = rf"({made.settings.changelog}/0 at \d+ of 400002|former owners are not fenced off yet)$"
    assert re.search(where, made.last_words()), made.last_words()


async def rows_for(made: Deployed, users: int) -> None:
    publisher = Publisher(made.settings, 0)
    await publisher.start()
    stored: dict[bytes, bytes | None] = {b"%07d" % i: BLANK for i in range(users)}
    now = Progress(number=1, users=users)
    stored[PROGRESS_KEY] = progress.dumps(now)
    await publisher.commit(Flush(stored, {}, {}, {}, 0, now.serial, np.zeros(0, np.int64)))
    await publisher.stop()


def test_what_is_expected_is_deleted_under_a_worker(one: Deployed) -> None:
    with one.run() as process:
        wait_for(one.ready, "the worker")
        os.kill(process.pid, signal.SIGSTOP)
        one.send(100)  # the answer to the fetch that is under way lies in the worker's socket
        one.send(200)
        one.empty(one.clicks, 700)
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(60) == 11, one.log()[-3000:]
    found = re.search(rf"{one.clicks}/0: offset (\d+) is not available, the log continues at 700", one.last_words())
    assert found, one.last_words()
    assert 500 <= int(found[1]) < 700
    refused(one, "clickstream/0 starts at 700, the progress is at ")


def test_all_there_is_is_deleted_under_a_worker(one: Deployed) -> None:
    """No fetch will ever come: the position alone tells."""
    with one.run() as process:
        wait_for(one.ready, "the worker")
        os.kill(process.pid, signal.SIGSTOP)
        one.send(100)
        one.send(200)
        one.empty(one.clicks, -1)
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(60) == 11, one.log()[-3000:]
    assert re.search(rf"{one.clicks}/0: offset \d+ is not available, the log continues at 800", one.last_words())
    refused(one, "clickstream/0 starts at 800, the progress is at ")


def test_a_flipped_byte_under_a_running_worker(kafka: str, prefix: str, tmp_path: Path) -> None:
    """The worker ends, the next sets that store aside and rebuilds it: nothing is lost or counted twice."""
    made = Deployed(kafka, prefix, tmp_path, **{"state.cache_rows": 1000})
    made.send(500)
    with made.run() as process:
        made.settled(process)
        process.terminate()
        assert process.wait(60) == 0
    store = made.folder / "state" / "0"
    flip(biggest(store), biggest(store).stat().st_size // 2)  # not in the first block, which an open reads
    with made.run() as process:
        wait_for(made.ready, "the worker")  # the block is read only when a row of it is
        made.send(500)
        assert process.wait(60) == 6, made.log()[-3000:]
    assert "checksum mismatch" in made.last_words()
    assert "user-" not in made.last_words()
    with made.run() as process:
        made.settled(process)
    assert f"set aside as {store}.aside-1" in made.log()
