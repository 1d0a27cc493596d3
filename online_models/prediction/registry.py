"""The side models there are, one line each."""

from __future__ import annotations

from typing import Any

from online_models.prediction.first_day import FIRST_DAY
from online_models.prediction.propensity import PROPENSITY
from online_models.prediction.side_model import SideModel

# in the order of their figures in a version's quality, which its bytes depend on
SIDE_MODELS: tuple[SideModel[Any], ...] = (
    FIRST_DAY,
    PROPENSITY,
)


def in_tables() -> list[SideModel[Any]]:
    """The side models in the order of their columns in tables: by name."""
    return sorted(SIDE_MODELS, key=lambda kind: kind.name)
