"""The documents' table of ACLs, the grants of the secured test, and what a worker asks for are the same."""

from __future__ import annotations

import re
from pathlib import Path

from streams.config.settings import load
from streams.kafka.acl_check import required_operations
from streams.kafka.topics import specs
from tests.support.acls import GRANTS, Grant

PAGE = Path(__file__).parents[4] / "docs" / "how-to" / "security.md"


def table() -> list[Grant]:
    """The lines of the page, one for each name."""
    text = PAGE.read_text(encoding="utf-8").split("| who | resource | name | operations |\n")[1].split("\n\n")[0]
    found = []
    for row in text.splitlines()[1:]:
        role, resource, names, operations = (cell.strip() for cell in row.strip("|").split("|"))
        found += [
            Grant(role, resource, name, tuple(operations.split(", "))) for name in re.findall(r"`([^`]+)`", names)
        ]
    return found


def test_the_page_lists_what_the_secured_test_grants() -> None:
    assert sorted(table()) == sorted(GRANTS)


def test_a_worker_is_granted_what_it_asks_for_and_no_more() -> None:
    asked = required_operations(load(environ={}))
    granted = {
        one.name: {operation.upper() for operation in one.operations} - {"DESCRIBECONFIGS"}
        for one in GRANTS
        if one.role == "worker" and one.resource == "topic"
    }
    assert granted == asked


def test_worker_and_operator_are_granted_something_on_every_topic() -> None:
    names = {spec.name for spec in specs(load(environ={}))}
    for role in ("worker", "operator"):
        assert {one.name for one in GRANTS if one.role == role and one.resource == "topic"} == names
