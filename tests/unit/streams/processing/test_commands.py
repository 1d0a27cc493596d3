"""Commands: what is none is a dead letter with a reason, whatever user it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from state.stores.rocksdb import Meta, RowStore
from streams.config.settings import load
from streams.errors import DataError
from streams.kafka import requests
from streams.processing import commands, progress
from streams.processing.batch_step import PartitionConfig
from streams.processing.commands import Command
from streams.processing.output_buffer import Topics
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.progress import PROGRESS_KEY, Progress
from streams.schemas.record_batch import RecordBatch
from tests.support.decoding import decode

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
    task = PartitionProcessor(
        PartitionConfig(), decode, store, Topics("c", "s", "a", "dead", "t", "r"), commands="commands"
    )
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
