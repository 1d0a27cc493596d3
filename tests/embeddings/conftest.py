"""These tests need the extra `embeddings`: `make test-embeddings` installs it in an environment of its own."""

from importlib.util import find_spec

import pytest

for module in ("torch", "safetensors"):
    if find_spec(module) is None:
        raise pytest.UsageError(f"tests/embeddings need {module}: make test-embeddings")
