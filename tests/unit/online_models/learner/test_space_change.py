"""Segments carried over into an embedding keep their ids and their people; what a version makes of users' rows."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from online_models.assignment import assign
from online_models.encoder.encoder import build
from online_models.encoder.encoder_file import Layer
from online_models.evaluation.promotion import contender
from online_models.holdout import SHARE, in_holdout
from online_models.learner.learner import Learner, LearnerParams
from online_models.learner.space_change import change_space
from online_models.outcomes import Outcomes
from online_models.training_rows import USER
from online_models.version import Version, dumps, loads
from tests.build import training_rows

NAMES = ["a", "b", "c"]


def planted(seed: int = 1, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Rows of three plain columns, and the kind of shopper of each: four far-off ones."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 4, n)
    return np.array([[0, 0, 0], [5, 0, 1], [0, 5, 2], [5, 5, 0]])[kind] + rng.normal(0, 0.1, (n, 3)), kind


def learned(raw: np.ndarray, hysteresis: float = 0.0) -> Version:
    params = LearnerParams(4, 4, len(raw), 10**6, 1 << 60, len(raw), 3, 0, NAMES, hysteresis)
    (version,) = Learner.start(params).learn(training_rows(raw))
    return msgspec.structs.replace(version, ids=[7, 2, 9, 4], next_id=10)


def turning(version: Version, latent: int = 2) -> object:
    """An encoder that looks at the plain columns from another side."""
    rng = np.random.default_rng(4)
    down = Layer(rng.normal(0, 1, (latent, 3)).astype(np.float32), np.full(latent, 0.5, np.float32))
    up = Layer(rng.normal(0, 1, (3, latent)).astype(np.float32), np.zeros(3, np.float32))
    return build(NAMES, version.scaler, [down], [up], far=1.0)


def test_ids_stay_with_their_people_into_an_embedding_and_back() -> None:
    raw, kind = planted()
    version = learned(raw)
    encoder = turning(version)
    there = change_space(version, raw, "embedding", encoder)  # type: ignore[arg-type]
    assert (there.space, there.ids, there.next_id) == ("embedding", [7, 2, 9, 4], 10)
    assert there.centres.shape == (4, 2)
    before, after = assign(version, raw).segment, assign(there, raw).segment
    assert before.tolist() == after.tolist()
    assert loads(dumps(there)) == msgspec.structs.replace(there, checksum=loads(dumps(there)).checksum)
    back = change_space(there, raw, "windows", None)
    assert (back.space, back.encoder) == ("windows", None)
    assert assign(back, raw).segment.tolist() == before.tolist()
    for one in range(4):  # of each kind's people, whatever the space
        mine = there.ids.index(int(after[kind == one][0]))
        assert there.profile[mine] == pytest.approx(version.scaler.transform(raw)[kind == one].mean(0))
        assert there.weights[mine] == pytest.approx((kind == one).mean())


def test_the_same_rows_give_the_same_bytes() -> None:
    raw, _ = planted()
    version = learned(raw)
    assert dumps(change_space(version, raw, "windows", None)) == dumps(change_space(version, raw, "windows", None))


def test_no_embedding_without_an_encoder() -> None:
    raw, _ = planted()
    with pytest.raises(ValueError, match="no encoder"):
        change_space(learned(raw), raw, "embedding", None)


def test_a_contender_holds_users_as_the_worker_does() -> None:
    """Each user's rows one after the other, whatever lies between them in the log."""
    raw, _ = planted(2, 400)
    raw += np.random.default_rng(3).normal(0, 2, raw.shape)  # many between two segments
    version = learned(raw, hysteresis=0.4)
    user = np.random.default_rng(5).integers(0, 9, len(raw))
    rows = training_rows(raw, user=user)
    at = np.flatnonzero(np.arange(len(raw)) % 3 > 0)
    none = np.zeros(len(at), bool)
    found = contender("it", version, rows, Outcomes(at, none, none, none, none))
    held: dict[int, int] = {}
    for i, line in enumerate(at.tolist()):
        now = np.array([held.get(int(user[line]), -1)])
        segment = int(assign(version, raw[line : line + 1], np.array([0]), now).segment[0])
        held[int(user[line])] = segment
        assert version.ids[found.segment[i]] == segment
        assert found.points[i].tolist() == version.scaler.transform(raw[line : line + 1])[0].tolist()
    free = assign(version, raw[at]).segment
    assert (np.array(version.ids)[found.segment] != free).any()  # somebody was held


def test_a_fifth_of_the_pseudonyms_is_held_out_always_the_same() -> None:
    names = np.random.default_rng(1).integers(0, 256, (5_000, 16), dtype=np.uint8)
    user = names.view(USER)[:, 0]
    found = in_holdout(user)
    assert 0.17 < found.mean() < 0.23
    assert found.tolist() == (names[:, 15] < SHARE).tolist()
    assert in_holdout(user[::2]).tolist() == found[::2].tolist()
    assert len(in_holdout(user[:0])) == 0
