"""What versions say of users to come: refused where it is damaged, carried by changes, shown in tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from online_models.prediction.first_day import in_first_day
from online_models.prediction.propensity import VISIT
from online_models.training_rows import HOUR_MS
from online_models.version import Version, dumps, loads
from state import features
from state.stores.memory import MemoryStore
from streams.offline import feature_table
from streams.runtime import status
from tests.build import foretelling, records, task, version

START = 472_222 * HOUR_MS
MODEL = foretelling(version(1, 2))
NAN = float("nan")
WIDTH = len(features.NAMES)


def test_a_version_that_foretells_is_read_as_it_was_written() -> None:
    assert loads(dumps(MODEL)) == msgspec.structs.replace(MODEL, checksum=loads(dumps(MODEL)).checksum)


def damaged(**changes: Any) -> Any:
    """The version with parts of its models, by stored names (young__nodes__left), set or put through a function."""
    whole = msgspec.to_builtins(MODEL)
    for path, value in changes.items():
        *way, last = path.split("__")
        part = whole
        for name in way:
            part = part[int(name) if name.isdigit() else name]
        part[last] = value(part[last]) if callable(value) else value
    return msgspec.convert(whole, type(MODEL))


def at(i: int, value: float) -> Callable[[list[Any]], list[Any]]:
    return lambda column: [*column[:i], value, *column[i + 1 :]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"young__root": [0, 1]}, "different lengths"),
        ({"young__stayed": at(0, NAN)}, "share"),
        ({"young__stay": -0.1}, "share"),
        ({"young__segment": [0, 1, 3, 2]}, "ascend"),
        ({"young__segment": [-1, 1, 2, 3]}, "ascend"),
        ({"young__segment": [0, 1, 2, 4]}, "never were"),
        ({"young__root": at(2, 12)}, "root"),
        ({"young__root": at(2, -1)}, "root"),
        ({"young__nodes__left": lambda column: column[:-1]}, "different lengths"),
        ({"young__nodes__threshold": at(0, NAN)}, "finite"),
        ({"young__nodes__feature": at(0, WIDTH)}, f"feature {WIDTH} of {WIDTH}"),
        ({"young__nodes__feature": at(0, -2)}, "feature -2"),
        ({"young__nodes__left": at(3, 3)}, "branches of 3"),
        ({"young__nodes__right": at(3, 0)}, "branches of 3"),
        ({"young__nodes__right": at(3, 12)}, "branches of 3"),
        ({"young__nodes__left": at(3, 1 << 63)}, "branches of 3"),
        ({"young__nodes__label": at(1, 4)}, "leaf 1"),
        ({"young__nodes__label": at(1, -1)}, "leaf 1"),
        ({"young__nodes__label": at(0, 1 << 63)}, "branches of 0"),
        ({"young__nodes__probability": at(1, 1.5)}, "leaf 1"),
        ({"young__trees__value": []}, "trees: the probabilities"),
        ({"young__trees__value": [0.5, 0.4]}, "trees: the probabilities"),
        ({"young__staying__value": [0.5, NAN]}, "staying: the probabilities"),
        ({"young__staying__value": [0.5, 1.5]}, "staying: the probabilities"),
        ({"young__trees__high": 0.0}, "scores from 0.0 to 0.0"),
        ({"young__trees__low": float("-inf")}, "scores from -inf"),
        ({"propensity__ratios": 3}, "3 heads over 3 ratios"),
        ({"propensity__heads": [None]}, "1 heads"),
        ({"propensity__heads__0__weight": [1.0]}, "purchase_visit is not for rows"),
        ({"propensity__heads__2__mean": at(0, NAN)}, "cart has a weight that is no finite"),
        ({"propensity__heads__2__deviation": at(0, -1.0)}, "cart has a deviation"),
        ({"propensity__heads__2__length": 0.0}, "cart has a deviation or a length"),
        ({"propensity__heads__2__calibration__value": []}, "cart: the probabilities"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        loads(dumps(damaged(**changes)))


def played(model: Version, events: list[dict[str, Any]]) -> tuple[MemoryStore, list[dict[str, Any]]]:
    """Rows and changes after events in the order of their times and a sweep of what has left the windows by then."""
    store = MemoryStore()
    one = task(store)
    one.adopt(model)
    one.cut(0)
    one.continue_pass(10)
    one.add(records(events))
    one.run(0, {"clickstream": len(events)})
    while one.progress.sweeping or one.progress.swept < one.progress.watermark:
        one.sweep(10)
    flush = one.cut(0)
    assert flush is not None
    told = [json.loads(value or b"") for _, value, _ in flush.outputs[("c", 0)]]
    return store, [change["data"] for change in told]


EVENTS = [
    {"user_id": user, "event_type": kind, "event_time": START + at * HOUR_MS // 4, "price": 10.0}
    for at in range(160)
    for user, kinds in (("a", ("view", "search", "add_to_cart")), ("b", ("purchase", "page_view", "refund")))
    for kind in kinds[at % 3 :: 2]
    if user == "a" or at > 40
]


def test_changes_of_young_users_carry_where_they_end() -> None:
    later = {"user_id": "c", "event_type": "view", "event_time": START + 900 * HOUR_MS}  # what a and b did is over
    store, found = played(MODEL, [*EVENTS, later])
    born = {"a": START, "b": START + 41 * HOUR_MS // 4, "c": START + 900 * HOUR_MS}
    early = 0
    for one in found:
        now = np.datetime64(one["as_of"].rstrip("Z")).astype("M8[ms]").astype(int)
        young = bool(in_first_day(np.array([now]), np.array([born[one["user"]]]))[0])
        assert (one["predicted"] is not None) == young
        early += young
        if young:  # as the model was made: the same segment or the next, each with its own probability
            stays = one["predicted"]["segment"] == one["to"]
            assert stays or one["predicted"]["segment"] == (one["to"] + 1) % 4
            chance = MODEL.first_day.trees.apply(np.array([0.75 if stays else 0.5]))[0]
            assert one["predicted"]["probability"] == pytest.approx(chance, abs=1e-6)
    assert 5 < early < len(found)
    silent, unsaid = played(version(1, 2), [*EVENTS, later])
    assert [one | {"predicted": None} for one in found] == unsaid
    assert silent.rows == store.rows


def test_tables_and_a_users_page_show_it() -> None:
    store, _ = played(MODEL, EVENTS)
    users = [b"a", b"b"]
    rows = [store.rows[user] for user in users]
    latest = feature_table.latest(rows)
    plain = feature_table.table(users, rows, latest)
    for now, young, here in ((latest, [False, False], True), (latest + VISIT + 1, [False, False], False)):
        found = feature_table.table(users, rows, now, MODEL)
        assert found.schema == feature_table.schema(MODEL)
        assert found.column_names == [*plain.column_names, *feature_table.FORETOLD]
        assert [one is None for one in found["purchase_within_7d"].to_pylist()] == [not here] * 2  # no head of the away
        assert found["cart_next_session"].null_count == 0
        assert found["predicted_segment"].is_valid().to_pylist() == young
    assert found.drop_columns(list(feature_table.FORETOLD)).equals(feature_table.table(users, rows, latest + VISIT + 1))
    new, _ = played(MODEL, EVENTS[:40])
    shown = status.describe_user("a", new.rows[b"a"], 0, MODEL)
    line = feature_table.table([b"a"], [new.rows[b"a"]], feature_table.latest([new.rows[b"a"]]), MODEL).to_pylist()[0]
    assert shown["foretold"] == {name: line[name] for name in feature_table.FORETOLD}
    assert None not in shown["foretold"].values()
    assert 0 < line["predicted_probability"] < 1
    assert set(shown["features"]) == set(feature_table.COLUMNS)
    assert set(status.describe_user("a", new.rows[b"a"], 0, None)["foretold"].values()) == {None}
