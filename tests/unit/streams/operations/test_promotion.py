"""What `shoal models promote` makes of the log: who is judged by, what candidates are made from, what is refused."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from online_models.encoder.encoder import Encoder, build
from online_models.encoder.encoder_file import Layer
from online_models.holdout import in_holdout
from online_models.learner import control_messages
from online_models.learner.control_messages import ControlMessage
from online_models.learner.learner import Learner, LearnerParams
from online_models.training_rows import OUTCOME_ROW, SAMPLE_ROW, TrainingRows, join
from online_models.version import Version
from state import features
from streams.errors import DataError
from streams.kafka.training_log import WIDTH, Chunk
from streams.operations.promotion import Evidence, evaluate_on
from tests.build import training_rows

DAY = 86_400_000
CARTS = features.R + features.R + [one.name for one in features.PLAIN].index("carts_7d")  # a column of the raw matrix


def shop(users: int = 900, days: int = 24) -> TrainingRows:
    """Every third user has a full cart in the features, and of those half buy each day; each has a row a day."""
    rng = np.random.default_rng(1)
    user = np.tile(np.arange(users), days)
    raw = np.ones((len(user), WIDTH))
    raw[:, CARTS] = np.where(user % 3 == 0, 4.0, 0.0) + rng.normal(0, 0.05, len(user))
    raw[:, CARTS + 1] = (user % 2) * 3.0  # which says nothing
    names = rng.integers(0, 256, (users, 16), dtype=np.uint8).view("V16")[:, 0]
    rows = training_rows(raw, np.repeat(np.arange(days) * DAY, users) + user)
    buys = (user % 3 == 0) & (rng.random(len(user)) < 0.5)
    bought = np.cumsum(buys.reshape(days, users), axis=0).reshape(-1)
    return replace(rows, user=names[user], orders=bought, sessions=np.repeat(np.arange(days), users) + 1)


class Given(Chunk):
    """Records that are rows already."""

    given: TrainingRows

    def rows(self) -> TrainingRows:
        return self.given


def chunk(rows: TrainingRows, *found: tuple[bytes, bytes]) -> Chunk:
    made = Given(0, 10, [key for key, _ in found], [value for _, value in found], [0] * len(found))
    made.given = rows
    return made


def looking_at(column: int, version: Version, seed: int = 3) -> Encoder:
    """An encoder whose embedding is one feature and a little of another."""
    down = np.zeros((2, len(version.names)), np.float32)
    down[0, column], down[1, column + seed % 2] = 1.0, 0.1
    back = Layer(np.zeros((len(version.names), 2), np.float32), np.zeros(len(version.names), np.float32))
    return build(version.names, version.scaler, [Layer(down, np.zeros(2, np.float32))], [back], far=1.0)


@pytest.fixture(scope="module")
def rows() -> TrainingRows:
    return shop()


@pytest.fixture(scope="module")
def version(rows: TrainingRows) -> Version:
    """Two segments on the windows."""
    some = rows.take(slice(0, 900))
    params = LearnerParams(2, 2, 900, 10**6, 1 << 60, 900, 1, features.R, list(features.NAMES))
    (found,) = Learner.start(params).learn(some)
    return found


def evidence(rows: TrainingRows, window: int = 6_000) -> Evidence:
    found = Evidence(window)
    for a in range(0, len(rows), 2_000):
        found.take(chunk(rows.take(slice(a, a + 2_000))))
    return found


def test_users_are_judged_by_or_made_from_never_both(rows: TrainingRows) -> None:
    mixed = replace(rows, kind=np.where(np.arange(len(rows)) % 5 == 0, OUTCOME_ROW, SAMPLE_ROW).astype(np.int8))
    found = evidence(mixed, window=3_000)
    held, made = join(found.holdout_rows), join(found.model_rows)
    assert in_holdout(held.user).all()
    assert len(held) == in_holdout(rows.user).sum()  # all of them, carts and purchases too
    assert not in_holdout(made.user).any()
    assert (made.kind == SAMPLE_ROW).all()
    assert 3_000 <= len(made) < 6_000  # the newest
    assert made.offset[-1] == mixed.offset[~in_holdout(mixed.user) & (mixed.kind == SAMPLE_ROW)][-1]


def test_the_newest_candidate_that_can_be_read_counts(version: Version) -> None:
    found, column = Evidence(10), len(version.names) - 3
    one, two = (looking_at(column, version, seed) for seed in (2, 3))
    none = training_rows(np.zeros((0, WIDTH)))

    def offered(data: bytes) -> tuple[bytes, bytes]:
        return control_messages.KEY, control_messages.encode(ControlMessage("candidate", "r", encoder=data))

    found.take(chunk(none, offered(one.data), (b"k" * 16, b"row"), offered(two.data)))
    assert found.candidate == two
    rollback = control_messages.encode(ControlMessage("rollback", "r"))
    others = (control_messages.KEY, b"{"), (control_messages.KEY, rollback)
    found.take(chunk(none, offered(b"rubbish"), *others))
    assert found.candidate == two


def test_an_embedding_that_sees_who_buys_is_promoted_where_its_churn_is_accepted(
    rows: TrainingRows, version: Version
) -> None:
    blind = msgspec.structs.replace(version, centre_bytes=blinded(version).astype("<f8").tobytes())
    seeing = looking_at(len(version.names) - 4, version)  # carts_7d
    found = evaluate_on(evidence(rows), blind, "embedding", seeing, 7, 0.05, True)
    assert found.verdict.promoted, found.verdict.why
    assert found.verdict.prediction is not None
    assert found.verdict.prediction.gains["bought"].low > 0
    assert found.turned is None
    told = found.to_dict()
    assert (told["space"], told["encoder"]) == ("embedding", seeing.ident)
    assert told["promoted"] is True
    refused = evaluate_on(evidence(rows), blind, "embedding", seeing, 7, 0.05, False).verdict
    assert not refused.promoted
    assert "refused" in refused.why


def blinded(version: Version) -> np.ndarray:
    """Centres that see the column alone that says nothing."""
    centres = np.zeros_like(version.centres)
    centres[:, len(version.names) - 3] = [-1.0, 1.0]
    return centres


def test_an_embedding_over_an_embedding_is_held_against_the_windows_too(rows: TrainingRows, version: Version) -> None:
    old, new = (looking_at(len(version.names) - one, version) for one in (3, 4))  # blind, seeing
    now = msgspec.structs.replace(
        version,
        space="embedding",
        encoder=old,
        centre_bytes=np.array([[-1.0, 0.0], [1.0, 0.0]]).astype("<f8").tobytes(),
    )
    found = evaluate_on(evidence(rows), now, "embedding", new, 7, 1.0, True)
    assert found.verdict.baseline is not None
    assert found.turned is not None
    assert 0 <= found.turned <= 1
    back = evaluate_on(evidence(rows), now, "windows", old, 7, 1.0, True)
    assert back.verdict.promoted  # the embedding is no better


def test_nothing_is_judged_without_rows(version: Version) -> None:
    found = Evidence(10)
    found.take(chunk(training_rows(np.zeros((0, WIDTH)))))
    with pytest.raises(DataError, match="no training rows"):
        evaluate_on(found, version, "windows", None, 7, 0.05, False)
