"""Real worker processes for tests, and waiting for what they do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.structs import TopicPartition
from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove

from state import rows
from state.vocabulary import VOCABULARY
from streams.config.settings import Settings, load
from streams.kafka import changelog
from streams.kafka.client_options import kafka_python_options
from streams.kafka.reader import reading, to_end
from streams.kafka.topics import ensure
from streams.services.ownership import client_id
from tests.support.forks import Process, spawn

SHOAL = [sys.executable, "-c", "from streams.cli import main; main()"]
SECRETS = ("sasl_password", "ssl_keyfile_password", "hash_key")


def deployment(bootstrap: str, prefix: str, **more: object) -> Settings:
    """Settings of a deployment of its own on the test broker, with its topics."""
    settings = load(
        environ={},
        **{
            "kafka.bootstrap_servers": bootstrap,
            "prefix": prefix,
            "topics.replication": 1,
            "topics.min_insync_replicas": 1,
            "topics.source_retention": -1,
            "web.port": 0,
            "state.session_timeout": 6.0,
            "state.rebalance_timeout": 6.0,
            **more,
        },
    )
    ensure(settings)
    return settings


@contextmanager
def worker(settings: Settings, folder: Path, *options: str, program: Sequence[str] = SHOAL) -> Iterator[Process]:
    """A `shoal worker` in a process of its own; killed at the end if it still runs. Its log: folder/worker.log."""
    process = start(settings, folder, "worker", *options, command=program)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def start(
    settings: Settings,
    folder: Path,
    *arguments: str,
    command: Sequence[str] = SHOAL,
    environ: Mapping[str, str] | None = None,
    **more: Any,
) -> Process:
    """A command of shoal with these settings, its state in folder/state; its log goes on in folder/worker.log."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "shoal.toml"
    path.write_text(_toml(settings, folder / "state"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}
    clean |= _secrets(settings)
    with (folder / "worker.log").open("ab") as log:
        return spawn(
            [*command, "--config", str(path), "-v", *arguments], env=clean | dict(environ or {}), output=log, **more
        )


def remove_dead_members(settings: Settings, processes: Iterable[Process]) -> None:
    """Take workers that have ended without leaving out of their groups, so that the next one has not to wait for their
    sessions to expire."""
    names = {client_id().removesuffix(str(os.getpid())) + str(one.pid) for one in processes if one.poll()}
    if not names:
        return
    group = f"{settings.prefix}{settings.application}"
    groups = [group, f"{group}-learner", *(f"{group}-rekey-{source.name}" for source in settings.repartitioned)]
    admin = KafkaAdminClient(**kafka_python_options(settings))
    try:
        for name, found in admin.describe_groups(groups).items():
            dead = [MemberToRemove(one["member_id"]) for one in found["members"] if one["client_id"] in names]
            if dead:
                admin.remove_group_members(name, dead)
    finally:
        admin.close()


def _toml(settings: Settings, datadir: Path) -> str:
    lines = [f'prefix = "{settings.prefix}"', f"forget_after = {settings.forget_after}"]
    for section in ("kafka", "topics", "state", "learner", "web"):
        lines.append(f"[{section}]")
        for name, value in getattr(settings, section).model_dump(mode="json", exclude_unset=True).items():
            if name not in ("datadir", *SECRETS):
                lines.append(f"{name} = {json.dumps(value)}")
        if section == "state":
            lines.append(f'datadir = "{datadir}"')
    if "sources" in settings.model_fields_set:
        for source in settings.sources:
            lines.append("[[sources]]")
            told = source.model_dump(mode="json", by_alias=True, exclude_unset=True)
            lines += [f"{name} = {json.dumps(value)}" for name, value in told.items()]
    return "\n".join(lines) + "\n"


def _secrets(settings: Settings) -> dict[str, str]:
    """The variables that hold the secrets which are set: they belong in no file that others read."""
    found = {}
    for section in (settings.kafka, settings.learner):
        for name in section.model_fields_set.intersection(SECRETS):
            if (secret := getattr(section, name)) is not None:
                found[f"SHOAL_{type(section).__name__.removesuffix('Settings').upper()}__{name.upper()}"] = (
                    secret.get_secret_value()
                )
    return found


async def read(settings: Settings, topic: str, partitions: int | None = None) -> list[ConsumerRecord]:
    """All that was committed to a topic, one partition after the other."""
    async with reading(settings) as consumer:
        at = [TopicPartition(topic, number) for number in range(partitions or settings.topics.partitions)]
        consumer.assign(at)
        return [record async for record in to_end(consumer, await consumer.beginning_offsets(at))]


def committed(settings: Settings, topic: str, partitions: int | None = None) -> list[ConsumerRecord]:
    """The same where no event loop runs."""
    return asyncio.run(read(settings, topic, partitions))


def views(settings: Settings) -> dict[bytes, int]:
    """Product views of each user in the rows that were committed."""
    stored, _ = asyncio.run(changelog.read(settings))
    if not stored:
        return {}
    counted = rows.join(list(stored.values())).heads["totals"][:, VOCABULARY.column("product_views")]
    return dict(zip(stored, counted.tolist(), strict=True))


def applied(settings: Settings) -> int:
    """Records that the partitions' progress says were applied."""
    _, progress = asyncio.run(changelog.read(settings))
    return sum(source.offset for part in progress.values() for source in part.sources.values())


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    """Until condition() holds; AssertionError after that many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.2)


def under_hash_seeds(code: str, *seeds: int) -> set[str]:
    """What some code prints in processes of its own, each with another PYTHONHASHSEED."""
    return {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in seeds
    }
