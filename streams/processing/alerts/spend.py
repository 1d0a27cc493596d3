"""The rule `spend`: a user spends far more in 24 hours than usual, and than nearly all shoppers do; and the history of
the shop's spends that it needs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from state import history
from state.layout import Ints
from streams.processing.alerts.rule import (
    AlertRule,
    Count,
    JudgedStep,
    JudgedSteps,
    Levels,
    NumberThresholds,
    RuleSettings,
)
from streams.processing.progress import BINS, Shop

BIN_EDGES = np.array([int(2 ** (i / 4)) for i in range(BINS)], np.int64)  # lower edges of the bins, minor units
HOURS_A_WEEK = 168
UNKNOWN = np.iinfo(np.int64).max  # the shop's threshold while its history is too short: nobody spends more


class SpendSettings(RuleSettings):
    spend_factor: NumberThresholds = (10.0, 30.0)
    """Rule `spend`: spend in 24 hours as a multiple of the user's own daily spend over 30 days."""
    spend_quantile: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    """Rule `spend`: quantile of the shop's 24-hour spends that the user's must exceed."""
    spend_least: Annotated[float, Field(ge=0)] = 500.0
    """Rule `spend`: smallest spend in 24 hours, in major units."""
    spend_orders: Count = 100
    """Rule `spend`: purchases that the partition's history needs before the rule applies."""


@dataclass(frozen=True, slots=True)
class ShopHistory:
    """How much shoppers had spent in 24 hours at their purchases, as each step finds it."""

    counts: Ints  # (h, BINS) purchases by size of that spend, one line for each accounting hour of the batch
    line: Ints  # (s,) which line holds at each step; -1 at steps without an event, which are not compared with it

    @classmethod
    def none(cls, steps: int) -> ShopHistory:
        """The history of steps that are no events."""
        return cls(np.zeros((0, BINS), np.int64), np.full(steps, -1))


@dataclass(frozen=True, slots=True)
class Spend(AlertRule):
    name: ClassVar = "spend"
    slot: ClassVar = 1
    Settings: ClassVar = SpendSettings

    factor: tuple[float, float] | None  # times the user's own daily spend over 30 days
    quantile: float  # of the shop's spends
    least: int  # minor units
    orders: int  # purchases that the shop's history needs

    @classmethod
    def from_settings(cls, settings: SpendSettings) -> Spend:
        least = round(settings.spend_least * 100)
        return cls(settings.spend_factor, settings.spend_quantile, least, settings.spend_orders)

    def levels(self, steps: JudgedSteps) -> Levels:
        if self.factor is None:
            return steps.quiet()
        warning, critical = self.factor
        spend, levels = steps.total("24h", "spend"), steps.quiet()
        # an exit is not compared with the shop's threshold: that the alert opened is enough
        over_shop = (spend > self._shop_thresholds(steps.shop)) | (steps.event == history.EXIT)
        high = np.flatnonzero((spend >= self.least) & over_shop)
        own = (steps.total("30d", "spend")[high] - spend[high]) / 29.0
        levels[high] = (spend[high] > warning * own).astype(np.uint8) + ((own > 0) & (spend[high] > critical * own))
        return levels

    def evidence(self, step: JudgedStep) -> dict[str, object]:
        return {"spend_24h": step.total("24h", "spend") / 100, "spend_30d": step.total("30d", "spend") / 100}

    def thresholds(self, step: JudgedStep) -> dict[str, object]:
        shop = step.steps.shop
        line = int(shop.line[step.index])
        threshold = UNKNOWN if line < 0 else self._shop_threshold(shop.counts[line])
        return {
            "times_own_daily_spend": self.factor,
            "least": self.least / 100,
            "shop_spend_24h": None if threshold == UNKNOWN else threshold / 100,
        }

    def _shop_thresholds(self, shop: ShopHistory) -> Ints:
        """(s,) the shop's spend threshold as of each step, minor units."""
        by_line = [self._shop_threshold(counts) for counts in shop.counts]
        return np.array([*by_line, UNKNOWN], np.int64)[shop.line]  # line -1 is the last one

    def _shop_threshold(self, counts: Ints) -> int:
        """The upper edge of the bin in which the quantile of a line of counts (BINS,) lies, minor units."""
        total = int(counts.sum())
        if total < self.orders:
            return int(UNKNOWN)
        quantile_bin = int(np.searchsorted(np.cumsum(counts), self.quantile * total))
        return int(BIN_EDGES[min(quantile_bin + 1, BINS - 1)])


def update_shop_history(
    shop: Shop, hour: Ints, spend: Ints, bought: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], Ints]:
    """Count events in the shop's history, in place; an hour counts once it is over.

    hour (n,): accounting hour of each event in applied order, never falling; spend (n,): its user's spend in 24 hours,
    minor units; bought (n,): purchases. Returns the counts as the events of each hour find them (h, BINS), and which of
    these lines is that of each event (n,).
    """
    opens = np.r_[True, hour[1:] != hour[:-1]] if len(hour) else np.zeros(0, bool)
    edges = [*np.flatnonzero(opens).tolist(), len(hour)]
    counts = np.zeros((len(edges) - 1, BINS), np.int64)
    for line, (start, end) in enumerate(pairwise(edges)):
        now = int(hour[start])
        if now > shop.hour:
            weeks = now // HOURS_A_WEEK - shop.hour // HOURS_A_WEEK if shop.hour >= 0 else 0
            # the counts are halved at the edge of each week, so that the history follows the shop
            shop.closed = (np.add(shop.closed, shop.open, dtype=np.int64) >> min(weeks, 63)).tolist()
            shop.open = [0] * BINS
            shop.hour = now
        counts[line] = shop.closed
        paid = spend[start:end][bought[start:end] & (spend[start:end] > 0)]
        if len(paid):
            sizes = np.searchsorted(BIN_EDGES, paid, "right") - 1
            shop.open = (np.array(shop.open) + np.bincount(sizes, minlength=BINS)).tolist()
    return counts, np.cumsum(opens) - 1
