"""Side models: what is learned beside the segments, behind one protocol.

The learner feeds every side model with the rows of the log, a version carries what each has published, and tables ask
each for its columns. Another one is a module with a SideModel and its SideLearner, and a line in registry.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.distances import Floats
from online_models.training_rows import Ints, TrainingRows

if TYPE_CHECKING:
    from online_models.version import Version

Model = TypeVar("Model")
Published = TypeVar("Published", covariant=True)


class Column(NamedTuple):
    """A column of a table; its name is published."""

    name: str
    dtype: type[np.float32] | type[np.int32]


class Values(NamedTuple):
    """A column of n shoppers."""

    values: Floats | Ints  # (n,)
    unknown: NDArray[np.bool_]  # (n,) where nothing is said: null in a table


class Shoppers(NamedTuple):
    """What tables know of n shoppers; times in ms."""

    raw: Floats  # (n, 2R + L)
    segment: NDArray[np.int32]  # (n,) id, NO_SEGMENT for none
    now: int
    last: Ints  # (n,) newest event
    born: Ints  # (n,) first event, floored to five minutes; 0: not known


class SideLearner(Protocol[Published]):
    """A fold over rows in log order, however they are cut into calls: `learn` all rows between two versions, then
    `publish` what the next one says."""

    def learn(self, rows: TrainingRows, version: Version | None) -> None:
        """All kinds of rows in log order, and the version that was in force when they came, None before the first."""

    def publish(self, version: Version) -> Published | None:
        """What the next version, given without its side models, says; None from too few rows."""

    def state(self) -> bytes:
        """What SideModel.resume goes on from, together with the model published last."""

    def figures(self) -> dict[str, float]:
        """How good the predictions were, by name; part of a version's quality, so the names are published."""


class SideModel(Protocol[Model]):
    """One kind of side model."""

    @property
    def name(self) -> str:
        """Under which models and states are stored; it never changes."""

    @property
    def model(self) -> type[Model]:
        """A msgspec struct: what a version carries."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of tables."""

    def check(self, model: Model, version: Version) -> None:
        """ValueError, with the reason, where a model is damaged or does not fit the rest of its version."""

    def start(self, ratios: int) -> SideLearner[Model]:
        """A learner that has learned nothing, for raw rows (2R + L) with R ratios."""

    def resume(self, state: bytes, model: Model | None, ratios: int) -> SideLearner[Model]:
        """Go on from the state and model of a version: as if the learner had never stopped."""

    def predict(self, model: Model, version: Version, shoppers: Shoppers) -> list[Values]:
        """What a version's model says of n shoppers, by column. Elementwise."""


# the attributes of the models, and of the learner's states, that have a field of their own in a stored version; those
# of all other names lie in its field `side_models`
OWN_FIELDS = {"young": "first_day", "propensity": "propensity"}


def to_fields(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Parts by the side models' names -> the fields of a struct that stores them, by attribute."""
    own = {OWN_FIELDS[name]: part for name, part in parts.items() if name in OWN_FIELDS}
    others = {name: part for name, part in parts.items() if name not in OWN_FIELDS and part is not None}
    # a field that is UNSET is not written, so that versions without other side models keep their bytes
    return own | {"side_models": others or msgspec.UNSET}


def from_fields(stored: Any, name: str) -> Any:
    """The part of a side model in a struct that stores them; None where there is none."""
    if name in OWN_FIELDS:
        return getattr(stored, OWN_FIELDS[name])
    return None if stored.side_models is msgspec.UNSET else stored.side_models.get(name)
