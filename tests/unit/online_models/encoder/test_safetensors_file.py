"""The safetensors format: what the library reads and refuses, and what is written without it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.encoder import safetensors_file

NAMES = ["dtype", "shape", "data_offsets", "__metadata__", "a"]
JSON = st.recursive(
    st.one_of(st.none(), st.integers(-1, 40), st.sampled_from(["F32", "F64", "I8", "x"]), st.integers()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)),
)


@settings(max_examples=300, deadline=None)
@given(JSON, st.integers(0, 40))
def test_any_header_is_read_or_refused(header: Any, size: int) -> None:
    text = json.dumps(header).encode()
    try:
        found, metadata = safetensors_file.read(len(text).to_bytes(8, "little") + text + bytes(size))
    except ValueError:
        return
    assert sum(tensor.nbytes for tensor in found.values()) == size
    assert all(isinstance(said, str) for said in metadata.values())


@pytest.mark.parametrize(
    ("header", "body", "reason"),
    [
        ('{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}', 4, "dtype 'F16'"),
        ('{"a":{"dtype":"X","shape":[2],"data_offsets":[0,4]}}', 4, "unknown variant"),
        ('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', 4, "cut short"),
        ('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', 8, "invalid offset"),
        ('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 8, "not fully covered"),
        ('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 4, "cut short"),
        ('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', 4, "invalid value"),
        ('{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,4]}}', 4, "number out of range"),
        ('{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}', 0, "overflow"),
        ('{"a":{"dtype":"F32","shape":[1]}}', 4, "missing field"),
        ('{"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}}', 4, "invalid type"),
        (
            '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
            '"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            4,
            "invalid offset",
        ),
        ('{"__metadata__":{"a":1}}', 0, "invalid type"),
        ('{"__metadata__":{"a":"\\ud800"}}', 0, "JSON"),
        ("[]", 0, "no safetensors file"),
        ("{", 0, "no safetensors file"),
        ("[" * 60_000, 0, "no safetensors file"),
        ('{"a":' + "9" * 5000 + "}", 0, "no safetensors file"),
    ],
)
def test_files_that_are_no_safetensors(header: str, body: int, reason: str) -> None:
    text = header.encode()
    with pytest.raises(ValueError, match=reason):
        safetensors_file.read(len(text).to_bytes(8, "little") + text + bytes(body))


def test_a_file_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="more than"):
        safetensors_file.read(bytes(safetensors_file.LARGEST + 1))


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda name: name != safetensors_file.METADATA),
        st.tuples(st.sampled_from(["<f4", "<f8", ">f4"]), st.lists(st.integers(0, 4), max_size=3)),
        max_size=4,
    ),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_there_and_back(shapes: dict[str, tuple[str, list[int]]], metadata: dict[str, str]) -> None:
    rng = np.random.default_rng(1)
    given = {name: rng.normal(size=shape).astype(dtype) for name, (dtype, shape) in shapes.items()}
    data = safetensors_file.write(given, metadata)
    assert data == safetensors_file.write(dict(reversed(given.items())), dict(reversed(metadata.items())))
    found, told = safetensors_file.read(data)
    assert told == metadata
    assert found.keys() == given.keys()
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype.newbyteorder("<")
        assert found[name].shape == tensor.shape
        assert (found[name] == tensor).all()
    assert safetensors_file.digest(found, told) == safetensors_file.digest(dict(reversed(found.items())), told)


def test_a_digest_is_of_all_that_a_file_says() -> None:
    one = {"a": np.zeros(4, np.float32)}
    others = [
        {"b": one["a"]},
        {"a": np.ones(4, np.float32)},
        {"a": np.zeros((2, 2), np.float32)},
        {"a": np.zeros(2)},
        {},
    ]
    digests = [safetensors_file.digest(found, {}) for found in (one, *others)] + [
        safetensors_file.digest(one, {"a": "b"})
    ]
    assert len(set(digests)) == len(digests)
