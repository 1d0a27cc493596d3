"""Settings [learner]: how segments are found."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from streams.config.sections.section import Positive, Section


class LearnerSettings(Section):
    """How segments are found, and when a model version is published."""

    segmenter: Literal["kmeans", "dbstream", "clustream", "denstream"] = "kmeans"
    """Clustering algorithm."""
    k_least: Annotated[int, Field(ge=2, le=64)] = 4
    """Smallest number of segments. Equal to `k_most`, the number is fixed."""
    k_most: Annotated[int, Field(ge=2, le=64)] = 16
    """Largest number of segments."""
    first_rows: Annotated[int, Field(ge=10, le=10**7)] = 300
    """Training rows before the first model version."""
    every_rows: Annotated[int, Field(ge=10, le=10**7)] = 2_000
    """Training rows between two model versions."""
    every: Annotated[float, Field(gt=0, le=31_536_000)] = 21_600.0
    """Event time in seconds after which a model version is due, once a tenth of `every_rows` has come."""
    rows_per_hour: Positive = 2_000
    """Training rows that the workers aim to send per hour of event time, over all partitions."""
    window: Annotated[int, Field(ge=100, le=15_000)] = 6_000
    """People that a model version is made from."""
    hysteresis: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """How much nearer, as a share of the distance, another centroid must be before a user moves."""
    half_life: Annotated[float, Field(gt=0, le=31_536_000)] = 129_600.0
    """Half-life in seconds of event time with which the feature scaling follows the shop."""
    clip: Annotated[float, Field(gt=0, le=100)] = 2.0
    """Bound on scaled features."""
    floor: Annotated[float, Field(gt=0, le=1)] = 0.002
    """Smallest step size of the online k-means."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 7
    """Seed of the clustering."""
    hash_key: Annotated[SecretStr, Field(min_length=1)] = SecretStr("shoal")
    """Key of the hash that replaces user ids in training rows."""

    @model_validator(mode="after")
    def _check_sizes(self) -> LearnerSettings:
        if self.k_most < self.k_least:
            raise ValueError("learner.k_most must be at least learner.k_least")
        if min(self.first_rows, self.window) < self.k_least:
            raise ValueError("learner.first_rows and learner.window must be at least learner.k_least")
        return self
