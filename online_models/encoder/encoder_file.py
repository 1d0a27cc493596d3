"""An encoder's file: parts to safetensors bytes and back, with every reason to refuse them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.clustering.scaler import CLIP, Scaler
from online_models.encoder.safetensors_file import Tensor, digest, read, write

Floats32 = NDArray[np.float32]
FORMAT = "shoal-encoder-1"
ACTIVATION = "relu"  # exact: the last bits of a tanh are a library's own
SIDES = ("encoder", "decoder")
SCALER = ("prior", "strength", "median", "spread")
WIDEST, DEEPEST = 4096, 8  # units of a layer, layers of a side
HIGHEST = 2.0**36  # bound on what may come out: on the scaler's grid it is still exact


@dataclass(frozen=True, slots=True)
class Layer:
    """weight (out, in), bias (out,); all but the last of a side are followed by the activation."""

    weight: Floats32
    bias: Floats32


@dataclass(frozen=True, slots=True)
class Parts:
    """What an encoder's file says."""

    names: list[str]  # (F,) of the features, in order; the first are the scaler's ratios
    scaler: Scaler
    encoder: list[Layer]  # F -> D
    decoder: list[Layer]  # D -> F
    far: float  # reconstruction error that 1% of the rows of training were above
    layout: str  # hash of the names
    notes: dict[str, str]  # what else its maker wrote

    @property
    def latent(self) -> int:
        """D, the length of an embedding."""
        return len(self.encoder[-1].bias)


def layout(names: Sequence[str], ratios: int) -> str:
    """Hash of the features' names and order, and of how many are ratios."""
    return hashlib.sha256(json.dumps([list(names), ratios]).encode()).hexdigest()


def encode(
    names: Sequence[str],
    scaler: Scaler,
    encoder: Sequence[Layer],
    decoder: Sequence[Layer],
    far: float,
    notes: Mapping[str, str],
) -> bytes:
    """Parts to a file; equal parts give equal bytes. Whether they fit each other is for decode() to check."""
    tensors: dict[str, Tensor] = {f"scaler.{part}": np.array(getattr(scaler, part), np.float64) for part in SCALER}
    for side, layers in zip(SIDES, (encoder, decoder), strict=True):
        for i, layer in enumerate(layers):
            tensors[f"{side}.{i}.weight"] = np.array(layer.weight, np.float32)
            tensors[f"{side}.{i}.bias"] = np.array(layer.bias, np.float32)
    metadata = {
        **notes,
        "format": FORMAT,
        "activation": ACTIVATION,
        "names": json.dumps(list(names)),
        "layout": layout(names, len(scaler.prior)),
        "far": repr(float(far)),
    }
    return write(tensors, {**metadata, "checksum": digest(tensors, metadata)})


def decode(data: bytes) -> Parts:
    """A file's parts; ValueError, with the reason, where it is damaged, of another format or does not fit itself."""
    tensors, notes = read(data)
    file_format = notes.pop("format", None)
    if file_format != FORMAT:
        raise ValueError(f"the file's format is {file_format!r}, expected {FORMAT!r}")
    checksum = notes.pop("checksum", None)
    if checksum != digest(tensors, {**notes, "format": FORMAT}):
        raise ValueError("the checksum does not fit: the encoder is damaged")
    if (activation := notes.pop("activation", None)) != ACTIVATION:
        raise ValueError(f"activation {activation!r}, expected {ACTIVATION!r}")
    names, names_hash, far = _names(notes.pop("names", "")), notes.pop("layout", ""), _far(notes.pop("far", ""))
    scaler = _scaler(tensors, len(names))
    if names_hash != layout(names, len(scaler.prior)):
        raise ValueError("layout: the hash does not fit the features' names")
    encoder, decoder = (_layers(tensors, side) for side in SIDES)
    if tensors:
        raise ValueError(f"{min(tensors)}: no part of an encoder")
    parts = Parts(names, scaler, encoder, decoder, far, names_hash, notes)
    _check_fit(parts)
    return parts


