"""Commands: what is none is a dead letter with a reason, whatever user it names; many are carried out in turns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from state.stores.memory import MemoryStore
from state.stores.rocksdb import Meta, RowStore
from streams.config.settings import load
from streams.errors import DataError
from streams.kafka import requests
from streams.processing import commands, progress
from streams.processing.commands import Command
from streams.processing.input_buffer import QUEUE
from streams.processing.outputs.output_buffer import Flush, Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import COMMANDS_PER_TURN, PartitionProcessor
from streams.processing.progress import PROGRESS_KEY, Progress
from streams.schemas.record_batch import RecordBatch
from tests.build import records
from tests.support.decoding import decode

TOPICS = Topics("c", "s", "a", "dead", "t", "r")
RULE = PartitionConfig(sources=("clickstream",))

NO_USERS = {
    "": "user_id is missing",
    "\0progress": "user_id: no id has a NUL in it",
    "a\0": "user_id: no id has a NUL in it",
    "\0\0offset": "user_id: no id has a NUL in it",
    "u" * 1025: "user_id: at most 1024 bytes",
}


@pytest.mark.parametrize(("user", "told"), NO_USERS.items(), ids=["none", "progress", "inside", "offset", "long"])
def test_an_erasure_of_no_user(user: str, told: str) -> None:
    value = json.dumps({"command": "erase", "request_id": "r", "user_id": user}).encode()
    assert commands.decode(value) == told
    with pytest.raises(DataError, match=f"^{told}$"):  # before it is sent, and waited for
        requests.erase(load(environ={}), user, 1.0)


@pytest.mark.parametrize("user", [7, "7", "ä" * 512])
def test_an_erasure_of_a_user(user: str | int) -> None:
    value = json.dumps({"command": "erase", "request_id": "r", "user_id": user}).encode()
    found = commands.decode(value)
    assert isinstance(found, Command)
    assert commands.user_key(found) == str(user).encode()


def test_what_the_store_keeps_for_itself_is_no_users_row(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "0", Meta("shoal", 0, 1), cache_rows=10)
    store.write_flush({PROGRESS_KEY: progress.dumps(Progress())}, 5)
    task = PartitionProcessor(PartitionConfig(), decode, store, TOPICS, commands="commands")
    users = ["\0progress", "\0\0offset", "\0\0meta"]
    values: list[bytes | None] = [
        json.dumps({"command": "erase", "request_id": "r", "user_id": user}).encode() for user in users
    ]
    task.add(RecordBatch("commands", 0, 0, 2, [0, 1, 2], [None] * 3, values, [0] * 3))
    task.run(0, {})
    flush = task.cut(0)
    assert flush is not None
    assert {at: len(sent) for at, sent in flush.outputs.items()} == {("dead", 0): 3}
    assert flush.acked["commands"] == 3
    store.close()


def erasures(first: int, users: list[str], *, holes: int = 1) -> RecordBatch:
    """A fetch of erasures, each request named by its offset. holes: distance of two offsets."""
    offsets = [first + holes * i for i in range(len(users))]
    values: list[bytes | None] = [
        json.dumps({"command": "erase", "request_id": f"{offset}", "user_id": user}).encode()
        for offset, user in zip(offsets, users, strict=True)
    ]
    last = first + holes * len(users) - 1
    return RecordBatch("commands", 0, first, last, offsets, [None] * len(users), values, [0] * len(users))


def receipts(flushes: list[Flush]) -> list[tuple[str, str]]:
    """Request and result of each receipt, as they were sent."""
    sent = [record for flush in flushes for record in flush.outputs.get(("r", 0), [])]
    return [((key or b"").decode(), json.loads(value or b"")["data"]["result"]) for key, value, _ in sent]


def events(count: int, first: int = 0) -> RecordBatch:
    """One event of each user, u0 to u<count - 1>."""
    day = 1_700_000_000_000
    made = [{"event_time": day + i, "event_type": "view", "user_id": f"u{i}"} for i in range(count)]
    return records(made, first=first)


def test_records_are_applied_between_two_turns_of_many_commands() -> None:
    count = 2 * COMMANDS_PER_TURN + 3
    task = PartitionProcessor(RULE, decode, MemoryStore(), TOPICS, commands="commands")
    task.add(events(count))
    assert task.run(0, {"clickstream": count}) == count
    task.add(erasures(0, [f"u{i}" for i in range(count)], holes=3))
    task.add(events(1, first=count))
    assert task.run(0, {"clickstream": count + 1}) == 1  # u0 is back: the first turn has erased it
    assert (task.progress.users, task.positions()["commands"]) == (count - COMMANDS_PER_TURN + 1, 3 * COMMANDS_PER_TURN)
    assert task.carry_out_commands(0) == COMMANDS_PER_TURN
    assert task.carry_out_commands(0) == 3
    assert task.carry_out_commands(0) == 0
    assert (task.progress.users, task.positions()["commands"]) == (1, 3 * count)
    flush = task.cut(0)
    assert flush is not None
    assert receipts([flush]) == [(f"{3 * i}", "erased") for i in range(count)]
    assert flush.acked == {"clickstream": count + 1, "commands": 3 * count}


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_after_a_kill_commands_continue_after_the_last_one_that_was_committed(turns: int) -> None:
    """turns: carried out after the flush, and lost."""
    count, users = 3 * COMMANDS_PER_TURN, [f"u{i}" for i in range(COMMANDS_PER_TURN + 2)] * 3
    users = users[:count]  # some are erased twice
    task = PartitionProcessor(RULE, decode, MemoryStore(), TOPICS, commands="commands")
    task.add(events(count))
    task.run(0, {"clickstream": count})
    task.add(erasures(0, users))
    task.carry_out_commands(0)
    committed = task.cut(0)
    assert committed is not None
    for _ in range(turns):
        task.carry_out_commands(0)
    store = MemoryStore()
    store.put_many(committed.rows, committed.index)
    task = PartitionProcessor(RULE, decode, store, TOPICS, commands="commands")
    first = task.queued_ends()["commands"]
    assert first == COMMANDS_PER_TURN  # in the middle of the fetch
    assert not task.add(erasures(first + 1, users[first + 1 :]))
    assert task.add(erasures(first, users[first:]))
    while task.carry_out_commands(0):
        pass
    flush = task.cut(0)
    assert flush is not None
    result = ["erased" if i < COMMANDS_PER_TURN + 2 else "unknown" for i in range(count)]
    assert receipts([committed, flush]) == [(f"{i}", one) for i, one in enumerate(result)]


def test_a_topic_of_commands_that_is_full_is_not_read() -> None:
    task = PartitionProcessor(RULE, decode, MemoryStore(), TOPICS, commands="commands")
    task.add(erasures(0, ["u"] * (QUEUE - 1)))
    assert task.full_topics() == set()
    task.add(erasures(QUEUE - 1, ["u"]))
    assert task.full_topics() == {"commands"}
    task.add(records([{"event_time": 1_700_000_000_000, "event_type": "view", "user_id": "v"}]))
    assert task.run(0, {"clickstream": 1}) == 1  # a full queue holds back no record
    while task.carry_out_commands(0):
        pass
    assert task.full_topics() == set()
