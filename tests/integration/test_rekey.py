"""A topic keyed by session, in three partitions: re-keyed exactly once, in order, whoever is killed or frozen."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import tomllib
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, NewTopic
from kafka.partitioner.default import murmur2

from online_models.version import dumps
from state.rows import join
from streams.config.settings import Settings, load
from streams.errors import LossError, TopicsError, TransactionError
from streams.kafka import changelog
from streams.kafka.topics import ensure
from streams.operations.overview import overview
from streams.runtime import publisher
from streams.schemas.record_batch import RecordBatch
from streams.services.repartitioner import RepartitionService
from tests.build import version
from tests.processes import committed, deployment, wait_for, worker
from tests.support import sending

pytestmark = pytest.mark.kafka
EVENTS, USERS, RAW, PARTITIONS = 20_000, 300, 3, 4
START = 1_722_470_400_000  # 2024-08-01
Message = tuple[bytes | None, bytes, list[tuple[str, bytes]], int]  # key, value, headers, time


def create(kafka: str, name: str, partitions: int, **config: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)], wait_for_metadata=True)
    admin.close()


def send(kafka: str, topic: str, parts: dict[int, list[Message]]) -> None:
    found = [
        sending.Message(value, key, part, stamp, headers)
        for part, messages in parts.items()
        for key, value, headers, stamp in messages
    ]
    sending.send(load(environ={}, **{"kafka.bootstrap_servers": kafka}), topic, found)


def by_partition(settings: Settings, topic: str, partitions: int) -> dict[int, list[ConsumerRecord]]:
    """What a read_committed reader finds, by partition."""
    found: dict[int, list[ConsumerRecord]] = {number: [] for number in range(partitions)}
    for record in committed(settings, topic, partitions):
        found[record.partition].append(record)
    return found


def place(user: str) -> int:
    found: int = (murmur2(user.encode()) & 0x7FFFFFFF) % PARTITIONS
    return found


def traffic() -> tuple[dict[int, list[Message]], dict[int, list[Message]], dict[int, list[Message]]]:
    """Raw clicks by partition of the raw topic; the same clicks by partition of the keyed one, in merged order;
    purchases by partition. Two in a hundred clicks come late, one in two hundred has a price that is none."""
    rng = np.random.default_rng(11)
    raw: dict[int, list[Message]] = {number: [] for number in range(RAW)}
    order: list[tuple[int, int, int, int, Message]] = []
    bought: dict[int, list[Message]] = defaultdict(list)
    key = [-1] * RAW
    time = START
    for number in range(EVENTS):
        time += int(rng.exponential(1_500))
        user = f"käufer {rng.integers(USERS)}"
        session = f"{user} {time // 1_800_000}"
        event: dict[str, Any] = {
            "event_time": time - (int(rng.integers(600_000)) if rng.random() < 0.02 else 0),
            "user_id": user,
            "event_type": str(rng.choice(["view", "page_view", "add_to_cart", "search"])),
            "session_id": session,
            "event_id": f"e{number}",
            "price": 9.5 if rng.random() > 0.005 else -1,
        }
        part = int(rng.choice(RAW, p=[0.7, 0.25, 0.05]))  # one with little in it, one that is far longer
        headers = [("trace", str(number).encode())] if number % 3 == 0 else []
        message = (session.encode() if number % 2 else None, json.dumps(event).encode(), headers, time + number % 7)
        key[part] = max(key[part], event["event_time"])
        order.append((key[part], part, len(raw[part]), place(user), (user.encode(), *message[1:])))
        raw[part].append(message)
        if number % 40 == 0:
            line = event | {"event_type": "purchase", "event_id": f"p{number}", "price": 20.0, "event_time": time}
            bought[place(user)].append((user.encode(), json.dumps(line).encode(), [], time))
    keyed: dict[int, list[Message]] = {number: [] for number in range(PARTITIONS)}
    for _, _, _, at, message in sorted(order, key=lambda one: one[:3]):
        keyed[at].append(message)
    return raw, keyed, bought


def status(folder: Path) -> dict[str, Any]:
    found = re.findall(r"worker on (http://\S+)", (folder / "worker.log").read_text())
    try:
        with urllib.request.urlopen(f"{found[-1]}/status", timeout=2) as page:
            told: dict[str, Any] = json.load(page)
            return told
    except (OSError, IndexError):
        return {"ready": False, "rekey": {}, "counts": {}}


def owns(folder: Path) -> bool:
    return any(one["owner"] for one in status(folder)["rekey"].values())


def plant(settings: Settings, folder: Path) -> None:
    """All partitions stand at one model version, so that the segments are the same wherever the events are."""
    send(settings.kafka.bootstrap_servers, settings.topic("models"), {0: [(b"1", dumps(version(1, 3)), [], START)]})
    with worker(settings, folder) as process:

        def taken() -> bool:
            found = asyncio.run(changelog.read_progress(settings)).values()
            return [part.version for part in found] == [1] * PARTITIONS

        wait_for(taken, "the version to be taken")
        process.terminate()
        assert process.wait(30) == 0


def rows_of(settings: Settings, count: int) -> dict[bytes, bytes]:
    """Every user's row once so many records are applied."""

    def done() -> bool:
        _, progress = asyncio.run(changelog.read(settings))
        return sum(part.ordinal for part in progress.values()) == count

    wait_for(done, f"{count} records to be applied")
    stored, _ = asyncio.run(changelog.read(settings))
    return stored


