"""What an alert rule is: the protocol, what a rule may look at, and the types of its settings."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from online_models.encoder.encoder import Encoder
from state import windows
from state.compiled import compiled
from state.layout import Ints
from state.vocabulary import VOCABULARY

if TYPE_CHECKING:
    from streams.processing.alerts.spend import ShopHistory

LEVELS = ("none", "warning", "critical")  # the place of one is its number
Levels = NDArray[np.uint8]  # (s,) a level for each step
Number = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


def _not_falling(thresholds: tuple[float, float] | None) -> tuple[float, float] | None:
    if thresholds and thresholds[0] > thresholds[1]:
        raise ValueError("the warning must not lie above the critical level")
    return thresholds


# TOML has no null; a validator in Python is handed a list, and its strict check wants a tuple
_FALSE_IS_OFF = BeforeValidator(
    lambda value: None if value is False else tuple(value) if isinstance(value, list) else value
)
# Types of settings: (warning, critical), None where the rule is off, which is `false` in shoal.toml.
NumberThresholds = Annotated[tuple[Number, Number] | None, _FALSE_IS_OFF, AfterValidator(_not_falling)]
CountThresholds = Annotated[tuple[Count, Count] | None, _FALSE_IS_OFF, AfterValidator(_not_falling)]


class RuleSettings(BaseModel):
    """The settings of a rule: fields of the section [alerts]. A docstring below a field is its meaning in the
    reference."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class AlertRule(Protocol):
    """A rule with its thresholds. It looks at each step of a user's history by itself and gives it a level; whether a
    change of level opens, updates or resolves an alert is not its affair (`level_changes.py`)."""

    name: ClassVar[str]
    """In alert records, metrics and documents."""
    slot: ClassVar[int]
    """Where the rule's state is in a stored row; no other rule has it, and it never changes once it is released."""
    Settings: ClassVar[type[RuleSettings]]

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Any) -> Self:
        """The rule from the section [alerts], which has the fields of `Settings`. Thresholds of money become minor
        units here."""

    @abstractmethod
    def levels(self, steps: JudgedSteps) -> Levels:
        """(s,) the place in LEVELS for each step; zeros where the rule is off."""

    @abstractmethod
    def evidence(self, step: JudgedStep) -> dict[str, object]:
        """What led to the level, for the alert record; money in major units."""

    @abstractmethod
    def thresholds(self, step: JudgedStep) -> dict[str, object]:
        """What the evidence is compared with, for the alert record; money in major units."""


@dataclass(frozen=True)
class JudgedSteps:
    """What a rule may look at: s steps, sorted by row and time."""

    windows: NDArray[np.int64]  # (s, 4, measures) sums over the windows, as state/history.py::Steps has them
    event: Ints  # (s,) index of the event; below 0 history.SWAP, EXIT, FORGOTTEN, ERASED
    shop: ShopHistory  # what the shop's shoppers spend
    features: NDArray[np.float64]  # (s, width) raw features
    encoder: Encoder | None = None  # of the model version in force

    def __len__(self) -> int:
        return len(self.event)

    def total(self, window: str, *measures: str) -> Ints:
        """(s,) the sum of measures over a window ("1h", "24h", "7d", "30d"); ValueError for an unknown name."""
        return _total(self.windows, window, measures)

    def quiet(self) -> Levels:
        """(s,) zeros: no alert."""
        return np.zeros(len(self), np.uint8)

    @cached_property
    def reconstruction_error(self) -> NDArray[np.float64] | None:
        """(s,) how badly the encoder reconstructs each step's features; None where there is no encoder."""
        return None if self.encoder is None else self.encoder.unusual(self.features)


@dataclass(frozen=True, slots=True)
class JudgedStep:
    """One of the steps: that of an alert."""

    steps: JudgedSteps
    index: int

    def total(self, window: str, *measures: str) -> int:
        """The sum of measures over a window."""
        sums = self.steps.windows[self.index, windows.WINDOWS.index(window)]
        return sum(int(sums[column]) for column in _columns(measures))

    @property
    def reconstruction_error(self) -> float | None:
        errors = self.steps.reconstruction_error
        return None if errors is None else float(errors[self.index])


def _total(sums: NDArray[np.int64], window: str, measures: tuple[str, ...]) -> Ints:
    total = np.empty(len(sums), np.int64)
    _add_columns(sums, windows.WINDOWS.index(window), _columns(measures), total)
    return total


@cache
def _columns(measures: tuple[str, ...]) -> Ints:
    return np.array(VOCABULARY.columns(measures), np.int64)


@compiled
def _add_columns(sums: NDArray[np.int64], window: int, columns: Ints, total: Ints) -> None:
    """Set total (s,) to the sum of columns of a window; sums (s, 4, measures)."""
    for step in range(len(total)):
        total[step] = 0
    for column in columns:
        for step in range(len(total)):
            total[step] += sums[step, window, column]


def levels_at_least(values: NDArray[Any], thresholds: tuple[float, float] | None) -> Levels:
    """(s,) the level that each value (s,) reaches; zeros where the thresholds are None.

    >>> levels_at_least(np.array([2, 3, 10]), (3, 10)).tolist()
    [0, 1, 2]
    """
    if thresholds is None:
        return np.zeros(len(values), np.uint8)
    warning, critical = thresholds
    return (values >= warning).astype(np.uint8) + (values >= critical)
