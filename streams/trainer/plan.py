"""How an encoder is trained, by the settings, and what a training was, in JSON types."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import msgspec

from streams.config.settings import Settings
from streams.errors import SettingsError

if TYPE_CHECKING:
    from online_models.encoder.autoencoder import Plan, Report


def plan(settings: Settings) -> Plan:
    """The settings' plan; SettingsError where torch is missing or does not find the device."""
    chosen = settings.trainer
    try:
        import torch

        from online_models.encoder.autoencoder import Plan
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is missing: pip install 'shoal[embeddings]'") from None
    if chosen.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("trainer.device: torch finds no CUDA here")
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    return Plan(**{one.name: getattr(chosen, one.name) for one in fields(Plan) if hasattr(chosen, one.name)})


def told(report: Report) -> dict[str, Any]:
    """A report as JSON types."""
    found: dict[str, Any] = msgspec.to_builtins(report)
    return found | {"epoch_seconds": report.epoch_seconds, "rows_per_second": report.rows_per_second}
