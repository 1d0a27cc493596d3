"""The examples in the docstrings of `state` do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import state

MODULES = [found.name for found in pkgutil.walk_packages(state.__path__, "state.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), raise_on_error=False).failed == 0


def test_there_are_examples() -> None:
    assert sum(doctest.testmod(importlib.import_module(name)).attempted for name in MODULES) >= 8
