"""The set of segments: people, what a change of it is worth, lineage, and a learner that finds how many there are."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from online_models import choice, scaler
from online_models.held_out import held_out
from online_models.learner import Learner, Params
from online_models.lineage import NOWHERE, People, tell
from online_models.panel import LOOKS, Panel
from online_models.rows import DAY as DAYS_END
from online_models.rows import OUTCOME, ROW, Rows
from online_models.structure import PATIENCE, Scene, Segments, Structure, named
from online_models.version import Version, dumps, loads
from tests.build import training_rows

DAY = 86_400_000
HOUR = 3_600_000
R, L = 2, 3
NAMES = [f"f{i}" for i in range(R + L)]
PARAMS = Params(2, 9, 300, 150, 1 << 60, 5_000, 1, R, NAMES, 0.15)


def blobs(at: list[tuple[float, float]], size: int = 60, spread: float = 0.3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([np.array(one) + rng.normal(0, spread, (size, 2)) for one in at])


def users(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 16), dtype=np.uint8).view("V16")[:, 0]


# -- lineage


def people(then: list[int], was: list[int], now: list[int], active: list[bool] | None = None) -> People:
    return People(np.array(then), np.array(was), np.array(now), np.array(active or [True] * len(now)))


def test_a_segment_of_newcomers_is_born_and_one_out_of_another_split_off() -> None:
    of_new = people([0] * 30 + [NOWHERE] * 20, [0] * 50, [0] * 30 + [5] * 20)
    (born,) = tell(of_new, [0], [0, 5])
    assert (born.event, born.segment, born.parents, born.people) == ("born", 5, [(NOWHERE, 1.0)], 20)
    (split,) = tell(people([0] * 50, [0] * 50, [0] * 30 + [5] * 20), [0], [0, 5])
    assert (split.event, split.parents) == ("split", [(0, 1.0)])
    # in a shop where most people are new, a segment of new people is nothing of its own
    (usual,) = tell(people([0] * 8 + [NOWHERE] * 42, [0] * 50, [0] * 30 + [5] * 20), [0], [0, 5])
    assert usual.event == "born"  # nobody of it is known
    (among,) = tell(people([0] * 20 + [NOWHERE] * 60, [0] * 80, [5] * 20 + [5] * 22 + [0] * 38), [0], [0, 5])
    assert among.event == "split"


def test_a_segment_whose_people_stay_away_is_retired_and_one_that_goes_over_merged() -> None:
    away = people([1] * 20 + [0] * 40, [1] * 20 + [0] * 40, [0] * 60, [False] * 16 + [True] * 44)
    (retired,) = tell(away, [0, 1], [0])
    assert (retired.event, retired.segment, retired.heirs) == ("retired", 1, [(NOWHERE, 0.8), (0, 0.2)])
    (merged,) = tell(people([1] * 20 + [0] * 40, [1] * 20 + [0] * 40, [0] * 60), [0, 1], [0])
    assert (merged.event, merged.heirs, merged.people) == ("merged", [(0, 1.0)], 20)


def test_the_first_segments_are_born() -> None:
    nobody = [NOWHERE] * 4
    assert [one.event for one in tell(people(nobody, nobody, [0, 0, 1, 1]), [], [0, 1])] == ["born", "born"]


# -- the panel


def rows_of(user: np.ndarray, now: list[int], first: float = 0.0) -> Rows:
    raw = np.arange(first, first + len(user) * (2 * R + L), dtype=float).reshape(len(user), -1) + 1
    return replace(training_rows(raw, np.array(now)), user=user)


def test_the_panel_holds_the_newest_row_of_each_person_and_comes_back_as_it_was() -> None:
    who = users(3)
    panel = Panel(2 * R + L, [0.0] * (R + L), 10)
    panel.take(rows_of(who[[0, 1, 0]], [5, 6, 7]), None)
    panel.take(rows_of(who[[2]], [9], 100.0), None)
    assert panel.user.tolist() == who.tolist()
    assert panel.now.tolist() == [7, 6, 9]
    assert panel.raw[:, 0].tolist() == [15.0, 8.0, 101.0]
    again = Panel(2 * R + L, [0.0] * (R + L), 10)
    again.restore(panel.keep(), 2 * R + L)
    for one in (panel, again):
        one.take(rows_of(who[[1]], [20], 200.0), None)
    assert msgspec.msgpack.encode(again.keep()) == msgspec.msgpack.encode(panel.keep())


def test_those_who_stay_away_leave_and_of_many_the_smallest_pseudonyms_stay() -> None:
    who = users(40)
    panel = Panel(2 * R + L, [0.0] * (R + L), 10)
    panel.take(rows_of(who, [0] * 10 + [20 * DAY] * 30), None)
    panel.age(20 * DAY, 0)
    stay = sorted(who[10:].tolist())[:10]
    assert sorted(panel.user.tolist()) == stay


def test_whom_a_version_moves_was_always_there() -> None:
    """Only what people did is their past: a version that names things anew must not look like people who moved."""
    version = learned(rows_in_time(3, 300))[-1]
    panel = Panel(2 * R + L, [0.0] * (R + L), 100)
    panel.take(rows_in_time(3, 60).take(slice(0, 60)), version)
    for day in range(3):
        panel.age(day * DAY, 0)
    held = panel.segment.copy()
    other = msgspec.structs.replace(version, ids=[100 + one for one in version.ids])
    panel.judge(other)
    assert (panel.segment == held + 100).all()
    assert (panel.before() == panel.segment).all()


# -- what a change of the set is worth


def test_people_are_judged_by_centres_that_they_had_no_part_in() -> None:
    lines = blobs([(0, 0), (5, 5)], 20)
    two = np.stack([lines[:20].mean(0), lines[20:].mean(0)])
    judged = choice.judge(lines, lines[:3], two)
    for i in range(40):
        mine = np.delete(lines[:20] if i < 20 else lines[20:], i % 20, axis=0).mean(0)
        assert judged.distance[i] == pytest.approx(((lines[i] - mine) ** 2).sum())
    assert judged.distance[40:] == pytest.approx(((lines[:3] - two[0]) ** 2).sum(1))


def scene(lines: np.ndarray, was: np.ndarray | None = None) -> Scene:
    held = np.arange(len(lines)) % 5 == 0
    none = np.zeros(len(lines), np.int64)
    label = none if was is None else was
    return Scene(lines, np.flatnonzero(~held), np.flatnonzero(held), np.ones(len(lines), bool), label, label)


def test_a_segment_that_is_two_is_split_once_that_has_lasted() -> None:
    lines = blobs([(0, 0), (6, 0), (0, 6)])
    was = np.repeat([0, 0, 7], 60)
    found = Segments(np.array([[3.0, 0.0], [0.0, 6.0]]), [0, 7], 9)
    structure = Structure(2, 5)
    for step in range(3):
        time = step * PATIENCE // 2
        revised = structure.revise(found, scene(lines, was), time, step)
        assert len(revised.ids) == (3 if step >= 2 else 2), step
    assert sorted(revised.ids)[1:] == [7, 9]
    assert revised.next_id == 10
    assert Structure(2, 2).revise(found, scene(lines, was), 0, 0).ids == [0, 7]


def test_two_segments_that_are_one_are_merged_and_the_larger_goes_on() -> None:
    lines = blobs([(0, 0), (6, 0)], 90)
    was = np.r_[np.where(lines[:90, 0] > 0.1, 3, 1), np.full(90, 2)]
    centres = np.stack([lines[was == one].mean(0) for one in (3, 1, 2)])
    structure = Structure(2, 5)
    found = Segments(centres, [3, 1, 2], 4)
    for step in range(2):
        revised = structure.revise(found, scene(lines, was), step * PATIENCE, step)
    assert sorted(revised.ids) == [1, 2]
    assert Structure(3, 5).revise(found, scene(lines, was), 0, 0).ids == [3, 1, 2]


def test_a_segment_that_its_people_left_ends() -> None:
    lines = blobs([(0, 0), (6, 0), (0, 6)])
    then = np.repeat([0, 1, 2], 60)
    left = scene(lines, np.repeat([0, 1, 1], 60))._replace(then=then)
    found = Segments(np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]]), [0, 1, 2], 3)
    assert 2 not in Structure(2, 5).revise(found, left, 0, 0).ids
    kept_up = Structure(3, 5).revise(found, left, 0, 0)  # the bound is kept: another takes its place
    assert (len(kept_up.ids), kept_up.next_id) == (3, 4)
    assert 2 not in kept_up.ids


def test_ids_stay_with_their_people_wherever_centres_lie() -> None:
    lines = blobs([(0, 0), (6, 0), (0, 6)])
    found = Segments(np.zeros((2, 2)), [4, 8], 11)
    moved = named(found, np.array([[0.0, 6.0], [6.0, 0.0], [0.0, 0.0]]), scene(lines, np.repeat([8, 4, 8], 60)))
    assert moved.ids[1] == 4
    assert sorted(moved.ids) == [4, 8, 11]
    assert moved.next_id == 12


def test_what_comes_and_goes_in_a_person_weighs_less() -> None:
    rng = np.random.default_rng(1)
    lasting, passing = rng.normal(0, 1, 400), rng.normal(0, 1, (2, 400))
    raw = np.zeros((400, 2 * R + L))
    raw[:, 2 * R], raw[:, 2 * R + 1] = lasting, passing[0]
    fitted = scaler.fit(raw, R)
    change = np.zeros(R + L)
    change[R + 1] = ((passing[0] - passing[1]) ** 2).sum() / 2
    weight = scaler.weigh(fitted, raw, 400.0, change).weight
    assert weight[R] > 0.99
    assert weight[R + 1] < 0.3
    assert scaler.weigh(fitted, raw, 0.0, change).weight == [1.0] * (R + L)


# -- the learner


def rows_in_time(kinds: int, n: int, new_from: int | None = None) -> Rows:
    """n rows, half an hour apart, of 300 people of some kinds; from a row on every third is of 75 others."""
    rng = np.random.default_rng(0)
    who, at = users(375), rng.uniform(-6, 6, (9, L))
    person = rng.integers(0, 300, n)
    kind = person % kinds
    if new_from is not None:
        late = np.arange(new_from, n, 3)
        person[late], kind[late] = rng.integers(300, 375, len(late)), kinds
    raw = np.c_[np.ones((n, 2 * R)), at[kind] + rng.normal(0, 0.4, (n, L))]
    return replace(training_rows(raw, np.arange(n) * HOUR // 2), user=who[person])


def learned(rows: Rows, params: Params = PARAMS) -> list[Version]:
    return Learner.start(params).learn(rows)


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
    assert born.parents[0][0] == NOWHERE
    assert born.people >= 10


def test_a_fixed_number_stays() -> None:
    fixed = msgspec.structs.replace(PARAMS, k_least=4, k_most=4)
    assert {len(one.ids) for one in learned(rows_in_time(7, 900), fixed)} == {4}


def test_people_held_out_have_no_part_in_scalers_and_centres() -> None:
    rows = rows_in_time(4, 300)
    out = held_out(rows.user)
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
    other[held_out(rows.user)] += 0.5
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


def test_those_who_come_stay_in_a_panel_that_is_too_small() -> None:
    who = users(60)
    panel = Panel(2 * R + L, [0.0] * (R + L), 10)
    order = np.argsort(who.view(">u8").reshape(-1, 2)[:, 0])
    panel.take(rows_of(who[order], [0] * 50 + [8 * DAY] * 10), None)
    panel.age(8 * DAY, 0)
    assert panel.active(8 * DAY).all()


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
        ({"hysteresis": -0.1}, "hysteresis"), ({"hysteresis": float("nan")}, "hysteresis"), ({"ids": [0, 0, 1]}, "ids"),
        ({"ids": [-1, 0, 1]}, "ids"), ({"ids": [0, 1, 1 << 31], "next_id": 1 << 40}, "ids"),
        ({"weights": [0.5, 0.5]}, "weights"), ({"weights": [float("nan"), 0.5, 0.5]}, "weights"),
        ({"centre_bytes": np.full(3 * (R + L), np.nan).tobytes()}, "centres"), ({"quality": {"x": np.inf}}, "figures"),
        *(({"scaler": {name: [1.0]}}, "other features") for name in ("prior", "strength", "spread", "weight")),
        ({"scaler": {"clip": -1.0}}, "no scaling"), ({"scaler": {"spread": [0.0] * (R + L)}}, "no scaling"),
        ({"scaler": {"median": [float("nan")] * (R + L)}}, "no scaling"), ({"ratios": R + 1}, "features"),
    ],
)  # fmt: skip
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


def test_a_look_a_day_tells_where_people_were() -> None:
    panel = Panel(2 * R + L, [0.0] * (R + L), 100)
    panel.take(rows_of(users(2), [0, 0]), None)
    panel.segment[:] = [1, 2]
    for day in range(LOOKS + 3):
        panel.age(day * DAY, 0)
        panel.now[:] = day * DAY
        if day == 2:
            panel.segment[0] = 9
    assert panel.before().tolist() == [9, 2]


def everything() -> Rows:
    """Records of all kinds: eight visits of each of 600 new users, with a cart or a purchase, and its day's end."""
    rng = np.random.default_rng(5)
    visit = np.tile(np.arange(10), 600)
    user = np.repeat(np.arange(600), 10)
    born = user * HOUR // 3 + 400 * DAY
    now = born + np.where(visit == 9, 25 * HOUR, visit * 2 * HOUR)
    kind = np.select([visit == 9, visit == 8], [DAYS_END, OUTCOME], ROW).astype(np.int8)
    at = rng.uniform(-6, 6, (4, L))
    lines = at[(user + (visit > 4) * (user % 8 == 0)) % 4] + rng.normal(0, 0.4, (6_000, L))  # some become others
    order = np.argsort(now, kind="stable")
    rows = training_rows(np.c_[1.0 + rng.poisson(2, (6_000, 2 * R)), lines][order], now[order])
    bought = np.cumsum((visit == 8) & (user % 3 == 0))
    return replace(
        rows, kind=kind[order], born=born[order], user=users(600)[user[order]], sessions=1 + visit[order],
        carts=bought[order], orders=bought[order],
    )  # fmt: skip


def test_any_hash_seed_gives_the_same_bytes() -> None:
    code = (
        "from hashlib import sha256; from tests.unit.test_segments import *; "
        "found = [dumps(one) for one in learned(everything(), msgspec.structs.replace(PARAMS, every_rows=900))]; "
        "last = loads(found[-1]); assert last.young and last.propensity; "
        "print(len(found), sha256(b''.join(found)).hexdigest())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env=os.environ | {"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("0", "1", "7", "1234", "99999")
    }
    assert len(told) == 1
    assert int(told.pop().split()[0]) == 6
