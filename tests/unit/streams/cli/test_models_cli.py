"""`shoal models` and `shoal segments` over versions and rows that a test has made, without a broker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from online_models.assignment import assign
from online_models.clustering.hierarchy import super_segments
from online_models.learner.learner import Learner, LearnerParams
from online_models.lineage import Lineage
from online_models.version import Version, dumps
from state import features
from state import rows as state_rows
from state.stores.memory import MemoryStore
from streams.cli import cli
from streams.config.settings import Settings
from streams.kafka import changelog, model_store
from streams.offline import feature_table
from streams.operations import version_summary
from streams.operations.segment_moves import moves
from streams.operations.segment_profile import profiles
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.progress import Progress
from tests.build import records, stream, training_rows
from tests.support.decoding import decode

LINEAGE = [Lineage("split", 4, parents=[(1, 0.9), (-1, 0.1)], people=30), Lineage("merged", 2, heirs=[(3, 1.0)])]
LINEAGE += [Lineage("restored", 0), Lineage("retired", 1)]


def users_rows() -> dict[bytes, bytes]:
    """Users' rows after a stream of events."""
    store = MemoryStore()
    task = PartitionProcessor(
        PartitionConfig(sources=("clickstream",)),
        decode,
        store,
        Topics("changes", "segments", "alerts", "dead", "training", "receipts"),
        accept_rejects=True,
    )
    task.add(records(stream(np.random.default_rng(3), 400, 60)))
    task.run(1 << 60, {"clickstream": 400})
    return {user: row for user, row in store.rows.items() if user[:1] != b"\x00"}


def learned(rows: dict[bytes, bytes], number: int, **more: Any) -> Version:
    heads, sums = feature_table.window_sums(list(rows.values()), feature_table.latest(rows.values()))
    raw = features.raw(sums, heads["hours"].astype(np.int64))
    params = LearnerParams(4, 4, len(raw), 10**6, 1 << 60, len(raw), number, features.R, list(features.NAMES), 0.2)
    (version,) = Learner.start(params).learn(training_rows(raw))
    return msgspec.structs.replace(version, number=number, state=b"", **more)


ROWS = users_rows()
FIRST = learned(ROWS, 1)
SECOND = learned(ROWS, 2, ids=[0, 1, 3, 4], next_id=5, parent=1, lineage=LINEAGE, quality={"silhouette": 0.4})


@pytest.fixture(autouse=True)
def _topics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What lies in the topics: the first version was published with the learner's state and without it."""
    monkeypatch.chdir(tmp_path)

    async def read(settings: Settings) -> AsyncIterator[tuple[int, bytes | None]]:
        for number, data in (
            (1, dumps(msgspec.structs.replace(FIRST, state=b"x"))),
            (7, b"rubbish"),
            (7, None),
            (2, dumps(msgspec.structs.replace(SECOND, state=b"y"))),
            (1, dumps(FIRST)),
        ):
            yield number, data

    async def users(settings: Settings) -> tuple[dict[bytes, bytes], dict[int, Progress]]:
        return ROWS, {}

    async def progress(settings: Settings) -> dict[int, Progress]:
        return {0: Progress(sizes={0: 5, 3: 2, 2: 0}), 1: Progress(sizes={0: 1, 8: 4})}

    monkeypatch.setattr(model_store, "read", read)
    monkeypatch.setattr(changelog, "read", users)
    monkeypatch.setattr(changelog, "read_progress", progress)


def shoal(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="shoal")


def ok(*arguments: str) -> Result:
    shown = shoal(*arguments)
    assert shown.exit_code == 0, shown.output
    return shown


def test_list_names_the_versions_that_are_kept() -> None:
    found = json.loads(ok("models", "list", "--json").stdout)
    assert [(one["version"], one["parent"], one["segments"], one["space"]) for one in found] == [
        (1, 0, 4, "windows"),
        (2, 1, 4, "windows"),
    ]
    assert found[1]["lineage"] == [
        "4 split of 1 90%, people in no segment 10%",
        "2 merged into 3 100%",
        "0 restored",
        "1 retired into no segment",
    ]
    assert "4 split of 1 90%" in ok("models", "list").stdout


