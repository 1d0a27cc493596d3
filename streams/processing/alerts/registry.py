"""The alert rules: one line a rule. Settings, metrics, documents and the state in stored rows follow from it."""

from __future__ import annotations

from streams.processing.alerts.refund_burst import RefundBurst
from streams.processing.alerts.request_rate import RequestRate
from streams.processing.alerts.rule import AlertRule
from streams.processing.alerts.spend import Spend
from streams.processing.alerts.unusual import Unusual

# In the order of their slots: alerts of one step are numbered in this order.
RULES: tuple[type[AlertRule], ...] = (
    RequestRate,
    Spend,
    RefundBurst,
    Unusual,
)
NAMES = tuple(rule.name for rule in RULES)


# pydantic takes the fields of the last base first
class AlertSettings(*[rule.Settings for rule in reversed(RULES)]):  # type: ignore[misc]
    """Thresholds of the alert rules (warning, critical); false switches a rule off. Money in major units."""


def rules_from(settings: AlertSettings) -> tuple[AlertRule, ...]:
    """All rules with their thresholds, those that are off among them; in the order of RULES."""
    return tuple(rule.from_settings(settings) for rule in RULES)


def default_rules() -> tuple[AlertRule, ...]:
    """All rules with the thresholds of the default settings."""
    return rules_from(AlertSettings())
