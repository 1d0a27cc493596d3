"""A learner that finds how many segments there are and names them by their people; versions that are refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from online_models.holdout import in_holdout
from online_models.learner.learner import Learner
from online_models.segment_ids import NO_SEGMENT
from online_models.training_rows import FIRST_DAY_ROW as DAYS_END
from online_models.training_rows import OUTCOME_ROW, SAMPLE_ROW, TrainingRows
from online_models.version import dumps, loads
from tests.build import training_rows
from tests.people import DAY, HOUR, PARAMS, L, R, learned, rows_in_time, users
from tests.processes import under_hash_seeds


@pytest.mark.parametrize("kinds", [3, 5])
def test_as_many_segments_are_found_as_there_are_kinds(kinds: int) -> None:
    versions = learned(rows_in_time(kinds, 900))
    assert {len(one.ids) for one in versions} == {kinds}
    assert {tuple(one.ids) for one in versions} == {tuple(range(kinds))}
    assert {one.event for one in versions[0].lineage} == {"born"}
    assert not any(one.lineage for one in versions[1:])


def test_a_new_kind_is_born_under_an_id_of_its_own() -> None:
    versions = learned(rows_in_time(3, 1_500, new_from=600))
    said = [(one.event, one.segment) for version in versions[1:] for one in version.lineage]
    assert said == [("born", 3)]
    assert (sorted(versions[-1].ids), versions[-1].next_id) == ([0, 1, 2, 3], 4)
    (born,) = [one for version in versions[1:] for one in version.lineage]
    assert born.parents[0][0] == NO_SEGMENT
    assert born.people >= 10


def test_a_fixed_number_stays() -> None:
    fixed = msgspec.structs.replace(PARAMS, k_least=4, k_most=4)
    assert {len(one.ids) for one in learned(rows_in_time(7, 900), fixed)} == {4}


def test_people_held_out_have_no_part_in_scalers_and_centres() -> None:
    rows = rows_in_time(4, 300)
    out = in_holdout(rows.user)
    assert 0 < out.sum() < 200
    other = rows.raw.copy()
    other[out] += 1.0
    fixed = msgspec.structs.replace(PARAMS, k_least=4, k_most=4)
    (one,), (two,) = (learned(given, fixed) for given in (rows, replace(rows, raw=other)))
    assert (one.scaler, one.centre_bytes) == (two.scaler, two.centre_bytes)
    assert one.quality != two.quality


def test_held_out_people_have_no_part_in_centres_that_are_carried_on() -> None:
    rows = rows_in_time(4, 600)
    other = rows.raw.copy()
    other[in_holdout(rows.user)] += 0.5
    fixed = msgspec.structs.replace(PARAMS, k_least=4, k_most=4, first_rows=150)
    one, two = (learned(given, fixed)[1] for given in (rows, replace(rows, raw=other)))
    assert (one.scaler, one.centre_bytes, one.weights) == (two.scaler, two.centre_bytes, two.weights)


def test_after_a_silence_a_version_waits_for_the_people_to_come_back() -> None:
    rows = rows_in_time(4, 1_500)
    silent = replace(rows, now=rows.now + np.where(np.arange(1_500) >= 900, 9 * DAY, 0))
    often = msgspec.structs.replace(PARAMS, every_rows=1_500, every_ms=6 * HOUR)
    versions = learned(silent, often)
    first = next(one for one in versions if one.event_time > silent.now[899])
    assert first.rows >= 900 + 50
    assert {len(one.ids) for one in versions} == {4}
    assert not any(one.lineage for one in versions[1:])


def test_a_number_that_is_out_of_bounds_is_brought_within_them() -> None:
    rows = rows_in_time(5, 900)
    (first, *_) = learned(rows)
    for least, most in ((3, 3), (7, 8)):
        params = msgspec.structs.replace(PARAMS, k_least=least, k_most=most)
        (second, *_) = Learner.resume(first, params).learn(rows.take(slice(first.learned_to, None)))
        assert least <= len(second.ids) <= most
        assert len({*second.ids}) == len(second.ids)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hysteresis": -0.1}, "hysteresis"),
        ({"hysteresis": float("nan")}, "hysteresis"),
        ({"ids": [0, 0, 1]}, "ids"),
        ({"ids": [-1, 0, 1]}, "ids"),
        ({"ids": [0, 1, 1 << 31], "next_id": 1 << 40}, "ids"),
        ({"weights": [0.5, 0.5]}, "weights"),
        ({"weights": [float("nan"), 0.5, 0.5]}, "weights"),
        ({"centre_bytes": np.full(3 * (R + L), np.nan).tobytes()}, "centres"),
        ({"quality": {"x": np.inf}}, "figures"),
        *(({"scaler": {name: [1.0]}}, "other features") for name in ("prior", "strength", "spread", "weight")),
        ({"scaler": {"clip": -1.0}}, "no scaling"),
        ({"scaler": {"spread": [0.0] * (R + L)}}, "no scaling"),
        ({"scaler": {"median": [float("nan")] * (R + L)}}, "no scaling"),
        ({"ratios": R + 1}, "features"),
    ],
)
def test_a_version_with_numbers_that_are_none_is_refused(changes: dict[str, Any], why: str) -> None:
    (version,) = learned(rows_in_time(3, 300))
    if isinstance(scaled := changes.get("scaler"), dict):
        changes = {"scaler": msgspec.structs.replace(version.scaler, **scaled)}
    with pytest.raises(ValueError, match=why):
        loads(dumps(msgspec.structs.replace(version, **changes)))


def test_without_a_state_nobody_goes_on() -> None:
    (version,) = learned(rows_in_time(3, 300))
    with pytest.raises(ValueError, match="no state to go on from"):
        Learner.resume(msgspec.structs.replace(version, state=b""), PARAMS)


@pytest.mark.parametrize("name", ["kmeans", "dbstream", "clustream", "denstream"])
def test_any_segmenter_makes_versions_that_whoever_resumes_goes_on_from(name: str) -> None:
    params = msgspec.structs.replace(PARAMS, segmenter=name)
    rows = rows_in_time(4, 900)
    versions = learned(rows, params)
    assert len(versions) == 5
    assert all(params.k_least <= len(one.ids) <= params.k_most for one in versions)
    assert all(len(set(one.ids)) == len(one.ids) and max(one.ids) < one.next_id for one in versions)
    data = dumps(versions[1])
    again = Learner.resume(loads(data), params)
    rest = again.learn(rows.take(slice(versions[1].learned_to, None)))
    assert [dumps(one) for one in rest] == [dumps(one) for one in versions[2:]]


def everything() -> TrainingRows:
    """Records of all kinds: eight visits of each of 600 new users, with a cart or a purchase, and its day's end."""
    rng = np.random.default_rng(5)
    visit = np.tile(np.arange(10), 600)
    user = np.repeat(np.arange(600), 10)
    born = user * HOUR // 3 + 400 * DAY
    now = born + np.where(visit == 9, 25 * HOUR, visit * 2 * HOUR)
    kind = np.select([visit == 9, visit == 8], [DAYS_END, OUTCOME_ROW], SAMPLE_ROW).astype(np.int8)
    at = rng.uniform(-6, 6, (4, L))
    lines = at[(user + (visit > 4) * (user % 8 == 0)) % 4] + rng.normal(0, 0.4, (6_000, L))  # some become others
    order = np.argsort(now, kind="stable")
    rows = training_rows(np.c_[1.0 + rng.poisson(2, (6_000, 2 * R)), lines][order], now[order])
    bought = np.cumsum((visit == 8) & (user % 3 == 0))
    return replace(
        rows,
        kind=kind[order],
        born=born[order],
        user=users(600)[user[order]],
        sessions=1 + visit[order],
        carts=bought[order],
        orders=bought[order],
    )


def digest() -> str:
    found = [dumps(one) for one in learned(everything(), msgspec.structs.replace(PARAMS, every_rows=900))]
    last = loads(found[-1])
    assert last.first_day is not None
    assert last.propensity is not None
    assert len(found) == 6
    return hashlib.sha256(b"".join(found)).hexdigest()


@pytest.mark.slow
def test_any_hash_seed_gives_the_same_bytes() -> None:
    code = "from tests.unit.online_models.learner.test_learner import digest; print(digest())"
    assert under_hash_seeds(code, 0, 1, 7, 1234, 99999) == {digest()}