def heads(row: bytes) -> tuple[int, ...]:
    """What tells the order of all records in the partition, and what came of them."""
    head = join([row]).heads[0]
    return tuple(int(head[name]) for name in ("birth", "clock", "segment", "since", "seq"))


def messages(records: Sequence[ConsumerRecord]) -> list[Message]:
    return [(r.key, r.value, list(r.headers), r.timestamp) for r in records]


def test_killed_twice_and_frozen_once_every_event_comes_once_and_in_order(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    raw, keyed, bought = traffic()
    topic = f"{prefix}shop-clicks"
    create(kafka, topic, RAW, **{"retention.ms": "-1"})
    common = {"learner.every_rows": 10**7, "topics.partitions": PARTITIONS, "state.max_poll_records": 400}
    sources = [{"name": "clickstream", "rekey_from": topic}, {"name": "purchases"}]
    settings = deployment(kafka, prefix, **common, sources=sources)
    plain = deployment(kafka, f"{prefix}plain-", **common)
    total = EVENTS + sum(map(len, bought.values()))
    for one in (settings, plain):
        plant(one, tmp_path / f"plant {one.prefix}")
        send(kafka, one.source_topics[1], bought)
    send(kafka, topic, raw)
    send(kafka, plain.source_topics[0], keyed)
    folders = [tmp_path / str(number) for number in range(5)]
    with ExitStack() as stack:
        running = {folder: stack.enter_context(worker(settings, folder)) for folder in folders[:2]}

        def owner() -> Path:
            found: list[Path] = []

            def one_owns() -> bool:
                found[:] = [folder for folder, at in running.items() if at.poll() is None and owns(folder)]
                return len(found) == 1

            wait_for(one_owns, "a re-keyer")
            return found[0]

        def moved(folder: Path) -> None:
            before = len_committed()
            wait_for(lambda: len_committed() > before, "some more to be re-keyed")

        def len_committed() -> int:
            return sum(map(len, by_partition(settings, settings.source_topics[0], PARTITIONS).values()))

        for number, how in enumerate((signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL)):
            first = owner()
            wait_for(lambda: len_committed() > (number + 1) * 1_000, "some to be re-keyed")  # noqa: B023
            os.kill(running[first].pid, how)
            running[folders[2 + number]] = stack.enter_context(worker(settings, folders[2 + number]))
            if how == signal.SIGSTOP:
                frozen = running.pop(first)
                owner()
                at = len_committed()
                wait_for(lambda: len_committed() > at or len_committed() == EVENTS, "the next one to go on")  # noqa: B023
                os.kill(frozen.pid, signal.SIGCONT)
                # inside a transaction it is fenced and ends; outside one it finds that it has lost the partition
                wait_for(lambda: frozen.poll() is not None or status(first)["ready"], "the thawed one")  # noqa: B023
                wait_for(lambda: frozen.poll() is not None or not owns(first), "it to find out")  # noqa: B023
                assert frozen.poll() in (None, 7)
                if frozen.poll() is None:  # a member again, it may well be chosen again
                    running[first] = frozen
        rows = rows_of(settings, total)

        def told() -> dict[str, Any]:
            found: dict[str, Any] = overview(settings)[0]["sources"][settings.source_topics[0]]["rekey"]
            return found

        wait_for(lambda: told()["owner"] is not None, "the owner after the last kill")
        assert (told()["topic"], told()["lag"]) == (topic, 0)
        assert told()["owner"].startswith("shoal-")
    found = by_partition(settings, settings.source_topics[0], PARTITIONS)
    for number in range(PARTITIONS):
        assert messages(found[number]) == keyed[number], f"partition {number}"
    with worker(plain, tmp_path / "plain"):
        same = rows_of(plain, total)
    assert len(same) == USERS
    assert {(user, heads(row)) for user, row in same.items()} == {(user, heads(row)) for user, row in rows.items()}
    assert same == rows


# -- what is refused --------------------------------------------------------------------------------------------------


def events(count: int, partitions: int) -> dict[int, list[Message]]:
    lines = [json.dumps({"user_id": f"u{i % 7}", "event_time": START + i}).encode() for i in range(count)]
    return {at: [(None, line, [], START) for line in lines[at::partitions]] for at in range(partitions)}


def documented(prefix: str) -> list[dict[str, Any]]:
    """The sources of the documents' example, with a topic of this test's."""
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "repartitioning.md").read_text(encoding="utf-8")
    (block,) = (one for one in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "rekey_from" in one)
    found: list[dict[str, Any]] = tomllib.loads(block)["sources"]
    return [one | ({"rekey_from": prefix + one["rekey_from"]} if "rekey_from" in one else {}) for one in found]


