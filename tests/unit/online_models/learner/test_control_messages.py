"""Control messages among the rows: what they lead to, and that whoever resumes after one goes on to the same bytes."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from online_models.learner.control_messages import ControlMessage
from online_models.learner.learner import Learner, LearnerParams
from online_models.training_rows import TrainingRows
from online_models.version import Version, dumps, loads
from state import features
from tests.build import random_encoder, training_rows

EVERY = 60
PARAMS = LearnerParams(4, 4, EVERY, EVERY, 1 << 60, 200, 3, features.R, list(features.NAMES), 0.1)
ENCODER = random_encoder(3)
OFFER = ControlMessage("candidate", "r1", encoder=ENCODER.data)
PROMOTE = ControlMessage("promote", "r2", ident=ENCODER.ident)
BACK = ControlMessage("promote", "r3", space="windows")


def rows(seed: int = 1, n: int = 6 * EVERY) -> TrainingRows:
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 4, n)
    width = 2 * features.R + len(features.PLAIN)
    raw = rng.poisson(1.0 + 3.0 * kind[:, None] * (np.arange(width) % 4 == kind[:, None]))
    return training_rows(raw.astype(float))


def applied(learner: Learner, message: ControlMessage, offset: int) -> Version | None:
    version, answer = learner.apply_control(message, offset)
    assert answer.accepted, answer.why
    assert (answer.request_id, answer.offset) == (message.request_id, offset)
    assert answer.version == (learner.version.number if learner.version else 0)
    return version


def refused(learner: Learner, message: ControlMessage) -> str:
    before = learner.version
    version, answer = learner.apply_control(message, 5)
    assert (version, answer.accepted, learner.version) == (None, False, before)
    return answer.why


def test_a_candidate_embeds_from_the_next_version_on_and_segments_stay_on_the_windows() -> None:
    learner, all_ = Learner.start(PARAMS), rows()
    (first,) = learner.learn(all_.take(slice(0, EVERY)))
    assert applied(learner, OFFER, EVERY) is None
    (second,) = learner.learn(all_.take(slice(EVERY, 2 * EVERY)))
    assert (first.encoder, second.encoder, second.space) == (None, ENCODER, "windows")
    assert loads(dumps(second)).encoder == ENCODER


def test_promoted_back_and_rolled_back_with_the_same_ids() -> None:
    learner, all_ = Learner.start(PARAMS), rows()
    (first,) = learner.learn(all_.take(slice(0, EVERY)))
    applied(learner, OFFER, EVERY)
    second = applied(learner, PROMOTE, EVERY)
    assert second is not None
    assert (second.number, second.parent, second.space, second.encoder) == (2, 1, "embedding", ENCODER)
    assert second.centres.shape == (4, ENCODER.latent)
    assert (second.ids, second.learned_to) == (first.ids, EVERY + 1)
    (third,) = learner.learn(all_.take(slice(EVERY, 2 * EVERY)))
    assert (third.space, third.ids) == ("embedding", first.ids)
    fourth = applied(learner, BACK, 2 * EVERY)
    assert fourth is not None
    assert (fourth.space, fourth.centres.shape) == ("windows", first.centres.shape)
    fifth = applied(
        learner, ControlMessage("rollback", "r4", version=dumps(msgspec.structs.replace(second, state=b""))), 2 * EVERY
    )
    assert fifth is not None
    assert (fifth.number, fifth.space, fifth.ids) == (5, "embedding", second.ids)
    assert fifth.centre_bytes == second.centre_bytes
    assert (fifth.rows, fifth.learned_to) == (2 * EVERY, 2 * EVERY + 1)


def test_what_does_not_fit_is_refused_with_the_reason() -> None:
    learner, all_ = Learner.start(PARAMS), rows()
    assert "no model version yet" in refused(learner, PROMOTE)
    (first,) = learner.learn(all_.take(slice(0, EVERY)))
    assert "no encoder" in refused(learner, PROMOTE)
    assert "windows already" in refused(learner, BACK)
    assert "cut short" in refused(learner, ControlMessage("candidate", "r", encoder=b"rubbish"))
    assert "no model version" in refused(learner, ControlMessage("rollback", "r", version=b"rubbish"))
    assert "does not lie before" in refused(learner, ControlMessage("rollback", "r", version=dumps(first)))
    other = msgspec.structs.replace(first, number=0, names=[*first.names[:-1], "another"])
    assert "other features" in refused(learner, ControlMessage("rollback", "r", version=dumps(other)))


@pytest.mark.parametrize("cut", [1, 7, EVERY, 1000])
def test_whoever_resumes_after_a_control_message_goes_on_to_the_same_bytes(cut: int) -> None:
    all_ = rows()
    messages: dict[int, ControlMessage] = {
        90: OFFER,
        130: PROMOTE,
        200: OFFER,
        260: BACK,
    }  # by offset, as rows have their own
    offset = np.setdiff1d(np.arange(len(all_) + len(messages)), list(messages))
    all_ = replace(all_, offset=offset, now=3_600_000 * offset)

    def play(learner: Learner, start: int) -> list[bytes]:
        found, at, end = [], start, int(offset[-1]) + 1
        while at < end:
            if at in messages:
                version, _ = learner.apply_control(messages[at], at)
                found += [dumps(version)] if version else []
                at += 1
                continue
            stop = min([at + cut, end, *(one for one in messages if one > at)])
            part = all_.take((offset >= at) & (offset < stop))
            found += [dumps(version) for version in learner.learn(part)]
            at = stop
        return found

    whole = play(Learner.start(PARAMS), 0)
    assert [loads(one).space for one in whole].count("embedding") >= 2
    assert len(whole) == 7
    for place, data in enumerate(whole[:-1]):
        version = loads(data)
        assert play(Learner.resume(version, PARAMS), version.learned_to) == whole[place + 1 :]


def test_what_a_control_message_made_says_nothing_twice_and_is_judged_where_it_lies() -> None:
    learner, all_ = Learner.start(PARAMS), rows()
    (first,) = learner.learn(all_.take(slice(0, EVERY)))
    assert first.lineage
    applied(learner, OFFER, EVERY)
    learner.learn(all_.take(slice(EVERY, EVERY + 10)))
    second = applied(learner, PROMOTE, EVERY)
    assert second is not None
    assert (second.lineage, second.rows) == ([], EVERY + 10)
    assert second.quality["error"] != first.quality["error"]