def test_show_tells_what_sets_segments_apart() -> None:
    found = json.loads(ok("models", "show", "--json").stdout)  # the newest
    assert (found["version"], found["quality"]) == (2, {"silhouette": 0.4})
    assert [one["segment"] for one in found["segments"]] == [0, 1, 3, 4]
    assert sum(one["share"] for one in found["segments"]) == pytest.approx(1, abs=0.001)
    average = np.average(SECOND.profile, axis=0, weights=SECOND.weights)
    for at, one in enumerate(found["segments"]):
        apart = SECOND.profile[at] - average
        names = [features.NAMES[i] for i in np.argsort(-np.abs(apart), kind="stable")[:3] if abs(apart[i]) >= 0.3]
        assert [feature["feature"] for feature in one["features"]] == names
    expected = super_segments(SECOND.ids, SECOND.centres, SECOND.weights)
    assert [one["super_segment"] for one in found["segments"]] == expected
    assert len(set(expected)) == 2
    for one in found["segments"]:
        same = [other["segment"] for other in found["segments"] if other["super_segment"] == one["super_segment"]]
        assert sorted([one["segment"], *one["siblings"]]) == same
    text = ok("models", "show", "1").stdout
    assert "super-segment" in text
    assert "version: 1" in text
    assert "segments 4" in text
    told = shoal("models", "show", "5")
    assert (told.exit_code, told.stderr) == (10, "shoal: error: there is no model version 5: there are 1 to 2\n")


def test_words_name_features_and_a_segment_like_all_others() -> None:
    one = {"features": [{"feature": "carts_per_view", "apart": 1.0}, {"feature": "pages_7d", "apart": -0.5}]}
    assert version_summary.words(one) == "more carts per product view, fewer pages in seven days"
    assert version_summary.words({"features": []}) == "like the average shopper"


def test_profiles_name_the_super_segment_of_each_segment() -> None:
    joined = state_rows.join(list(ROWS.values()))
    heads = joined.heads
    heads["segment"] = np.resize([0, 1, 3, 4, 8], len(heads))
    listed = {one["id"]: one for one in profiles(state_rows.cut(joined), SECOND)}
    known = zip(SECOND.ids, super_segments(SECOND.ids, SECOND.centres, SECOND.weights), strict=True)
    assert {one: listed[one]["super_segment"] for one in listed} == dict(known) | {8: None}
    assert listed[8]["siblings"] == []
    assert any(listed[one]["siblings"] for one in (0, 1, 3, 4))
    assert all(one in listed[other]["siblings"] for one in (0, 1, 3, 4) for other in listed[one]["siblings"])


def judged(old: Version, new: Version) -> dict[tuple[int, int], int]:
    """One user after the other."""
    now, found = feature_table.latest(ROWS.values()), dict[tuple[int, int], int]()
    for row in ROWS.values():
        heads, sums = feature_table.window_sums([row], now)
        raw = features.raw(sums, heads["hours"].astype(np.int64))
        a = int(assign(old, raw).segment[0])
        b = int(assign(new, raw, np.array([0]), np.array([a])).segment[0])
        found[a, b] = found.get((a, b), 0) + 1
    return found


def test_diff_counts_users_by_old_and_new_segment() -> None:
    expected = judged(FIRST, SECOND)
    told = json.loads(ok("models", "diff", "1", "2", "--json").stdout)
    assert {(one["from"], one["to"]): one["users"] for one in told["moves"]} == expected
    assert told["users"] == len(ROWS)
    assert told["changed"] == sum(number for (a, b), number in expected.items() if a != b) > 0
    assert f"{told['changed']:,} of {len(ROWS):,} users" in ok("models", "diff", "1", "2").stdout
    same = moves(sorted(ROWS.items()), feature_table.latest(ROWS.values()), SECOND, SECOND)
    assert (same.count, same.changed) == (len(ROWS), 0)


def test_export_writes_what_other_commands_take(tmp_path: Path) -> None:
    ok("models", "export", "1", "one.model")
    assert (tmp_path / "one.model").read_bytes() == dumps(FIRST)
    assert shoal("models", "export", "3", "x.model").exit_code == 10
    assert shoal("models", "export", "1", "nowhere/x.model").exit_code == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.model"]


def test_segments_that_users_are_still_in_are_listed_though_the_newest_version_has_them_not() -> None:
    found = json.loads(ok("segments", "list", "--json").stdout)
    assert {one["segment"]: one["users"] for one in found} == {0: 6, 1: 0, 3: 2, 4: 0, 8: 4}
    assert found[-1]["description"] == "of an older version"
    assert (found[-1]["super_segment"], found[-1]["siblings"]) == (None, [])
    assert found[0]["super_segment"] in (0, 1, 3, 4)
    assert "of an older version" in ok("segments", "list").stdout


@pytest.mark.parametrize("command", ["models list", "models rebuild --version 1", "models promote", "segments history"])
def test_no_broker_is_told_in_a_line(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    told = shoal("--bootstrap-servers", "127.0.0.1:1", *command.split())
    assert told.exit_code == 4, told.output
    assert "no broker at 127.0.0.1:1" in told.output
