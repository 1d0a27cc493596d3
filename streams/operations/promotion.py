"""Promotion and rollback, as `shoal models` orders them: judged on what lies in the topics, decided by the learner."""

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
class Judged:
    """What is to be ordered, and what speaks for it."""

    space: Space
    encoder: Encoder | None  # of the candidate
    verdict: Verdict
    turned: float | None  # share of the old embedding's variance that the new one, rotated onto it, does not explain

    def told(self) -> dict[str, Any]:
        found = {"space": self.space, "encoder": self.encoder.ident if self.encoder else None, "turned": self.turned}
        return found | msgspec.to_builtins(self.verdict)


@dataclass(slots=True)
class Evidence:
    """What training-rows hold: the newest rows of those that models are made from, all of those held out, and the
    encoder that was offered last."""

    window: int
    made_from: list[TrainingRows] = field(default_factory=list)
    held: list[TrainingRows] = field(default_factory=list)
    candidate: Encoder | None = None

    def take(self, chunk: Chunk) -> None:
        for key, value in zip(chunk.keys, chunk.values, strict=True):
            if key == control_messages.KEY:
                self._order(control_messages.decode(value))
        rows = chunk.rows()
        out = in_holdout(rows.user)
        self.held.append(rows.take(out))
        self.made_from.append(rows.take(~out & (rows.kind == SAMPLE_ROW)))
        while sum(map(len, self.made_from[1:])) >= self.window:
            del self.made_from[0]

    def _order(self, found: ControlMessage | str) -> None:
        if isinstance(found, ControlMessage) and found.action == "candidate":
            try:
                self.candidate = Encoder(found.encoder)
            except ValueError:  # the learner has refused it
                return


async def verdict(
    settings: Settings, space: Space | None = None, *, budget: float = BUDGET, accept_churn: bool = False
) -> Judged:
    """Segments in a space (the other one than now without one) against those in force. DataError where there is
    nothing to judge."""
    newest = await read_newest(settings)
    if newest is None:
        raise DataError("there is no model version yet")
    found = Evidence(settings.learner.window)
    async for chunk in training_log.read(settings):
        found.take(chunk)
    encoder = found.candidate or newest.encoder
    wanted: Space = space or ("windows" if newest.space == "embedding" else "embedding")
    if wanted == "embedding" and encoder is None:
        raise DataError("there is no encoder yet: `shoal train` makes one")
    if wanted == newest.space and (wanted == "windows" or encoder == newest.encoder):
        raise DataError(f"segments are made of the {newest.space} already")
    return judged(newest, wanted, encoder, found, settings.learner.seed, budget, accept_churn)


def judged(
    newest: Version,
    space: Space,
    encoder: Encoder | None,
    found: Evidence,
    seed: int,
    budget: float,
    accept_churn: bool,
) -> Judged:
    """The verdict on segments in a space, by the evidence. DataError where there are no rows."""
    raw = join(found.made_from).raw[-found.window :]
    if not len(raw):
        raise DataError("there are no training rows to make segments from")
    rows = join(found.held)
    came = outcomes(rows)
    made = {"candidate": change_space(newest, raw, space, encoder)}
    if newest.space == space == "embedding":
        made["windows"] = change_space(newest, raw, "windows", newest.encoder)
    names = {"candidate": f"segments on the {space}", "windows": "segments on the windows"}
    contenders = {which: contender(names[which], one, rows, came) for which, one in made.items()}
    champion = contender(f"version {newest.number}", newest, rows, came)
    result = judge(
        champion,
        contenders["candidate"],
        rows,
        came,
        baseline=contenders.get("windows"),
        budget=budget,
        accept_churn=accept_churn,
        seed=seed,
    )
    turned = None
    if encoder is not None and newest.encoder is not None and encoder != newest.encoder:
        old, new = (one.encode(one.features(raw)) for one in (newest.encoder, encoder))
        turned = procrustes(old, new)[1]
    return Judged(space, encoder, result, turned)


def order(settings: Settings, chosen: Judged, wait: float) -> dict[str, Any]:
    """Order a promotion, and the learner's answer; DataError where it refuses or does not answer in time."""
    ident = chosen.encoder.ident if chosen.space == "embedding" and chosen.encoder else ""
    verdict = msgspec.to_builtins(chosen.verdict)
    message = ControlMessage("promote", requests.request(), space=chosen.space, ident=ident, verdict=verdict)
    return _ordered(settings, message, wait)


def rollback(settings: Settings, data: bytes, wait: float) -> dict[str, Any]:
    """Order the segments of a version back, by its bytes as they stand in `models`; as order()."""
    return _ordered(settings, ControlMessage("rollback", requests.request(), version=data), wait)


def _ordered(settings: Settings, order: ControlMessage, wait: float) -> dict[str, Any]:
    answer = requests.order(settings, order, wait)
    if not answer["accepted"]:
        raise DataError(f"the learner refuses: {answer['why']}")
    return answer