async def turns(rekeyer: RepartitionService, until: Callable[[], bool]) -> None:
    """What `run` does, until a condition holds."""
    task = asyncio.ensure_future(rekeyer.run())
    async with asyncio.timeout(60):
        while not until():
            assert not task.done() or task.result()
            await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def rekeyer_of(settings: Settings, counts: Counter[str], **more: bool) -> RepartitionService:
    return RepartitionService(settings, settings.sources[0], counts.update, **more)


def test_documented_sources_a_raw_topic_that_is_missing_compacted_grown_or_made_anew(kafka: str, prefix: str) -> None:
    sources = documented(prefix)
    raw = sources[0]["rekey_from"]
    common = {"topics.partitions": 2, "sources": sources}
    with pytest.raises(TopicsError, match=f"missing: {raw}"):
        deployment(kafka, prefix, **common)
    create(kafka, raw, 1, **{"cleanup.policy": "compact"})
    with pytest.raises(TopicsError, match=f"{raw}: cleanup.policy: expected delete, found compact"):
        deployment(kafka, prefix, **common)
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.alter_configs([ConfigResource("TOPIC", raw, {"cleanup.policy": "delete", "retention.ms": "-1"})])
    settings = deployment(kafka, prefix, **common)
    counts: Counter[str] = Counter()
    keyed = f"rekeyed:{settings.source_topics[0]}"

    def lies() -> int:
        return sum(map(len, by_partition(settings, settings.source_topics[0], 2).values()))

    send(kafka, raw, events(100, 1) | {})
    asyncio.run(turns(rekeyer_of(settings, counts), lambda: counts[keyed] == 100))
    admin.create_partitions({raw: 3})
    send(kafka, raw, {2: events(50, 1)[0]})
    asyncio.run(turns(rekeyer_of(settings, counts), lambda: counts[keyed] == 150))
    assert lies() == 150
    admin.delete_topics([raw])
    wait_for(lambda: raw not in admin.list_topics(), "the topic to be gone")
    create(kafka, raw, 3, **{"retention.ms": "-1"})
    send(kafka, raw, events(900, 3))  # its offsets alone would do
    with pytest.raises(LossError, match="is not the"):
        asyncio.run(turns(rekeyer_of(settings, counts), lambda: False))
    assert lies() == 150
    asyncio.run(turns(rekeyer_of(settings, counts, accept_loss=True), lambda: counts[keyed] == 1_050))
    admin.delete_topics([settings.repartition_topic(settings.sources[0])])
    wait_for(
        lambda: settings.repartition_topic(settings.sources[0]) not in admin.list_topics(), "the progress to be gone"
    )
    ensure(settings)
    with pytest.raises(LossError, match="progress of its repartitioner is gone"):
        asyncio.run(turns(rekeyer_of(settings, counts), lambda: False))
    assert lies() == 1_050
    admin.close()


async def test_one_that_was_frozen_is_fenced_and_leaves_no_trace(kafka: str, prefix: str) -> None:
    raw = f"{prefix}raw"
    await asyncio.to_thread(create, kafka, raw, 2, **{"retention.ms": "-1"})
    sources = [{"name": "clickstream", "rekey_from": raw}]
    settings = await asyncio.to_thread(deployment, kafka, prefix, **{"topics.partitions": 2, "sources": sources})
    await asyncio.to_thread(send, kafka, raw, events(500, 2))
    counts: Counter[str] = Counter()
    outside, inside = rekeyer_of(settings, counts), rekeyer_of(settings, counts)
    await outside._take_over()  # and frozen between two transactions
    await inside._take_over()
    assert inside._producer is not None
    await inside._producer.begin_transaction()  # and frozen once some of it has been sent
    sent = await publisher.send_records(
        inside._producer, settings.source_topics[0], 0, [(b"u", b"of the frozen one", [])]
    )
    await asyncio.gather(*(future for future, _ in sent))
    await turns(rekeyer_of(settings, counts), lambda: counts[f"rekeyed:{settings.source_topics[0]}"] == 500)
    with pytest.raises(KafkaError):
        await inside._producer.commit_transaction()
    assert outside._processor is not None
    batch = RecordBatch(raw, 0, 0, 0, [0], [None], [b'{"user_id": "u"}'], [START])
    assert outside._processor.add(batch, START)
    outside._processor.run({0: 1, 1: 0})
    with pytest.raises(TransactionError):
        await outside._commit(outside._processor)
    for one in (inside, outside):
        await one._release()
    found = await asyncio.to_thread(by_partition, settings, settings.source_topics[0], 2)
    values = [record.value for records in found.values() for record in records]
    assert sorted(values) == sorted(value for part in events(500, 2).values() for _, value, _, _ in part)
