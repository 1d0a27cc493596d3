"""The safetensors format, read and written without its library."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.encoder import tensors

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
        found, metadata = tensors.read(len(text).to_bytes(8, "little") + text + bytes(size))
    except ValueError:
        return
    assert sum(tensor.nbytes for tensor in found.values()) == size
    assert all(isinstance(said, str) for said in metadata.values())


@pytest.mark.parametrize(
    ("header", "body", "reason"),
    [
        ('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{}}', 4, "twice"),
        ('{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}', 4, "dtype 'F16'"),
        ('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', 4, "do not fit the shape"),
        ('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', 8, "begins at 4, expected 0"),
        ('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 8, "4 bytes belong to no tensor"),
        ('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 4, "cut short"),
        ('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', 4, "whole numbers"),
        ('{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,4]}}', 4, "whole numbers"),
        ('{"a":{"dtype":"F32","shape":[0,99999999999],"data_offsets":[0,0]}}', 0, "whole numbers"),
        ('{"a":{"dtype":"F32","shape":[1]}}', 4, "not a dtype"),
        ('{"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}}', 4, "is none"),
        ('{"__metadata__":{"a":1}}', 0, "not text"),
        ("[]", 0, "no JSON object"),
        ("{", 0, "not JSON"),
        ("[" * 60_000, 0, "not JSON"),
        ('{"a":' + "9" * 5000 + "}", 0, "not JSON"),
        (" " * (tensors.HEADER + 1), 0, "a header of"),
    ],
)  # fmt: skip
def test_files_that_are_no_safetensors(header: str, body: int, reason: str) -> None:
    text = header.encode()
    with pytest.raises(ValueError, match=reason):
        tensors.read(len(text).to_bytes(8, "little") + text + bytes(body))


def test_a_file_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="more than"):
        tensors.read(bytes(tensors.LARGEST + 1))


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda name: name != tensors.METADATA),
        st.tuples(st.sampled_from(["<f4", "<f8", ">f4"]), st.lists(st.integers(0, 4), max_size=3)), max_size=4,
    ),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)  # fmt: skip
def test_there_and_back(shapes: dict[str, tuple[str, list[int]]], metadata: dict[str, str]) -> None:
    rng = np.random.default_rng(1)
    given = {name: rng.normal(size=shape).astype(dtype) for name, (dtype, shape) in shapes.items()}
    data = tensors.write(given, metadata)
    assert data == tensors.write(dict(reversed(given.items())), dict(reversed(metadata.items())))
    found, told = tensors.read(data)
    assert told == metadata
    assert found.keys() == given.keys()
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype.newbyteorder("<")
        assert found[name].shape == tensor.shape
        assert (found[name] == tensor).all()
    assert tensors.digest(found, told) == tensors.digest(dict(reversed(found.items())), told)


def test_a_digest_is_of_all_that_a_file_says() -> None:
    one = {"a": np.zeros(4, np.float32)}
    others = [
        {"b": one["a"]},
        {"a": np.ones(4, np.float32)},
        {"a": np.zeros((2, 2), np.float32)},
        {"a": np.zeros(2)},
        {},
    ]
    digests = [tensors.digest(found, {}) for found in (one, *others)] + [tensors.digest(one, {"a": "b"})]
    assert len(set(digests)) == len(digests)
