"""The safetensors format: named arrays and text in one file that holds no code.

Eight bytes of header length, a JSON header (dtype, shape and place of each tensor; `__metadata__`, text by name), then
the raw little-endian numbers. Source: https://github.com/huggingface/safetensors#format.

Files are read by the safetensors library, which checks lengths, places and shapes (it needs no torch and is 1.4 MB).
They are written here: the library writes the metadata in an order of its own in each process, and equal encoders have
to give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

Tensor = NDArray[np.float32] | NDArray[np.float64]
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
METADATA = "__metadata__"
LARGEST = 8 << 20  # bytes of a file: half of what a record may hold, where it travels as base64


def read(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata; ValueError, with the reason, where bytes are no such file or of other dtypes.

    Every byte must belong to the header or to one tensor, in order and without holes.
    """
    if len(data) > LARGEST:
        raise ValueError(f"{len(data)} bytes, more than {LARGEST}")
    try:
        parts = deserialize(data)
    except SafetensorError as error:
        raise ValueError(f"no safetensors file, or cut short: {error}") from None
    tensors: dict[str, Tensor] = {}
    for name, part in parts:
        dtype = DTYPES.get(part["dtype"])
        if dtype is None:
            raise ValueError(f"{name}: dtype {part['dtype']!r}, expected one of {', '.join(DTYPES)}")
        tensors[name] = np.frombuffer(bytes(part["data"]), dtype).reshape(part["shape"])
    # the library gives metadata only of files on disk; it has checked that they are text by name
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return tensors, header.get(METADATA) or {}


def write(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A file's bytes, which read() takes; equal arguments give equal bytes."""
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
    total = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(tensor.tobytes())
    return total.hexdigest()
