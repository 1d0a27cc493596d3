"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import online_models

NEEDS_TORCH = "online_models.encoder.autoencoder"
MODULES = [module.name for module in pkgutil.walk_packages(online_models.__path__, "online_models.")]


@pytest.mark.parametrize("name", [name for name in MODULES if name != NEEDS_TORCH])
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    modules = (importlib.import_module(name) for name in MODULES if name != NEEDS_TORCH)
    examples = [test for module in modules for test in finder.find(module) if test.examples]
    assert len(examples) >= 15
