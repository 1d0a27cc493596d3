"""`shoal dead-letters` on real Kafka: a worker's rejects are listed, counted, exported, repaired and sent back once."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from state import rows
from state.vocabulary import VOCABULARY
from streams.cli import cli
from streams.config.settings import Settings
from streams.kafka import changelog
from streams.processing.partitioner import partitions_of
from tests.integration.test_bad_input import At, send, view
from tests.processes import applied, deployment, wait_for, worker
from tests.support.events.rejects import MARK, Record, event

pytestmark = pytest.mark.kafka


def shoal(settings: Settings, *arguments: str) -> Result:
    names = {
        "SHOAL_TOPICS__PARTITIONS": "2",
        "SHOAL_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "SHOAL_PREFIX": settings.prefix,
    }
    return CliRunner().invoke(cli, ["dead-letters", *arguments], env=names, prog_name="shoal")


def ok(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if result.stdout.startswith("[") else result.stderr


def totals(settings: Settings) -> dict[str, int]:
    stored, _ = asyncio.run(changelog.read(settings))
    heads = rows.join(list(stored.values())).heads
    viewed = heads["totals"][:, VOCABULARY.column("product_views")].tolist()
    return {user.decode(): int(count) for user, count in zip(stored, viewed, strict=True)}


def corpus(now: int) -> dict[str, tuple[Record, int | None]]:
    """Records by name; all but the first are rejects."""

    def record(user: str, reason: str, **other: object) -> Record:
        return Record(reason, json.dumps(event(user, now, **other)).encode(), user.encode(), now)

    large = json.dumps(event("large", now, note="x" * 600_000)).encode()
    return {
        "good": (view("good", now), None),
        "currency": (record("euro", "currency", currency="EUR", event_id="e1"), None),
        "no id": (record("euro two", "currency", currency="EUR"), None),
        "key": (replace(view("keyed", now), key=b"another", reason="key_mismatch"), None),
        "place": (replace(view("good", now), reason="wrong_partition"), None),
        "bytes": (Record("not_json", b"\xff\x00" + MARK.encode(), b"\xfe", now), 0),
        "null": (Record("null_value", None, b"null", now), None),
        "cut": (Record("too_large", large, b"large", now), None),
    }


def test_from_the_list_to_the_row(kafka: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = deployment(kafka, prefix, **{"topics.partitions": 2})
    now = int(time.time() * 1000)
    named = corpus(now)
    place = next(p for p in (0, 1) if p != _place(b"good"))
    named["place"] = (named["place"][0], place)
    sent: dict[At, Record] = send(settings, settings.source_topics[0], list(named.values()))
    at = {name: where for (name, _), where in zip(named.items(), sent, strict=True)}

    with worker(settings, tmp_path) as process:
        wait_for(lambda: process.poll() is not None or applied(settings) == len(named), "the corpus")
        before = totals(settings)

        listed = ok(shoal(settings, "--json"))
        rejects = {at[name]: record.reason for name, (record, _) in named.items() if record.reason}
        assert {(one["topic"], one["partition"], one["offset"]): one["reason"] for one in listed} == rejects
        assert [one["time"] for one in listed] == sorted(one["time"] for one in listed)
        assert not any(one["sent_back"] or "key" in one or "value" in one for one in listed)
        assert MARK not in shoal(settings).output
        shown = shoal(settings, "--values", "--reason", "not_json").stdout
        assert "\\xff" in shown
        assert "\x00" not in shown
        assert [one["letter"] for one in ok(shoal(settings, "--json", "--limit", "2"))] == [
            one["letter"] for one in listed[-2:]
        ]
        assert ok(shoal(settings, "--json", "--since", str(now + 3_600_000))) == []
        assert len(ok(shoal(settings, "--json", "--since", str(now - 1)))) == len(rejects)
        counts = ok(shoal(settings, "--count", "--json"))
        assert {one["reason"]: one["count"] for one in counts} == Counter(rejects.values())

        assert "7 written" in ok(shoal(settings, "--export", "all.jsonl"))
        assert (tmp_path / "all.jsonl").stat().st_mode & 0o777 == 0o600
        assert shoal(settings, "--export", "all.jsonl").exit_code == 10  # a repaired file is not written over
        lines = [json.loads(text) for text in (tmp_path / "all.jsonl").read_text().splitlines()]
        names = {where: name for name, where in at.items()}
        by_name = {names[one["topic"], one["partition"], one["offset"]]: one for one in lines}
        assert by_name["key"]["value"].encode() == named["key"][0].value
        assert set(by_name["bytes"]) >= {"key_base64", "value_base64"}

        # as exported: what is bad still is told line by line, and nothing goes
        refused = shoal(settings, "--send-back", "all.jsonl")
        assert refused.exit_code == 10
        told = {names[one["topic"], one["partition"], one["offset"]]: i for i, one in enumerate(lines, 1)}
        for name, why in (
            ("currency", "currency (currency)"),
            ("no id", "currency (currency)"),
            ("bytes", "not_json"),
            ("null", "null_value"),
            ("cut", "cut: the letter holds 524288 of "),
        ):
            assert f"line {told[name]}: {why}" in refused.stderr
        assert refused.stderr.count("\n  line ") == 5
        assert applied(settings) == len(named)

        # repaired: as text, as an object; a wrong key and a wrong place need none
        text = by_name["currency"]["value"].replace("EUR", "USD")
        whole = json.loads(by_name["no id"]["value"]) | {"currency": "USD"}
        good = [
            by_name["currency"] | {"value": text},
            by_name["no id"] | {"value": whole},
            by_name["key"],
            by_name["place"],
        ]
        (tmp_path / "good.jsonl").write_text("".join(json.dumps(one) + "\n" for one in good))
        assert "4 sent" in ok(shoal(settings, "--send-back", "good.jsonl"))
        # once more, and one new among the old: each counts once, event_id or not
        again = ok(shoal(settings, "--send-back", "good.jsonl"))
        assert "0 sent, 4 left out: sent back before" in again
        null = by_name["null"] | {"value": json.loads(text) | {"user_id": "null", "event_id": "e2"}}
        (tmp_path / "more.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [*good, null]))
        assert "1 sent, 4 left out" in ok(shoal(settings, "--send-back", "more.jsonl"))
        lasts = [next(f"last {i}" for i in range(99) if _place(f"last {i}".encode()) == p) for p in (0, 1)]
        send(settings, settings.source_topics[0], [(view(last, now), None) for last in lasts])
        wait_for(lambda: process.poll() is not None or totals(settings).keys() >= set(lasts), "what was sent back")
        assert process.poll() is None
        after = totals(settings)  # the last of each partition lies behind all that was sent back
        wanted = Counter(before) + Counter({"euro": 1, "euro two": 1, "keyed": 1, "good": 1, "null": 1})
        assert after == wanted + Counter(lasts)

        counts = {one["reason"]: one["sent_back"] for one in ok(shoal(settings, "--count", "--json"))}
        assert counts["currency"] == 2
        assert counts["not_json"] == 0
        assert "\n" in ok(shoal(settings, "--export", "left.jsonl", "--reason", "currency", "--reason", "not_json"))
        assert len((tmp_path / "left.jsonl").read_text().splitlines()) == 1
    assert MARK not in (tmp_path / "worker.log").read_text()


def _place(key: bytes) -> int:
    return int(partitions_of([key], 2)[0])


def test_a_file_of_another_deployment_is_refused(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = deployment(kafka, prefix, **{"topics.partitions": 2})
    line = {"letter": "0-0", "topic": settings.source_topics[0], "partition": 0, "offset": 3, "value": "{}"}
    (tmp_path / "a.jsonl").write_text(json.dumps(line) + "\n\nnonsense\n" + json.dumps(line))
    refused = shoal(settings, "--send-back", str(tmp_path / "a.jsonl"))
    assert refused.exit_code == 10
    assert "line 1: letter 0-0 is not among the dead letters" in refused.stderr
    assert "line 3: no line of an export" in refused.stderr
    assert "line 4: letter 0-0 is that of line 1 too" in refused.stderr
    assert shoal(settings, "--send-back", str(tmp_path / "none.jsonl")).exit_code == 10
    assert shoal(settings, "--count", "--export", "x").exit_code == 2
    assert ok(shoal(settings, "--json")) == []
    elsewhere = settings.model_copy(update={"prefix": f"{prefix}no-"})
    assert shoal(elsewhere).exit_code == 5
