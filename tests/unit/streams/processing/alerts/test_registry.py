"""What the registry lists fits together: names, slots in stored rows, settings."""

from __future__ import annotations

import importlib

from state.rows import CODEC
from streams.processing.alerts.registry import NAMES, RULES, AlertSettings

# The slots of released rules. Rows of users hold what each rule last said under its slot: no line here may change.
RELEASED = {"request_rate": 0, "spend": 1, "refund_burst": 2, "unusual": 3}


def test_slots_are_distinct_in_order_and_in_a_stored_row() -> None:
    slots = [rule.slot for rule in RULES]
    assert slots == sorted(set(slots))
    assert set(slots) <= set(range(CODEC.layout.alert_slots))


def test_the_slots_of_released_rules_never_change() -> None:
    assert {rule.name: rule.slot for rule in RULES if rule.name in RELEASED} == RELEASED


def test_names_are_distinct_and_those_of_the_modules() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for rule in RULES:
        assert rule is getattr(importlib.import_module(f"streams.processing.alerts.{rule.name}"), rule.__name__)


def test_each_setting_belongs_to_one_rule_and_names_it() -> None:
    fields = [(name, rule.name) for rule in RULES for name in rule.Settings.model_fields]
    assert [name for name, _ in fields] == list(AlertSettings.model_fields)
    for name, rule in fields:
        assert (AlertSettings.model_fields[name].description or "").startswith(f"Rule `{rule}`: "), name
