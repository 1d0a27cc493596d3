"""Secrets and user ids show nowhere: not in logs (at -v, at a crash), metrics, status, errors or `shoal config`."""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.config.settings import Settings
from streams.processing.partitioner import partitions_of
from tests.integration.test_trust import CANARY, HASH_KEY, KEYFILE_PASSWORD, PASSWORDS, Roles, broker, ok  # noqa: F401
from tests.processes import applied, wait_for, worker
from tests.support import sending
from tests.support.acls import GRANTS, grant
from tests.support.secured import Secured
from tests.support.sending import Message

pytestmark = pytest.mark.kafka
USER = "canary-8c4f"  # in every user id; HIDDEN in what else a record holds
HIDDEN = "canary-b7a3"


@pytest.fixture
def roles(broker: Secured, prefix: str, tmp_path: Path) -> Roles:  # noqa: F811
    grant(broker.admin, GRANTS, prefix)
    return Roles(broker, prefix, tmp_path)


def event(user: str, now: int, **other: object) -> bytes:
    return json.dumps({"event_time": now, "event_type": "view", "user_id": user, "event_id": HIDDEN} | other).encode()


def bad_and_good(now: int) -> Iterator[tuple[bytes | None, bytes | None, int | None]]:
    """Key, value and partition (None: the right one) of records of every kind."""
    for i in range(200):
        user = f"{USER}-good-{i % 40}"
        kind = ("view", "purchase", "refund")[i % 3]
        good = event(user, now + i, price=100.0, event_type=kind, event_id=f"{HIDDEN} {i}")  # no repeats: all teach
        yield user.encode(), good, None
    odd: dict[str, bytes | None] = {
        "null": None,
        "no json": HIDDEN.encode(),
        "bytes": b"\xff\xfe" + HIDDEN.encode(),
        "cut": event(f"{USER}-cut", now)[:-1],
        "NUL": event(f"{USER}\0", now),
        "huge": event(USER * 200, now),
    }
    for field, value in (
        ("note", HIDDEN * 10_000),
        ("event_time", HIDDEN),
        ("price", HIDDEN),
        ("currency", HIDDEN),
        ("brand", [HIDDEN]),
    ):
        odd[field] = event(f"{USER}-{field}", now, **{field: value})
    yield from ((f"{USER}-{name}".encode(), value, None) for name, value in odd.items())
    for user in (f"{USER}-misplaced", f"{USER}-mismatched"):
        at = 1 - int(partitions_of([user.encode()], 2)[0])
        yield (user if "placed" in user else f"{USER}-else").encode(), event(user, now), at


def send(settings: Settings, topic: str, now: int) -> int:
    """As a shop; how many were sent."""
    return len(sending.send(settings, topic, [Message(value, key, at, now) for key, value, at in bad_and_good(now)]))


def asked(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as page:
            return str(page.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def clean(text: str, what: str) -> None:
    for canary in (CANARY, USER, HIDDEN):
        assert canary not in text, f"{canary} in {what}: {text[max(0, text.index(canary) - 300) :][:600]}"


def test_a_worker_tells_neither_secrets_nor_people(roles: Roles) -> None:
    ok(roles.shoal("operator", "topics"))
    settings, now = roles.settings("worker", **{"learner.first_rows": 10}), int(time.time() * 1000)
    count = sum(send(roles.settings("shop"), topic, now) for topic in settings.source_topics)
    log = roles.home / "worker.log"
    with worker(settings, roles.home) as process:
        wait_for(lambda: process.poll() is not None or applied(roles.settings("operator")) >= count, "the records")
        port = int(re.findall(r"worker on http://127\.0\.0\.1:(\d+)", log.read_text())[-1])
        gone = roles.shoal("operator", "-v", "erase", f"{USER}-good-2")
        assert gone.stdout.startswith("erased"), gone.stderr
        clean(gone.stdout + gone.stderr, "erase")
        paths = ("/metrics", "/status", "/readyz", "/livez", "/nowhere", "/users/x")
        pages = {path: asked(port, path) for path in paths}
        assert 'shoal_rejects_total{reason="not_json"}' in pages["/metrics"]
        assert f"{USER}-good-1" in asked(port, f"/users/{USER}-good-1")  # who asks for one is told
        for path, page in pages.items():
            clean(page, path)
        for command in (
            "status",
            "status --json",
            "topics",
            "dead-letters",
            "dead-letters --json",
            "dead-letters --count",
            "-v status",
            "-v dead-letters --export out",
        ):
            done = roles.shoal("operator", *command.split())
            assert done.returncode == 0, done.stderr
            clean(done.stdout + done.stderr, command)
        refused = roles.shoal("operator", "-v", "dead-letters", "--send-back", "out")
        assert refused.returncode == 10
        clean(refused.stderr, "what cannot be sent back")
        for form in ((), ("--json",)):
            clean(ok(roles.shoal("worker", "config", *form)), "config")
        wait_for(lambda: "model version 1" in log.read_text(), "a model")  # its words are looked at, too
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    text = log.read_text()
    clean(text, "the log")


@pytest.mark.parametrize("row", [b"\x07" + HIDDEN.encode(), b"", HIDDEN.encode() * 100])
def test_a_crash_tells_them_neither(roles: Roles, row: bytes) -> None:
    """A row in the changelog that is none: the worker falls over it with the user's key in its hands."""
    ok(roles.shoal("operator", "topics"))
    settings, now = roles.settings("worker"), int(time.time() * 1000)
    users = [f"{USER}-good-{i}".encode() for i in range(40)]
    sending.send(settings, settings.changelog, [Message(row, user, int(partitions_of([user], 2)[0])) for user in users])
    send(roles.settings("shop"), settings.source_topics[0], now)
    with worker(settings, roles.home) as process:
        assert process.wait(60) != 0
    text = (roles.home / "worker.log").read_text()
    assert "shoal: error: " in text
    clean(text, "the log of a crash")


def test_a_secret_that_cannot_be_used_is_not_told(roles: Roles) -> None:
    for name, value in (("KAFKA__SSL_KEYFILE_PASSWORD", f"{CANARY}-other"), ("KAFKA__SSL_CAFILE", "/nowhere")):
        done = roles.shoal("worker", "-v", "topics", **{name: value})
        assert done.returncode == 2, done.stderr
        clean(done.stderr, name)
    for command in ("worker", "config"):
        done = roles.shoal(
            "worker",
            command,
            LEARNER__K_LEAST=HASH_KEY,
            KAFKA__SECURITY_PROTOCOL=KEYFILE_PASSWORD,
            KAFKA__SASL_MECHANISM=PASSWORDS["worker"],
        )
        assert done.returncode == 2
        clean(done.stdout + done.stderr, "settings that are refused")