def _names(text: str) -> list[str]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("names: no list of the features' names")
    if len(set(names)) != len(names):
        raise ValueError("names: a feature is there twice")
    return names


def _far(text: str) -> float:
    try:
        far = float(text)
    except ValueError:
        far = -1.0
    if not 0 <= far <= HIGHEST:
        raise ValueError(f"far: {text!r} is no reconstruction error")
    return far


def _scaler(tensors: dict[str, Tensor], width: int) -> Scaler:
    """The scaler, whose tensors are taken out."""
    columns = {part: _take(tensors, f"scaler.{part}", np.float64, 1) for part in SCALER}
    ratios = len(columns["prior"])
    for part, wanted in zip(SCALER, (ratios, ratios, width, width), strict=True):
        if len(columns[part]) != wanted or ratios > width:
            raise ValueError(f"scaler.{part}: shape {columns[part].shape} for {width} features")
    if (columns["prior"] < 0).any() or (columns["strength"] <= 0).any() or (columns["spread"] <= 0).any():
        raise ValueError("scaler: a prior below 0, or a strength or spread that is not above it")
    return Scaler(**{part: columns[part].tolist() for part in SCALER})


def _layers(tensors: dict[str, Tensor], side: str) -> list[Layer]:
    """The layers of a side, whose tensors are taken out."""
    layers: list[Layer] = []
    while f"{side}.{len(layers)}.weight" in tensors or not layers:
        name = f"{side}.{len(layers)}"
        weight = _take(tensors, f"{name}.weight", np.float32, 2)
        bias = _take(tensors, f"{name}.bias", np.float32, 1)
        if weight.size == 0 or max(weight.shape) > WIDEST or len(layers) == DEEPEST:
            raise ValueError(f"{name}: a layer of shape {weight.shape}, at most {WIDEST} wide and {DEEPEST} of them")
        if len(bias) != len(weight):
            raise ValueError(f"{name}: shapes {weight.shape} and {bias.shape} do not fit each other")
        if layers and len(layers[-1].bias) != weight.shape[1]:
            raise ValueError(f"{name}: shape {weight.shape} after a layer of {len(layers[-1].bias)} units")
        layers.append(Layer(weight, bias))
    return layers


def _take(tensors: dict[str, Tensor], name: str, dtype: type, dimensions: int) -> NDArray:
    if name not in tensors:
        raise ValueError(f"{name}: missing")
    tensor = tensors.pop(name)
    if tensor.dtype != dtype or tensor.ndim != dimensions:
        wanted = f"{np.dtype(dtype)} of {dimensions} dimensions"
        raise ValueError(f"{name}: {tensor.dtype} of shape {tensor.shape}, expected {wanted}")
    if not np.isfinite(tensor).all():
        raise ValueError(f"{name}: not a number, or an infinite one")
    return np.ascontiguousarray(tensor, dtype)


def _check_fit(parts: Parts) -> None:
    """ValueError where the sides do not lead from the features and back, or may lead beyond all bounds."""
    width, latent = len(parts.names), parts.latent
    for side, layers, ends in zip(
        SIDES, (parts.encoder, parts.decoder), ((width, latent), (latent, width)), strict=True
    ):
        actual = (layers[0].weight.shape[1], len(layers[-1].bias))
        if actual != ends:
            raise ValueError(f"{side}: from {actual[0]} to {actual[1]} columns, expected {ends[0]} to {ends[1]}")
    reach = np.full(width, CLIP)  # the most that each column can be
    for layer in [*parts.encoder, *parts.decoder]:
        reach = (np.abs(layer.weight.astype(np.float64)) * reach).sum(1) + np.abs(layer.bias)
        if reach.max() > HIGHEST:
            raise ValueError("the weights are too large: what comes out would have no bound")
