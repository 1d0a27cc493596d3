"""Promotion and rollback for `shoal models`: evaluates a candidate on the training rows, then asks the learner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from online_models.clustering.alignment import procrustes
from online_models.encoder.encoder import Encoder
from online_models.evaluation.promotion import BUDGET, Verdict, contender, judge
from online_models.holdout import in_holdout
from online_models.learner import control_messages
from online_models.learner.control_messages import ControlMessage
from online_models.learner.space_change import change_space
from online_models.outcomes import outcomes
from online_models.training_rows import SAMPLE_ROW, TrainingRows, join
from online_models.version import Space, Version
from streams.config.settings import Settings
from streams.errors import DataError
from streams.kafka import requests, training_log
from streams.kafka.training_log import Chunk
from streams.services.model_feed import read_newest


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A candidate and the verdict on it."""

    space: Space
    encoder: Encoder | None  # the candidate's
    verdict: Verdict
    turned: float | None  # share of the old embedding's variance that the new one, rotated onto it, does not explain

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON types, the fields of the verdict beside its own."""
        own = {"space": self.space, "encoder": self.encoder.ident if self.encoder else None, "turned": self.turned}
        return own | msgspec.to_builtins(self.verdict)


@dataclass(slots=True)
class Evidence:
    """What an evaluation takes from the topic of training rows."""

    window: int  # rows that a model is made from
    model_rows: list[TrainingRows] = field(default_factory=list)  # the newest rows of users that models are made from
    holdout_rows: list[TrainingRows] = field(default_factory=list)  # all rows of users in the holdout
    candidate: Encoder | None = None  # the encoder that the trainer sent last

    def take(self, chunk: Chunk) -> None:
        """Add a chunk of the topic, in the order of the log."""
        for key, value in zip(chunk.keys, chunk.values, strict=True):
            if key == control_messages.KEY:
                self._take_control(control_messages.decode(value))
        rows = chunk.rows()
        holdout = in_holdout(rows.user)
        self.holdout_rows.append(rows.take(holdout))
        self.model_rows.append(rows.take(~holdout & (rows.kind == SAMPLE_ROW)))
        while sum(len(part) for part in self.model_rows[1:]) >= self.window:
            del self.model_rows[0]

    def _take_control(self, message: ControlMessage | str) -> None:
        if isinstance(message, ControlMessage) and message.action == "candidate":
            try:
                self.candidate = Encoder(message.encoder)
            except ValueError:  # the learner refused it too
                return


async def evaluate(
    settings: Settings, space: Space | None = None, *, budget: float = BUDGET, accept_churn: bool = False
) -> Evaluation:
    """Evaluate segments made in a space against the segments in force.

    space: by default the one that is not in use. budget: largest share of users that may change segment; accept_churn
    ignores it. DataError where there is no candidate, no model version, or no training row.
    """
    newest = await read_newest(settings)
    if newest is None:
        raise DataError("there is no model version yet")
    evidence = Evidence(settings.learner.window)
    async for chunk in training_log.read(settings):
        evidence.take(chunk)
    encoder = evidence.candidate or newest.encoder
    new_space: Space = space or ("windows" if newest.space == "embedding" else "embedding")
    if new_space == "embedding" and encoder is None:
        raise DataError("there is no encoder yet: `shoal train` makes one")
    if new_space == newest.space and (new_space == "windows" or encoder == newest.encoder):
        raise DataError(f"segments are made of the {newest.space} already")
    return evaluate_on(evidence, newest, new_space, encoder, settings.learner.seed, budget, accept_churn)


def evaluate_on(
    evidence: Evidence,
    newest: Version,
    space: Space,
    encoder: Encoder | None,
    seed: int,
    budget: float,
    accept_churn: bool,
) -> Evaluation:
    """Evaluate segments made in a space on the evidence. DataError where there are no training rows."""
    raw = join(evidence.model_rows).raw[-evidence.window :]
    if not len(raw):
        raise DataError("there are no training rows to make segments from")
    holdout_rows = join(evidence.holdout_rows)
    holdout_outcomes = outcomes(holdout_rows)

    champion = contender(f"version {newest.number}", newest, holdout_rows, holdout_outcomes)
    candidate_version = change_space(newest, raw, space, encoder)
    candidate = contender(f"segments on the {space}", candidate_version, holdout_rows, holdout_outcomes)
    baseline = None
    if newest.space == space == "embedding":  # a new encoder must also do better than no encoder
        windows_version = change_space(newest, raw, "windows", newest.encoder)
        baseline = contender("segments on the windows", windows_version, holdout_rows, holdout_outcomes)
    verdict = judge(
        champion,
        candidate,
        holdout_rows,
        holdout_outcomes,
        baseline=baseline,
        budget=budget,
        accept_churn=accept_churn,
        seed=seed,
    )

    turned = None
    if encoder is not None and newest.encoder is not None and encoder != newest.encoder:
        old_embedding = newest.encoder.encode(newest.encoder.features(raw))
        new_embedding = encoder.encode(encoder.features(raw))
        _, turned = procrustes(old_embedding, new_embedding)
    return Evaluation(space, encoder, verdict, turned)


def promote(settings: Settings, evaluation: Evaluation, wait: float) -> dict[str, Any]:
    """Ask the learner to promote a candidate. Returns its answer.

    DataError where it refuses, or does not answer within `wait` seconds.
    """
    ident = evaluation.encoder.ident if evaluation.space == "embedding" and evaluation.encoder else ""
    verdict = msgspec.to_builtins(evaluation.verdict)
    message = ControlMessage("promote", requests.new_request_id(), space=evaluation.space, ident=ident, verdict=verdict)
    return _send_control(settings, message, wait)


def rollback(settings: Settings, data: bytes, wait: float) -> dict[str, Any]:
    """Ask the learner to put the segments of a version in force again.

    data: the version as it is in the topic `models`. Returns the answer; errors as in promote().
    """
    return _send_control(settings, ControlMessage("rollback", requests.new_request_id(), version=data), wait)


def _send_control(settings: Settings, message: ControlMessage, wait: float) -> dict[str, Any]:
    answer = requests.send_control(settings, message, wait)
    if not answer["accepted"]:
        raise DataError(f"the learner refuses: {answer['why']}")
    return answer
