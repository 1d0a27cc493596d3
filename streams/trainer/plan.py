"""How an encoder is trained, from the settings; the report of a training, in JSON types."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import msgspec

from streams.config.settings import Settings
from streams.errors import SettingsError

if TYPE_CHECKING:
    from online_models.encoder.autoencoder import Plan, Report


def training_plan(settings: Settings) -> Plan:
    """The plan of a training. SettingsError where torch is missing or does not find the device."""
    trainer = settings.trainer
    try:
        import torch

        from online_models.encoder.autoencoder import Plan
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is missing: pip install 'shoal[embeddings]'") from None
    if trainer.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("trainer.device: torch finds no CUDA here")
    if trainer.threads:
        torch.set_num_threads(trainer.threads)
    return Plan(**{field.name: getattr(trainer, field.name) for field in fields(Plan) if hasattr(trainer, field.name)})


def report_to_json(report: Report) -> dict[str, Any]:
    """A report in JSON types."""
    values: dict[str, Any] = msgspec.to_builtins(report)
    return values | {"epoch_seconds": report.epoch_seconds, "rows_per_second": report.rows_per_second}
