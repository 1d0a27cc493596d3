"""The safetensors format: named arrays and text in one file that holds no code.

Eight bytes of header length, a JSON header (dtype, shape and place of each tensor; `__metadata__`, text by name), then
the raw little-endian numbers. Source: https://github.com/huggingface/safetensors#format. Read and written here so that
a worker needs nothing but numpy.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[np.float32] | NDArray[np.float64]
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
METADATA = "__metadata__"
LARGEST = 8 << 20  # bytes of a file: half of what a record may hold, where it travels as base64
HEADER = 1 << 16  # bytes of its header


def read(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, which share the data's memory, and metadata; ValueError, with the reason, where bytes are no such file.

    Every byte must belong to the header or to one tensor, in order and without holes.
    """
    if len(data) > LARGEST:
        raise ValueError(f"{len(data)} bytes, more than {LARGEST}")
    if len(data) < 8:
        raise ValueError("cut short: there is no header")
    length = int.from_bytes(data[:8], "little")
    if length > HEADER or 8 + length > len(data):
        raise ValueError(f"a header of {length} bytes in {len(data)}: cut short, or no safetensors file")
    header = _header(data[8 : 8 + length])
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("the metadata is not text by name")
    tensors, end = {}, 0
    body = memoryview(data)[8 + length :]
    for name, entry in sorted(header.items(), key=lambda item: _start(*item)):
        tensors[name], end = _tensor(name, entry, body, end)
    if end != len(body):
        raise ValueError(f"{len(body) - end} bytes belong to no tensor")
    return tensors, metadata


def write(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A file's bytes, which read() and the safetensors library take; equal arguments give equal bytes."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))}
    parts, end = [], 0
    # the widest first, as the library does: each tensor then lies at a multiple of its own width
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        little = tensor.dtype.newbyteorder("<")
        parts.append(np.ascontiguousarray(tensor, little).tobytes())
        start, end = end, end + len(parts[-1])
        header[name] = {"dtype": names[little], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 (hex) of what a file says, in whatever order it lies there."""
    found = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.tobytes())
    return found.hexdigest()


def _header(text: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name is there twice")
        return found

    try:
        header = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    return header


def _start(name: str, entry: Any) -> int:
    """Where a tensor begins; ValueError where its entry is none."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name}: not a dtype, a shape and a place")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise ValueError(f"{name}: the shape or the place is none")
    if not all(type(number) is int and 0 <= number <= LARGEST for number in [*shape, *offsets]):
        raise ValueError(f"{name}: a shape and a place are whole numbers within the file")
    start: int = offsets[0]
    return start


def _tensor(name: str, entry: dict[str, Any], body: memoryview, expected: int) -> tuple[Tensor, int]:
    start, end = entry["data_offsets"]
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise ValueError(f"{name}: dtype {entry['dtype']!r}, expected one of {', '.join(DTYPES)}")
    if start != expected:
        raise ValueError(f"{name}: begins at {start}, expected {expected}")
    if end - start != math.prod(entry["shape"]) * dtype.itemsize:
        raise ValueError(f"{name}: {end - start} bytes do not fit the shape {entry['shape']}")
    if end > len(body):
        raise ValueError(f"{name}: cut short")
    return np.frombuffer(body[start:end], dtype).reshape(entry["shape"]), end
