"""Settings [trainer]: how `shoal train` trains an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from streams.config.sections.section import Section


class TrainerSettings(Section):
    """When `shoal train` trains an encoder, from how many rows, and how."""

    datadir: Path = Path(".shoal/trainer")
    """Folder of the trainer's rows and of the last encoder."""
    window: Annotated[int, Field(ge=1_000, le=10**8)] = 1_000_000
    """Newest training rows that the trainer keeps."""
    first_rows: Annotated[int, Field(ge=200, le=10**8)] = 2_000
    """Training rows before the first training; at most `trainer.window`."""
    every: Annotated[float, Field(gt=0, le=31_536_000)] = 3_600.0
    """Seconds between two trainings."""
    drift: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """Significance level of the drift detector (ADWIN's delta)."""
    promote: bool = True
    """Whether each candidate is judged, and a better one promoted."""
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(max_length=7)] = (32,)
    """Units of the hidden layers."""
    latent: Annotated[int, Field(ge=1, le=256)] = 8
    """Dimensions of the embedding."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 30
    """Epochs of a training."""
    batch: Annotated[int, Field(ge=64, le=1 << 20)] = 4_096
    """Rows of a training batch."""
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share of the features that is hidden from the autoencoder."""
    clusters: Annotated[int, Field(ge=0, le=256)] = 0
    """Clusters of the clustering term; below 2 there is no such term."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 7
    """Seed of the training."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where torch trains; `auto` takes CUDA where there is one."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads of torch; 0 leaves the number to torch."""

    @model_validator(mode="after")
    def _check_window(self) -> TrainerSettings:
        if self.first_rows > self.window:
            raise ValueError("trainer.first_rows must be at most trainer.window")
        return self
