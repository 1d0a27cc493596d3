"""The encoder: a shopper's features -> a short vector (the embedding), and how badly the features come back from it.

A small autoencoder that `shoal train` learned elsewhere. Here it is a file without code (safetensors), checked before
it is used, and plain numpy on whole batches. Each sum is taken input by input, elementwise over the rows, and there is
nothing but sums, products and maxima in it: a row's embedding has the same bits in any batch and on any processor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property

import msgspec
import numpy as np

from online_models.clustering.scaler import GRID, Scaler
from online_models.distances import Floats
from online_models.encoder import encoder_file
from online_models.encoder.encoder_file import Floats32, Layer, Parts

BLOCK = 4096  # rows at a time
TILE = 8192  # products at a time, so that they stay in the processor's first cache


class Encoder(msgspec.Struct, frozen=True, dict=True):
    """An encoder is its safetensors bytes; ValueError, with the reason, where they are not fit to be one."""

    data: bytes

    def __post_init__(self) -> None:
        self.parts  # noqa: B018 - a damaged one is refused here, also where it stands inside a version

    @cached_property
    def parts(self) -> Parts:
        return encoder_file.decode(self.data)

    @property
    def names(self) -> list[str]:
        """Of the features (F,), in order."""
        return self.parts.names

    @property
    def latent(self) -> int:
        """D, the length of an embedding."""
        return self.parts.latent

    @property
    def ident(self) -> str:
        """A short name of these very bytes."""
        return hashlib.sha256(self.data).hexdigest()[:12]

    def features(self, raw: Floats) -> Floats:
        """The input (n, F) of a raw matrix (n, 2R + L), scaled as in training."""
        return self.parts.scaler.transform(raw)

    def encode(self, features: Floats) -> Floats:
        """The embeddings (n, D) of features (n, F), on the scaler's grid; ValueError for another width."""
        return _run(self.parts.encoder, features)

    def reconstruction_error(self, features: Floats) -> Floats:
        """Mean squared difference (n,) of features (n, F) from what their embeddings say, on the grid."""
        return self.encode_with_error(features)[1]

    def unusual(self, raw: Floats) -> Floats:
        """The error (n,) of a raw matrix (n, 2R + L), in units that one in a hundred rows of training was above."""
        return self.reconstruction_error(self.features(raw)) / max(self.parts.far, 1.0 / GRID)

    def encode_with_error(self, features: Floats) -> tuple[Floats, Floats]:
        """encode() and reconstruction_error(), at the cost of the second."""
        latent = self.encode(features)
        restored = _run(self.parts.decoder, latent)
        error = np.zeros(len(features))
        for i in range(restored.shape[1]):
            difference = features[:, i] - restored[:, i]
            difference *= difference
            error += difference
        error /= restored.shape[1]
        return latent, _on_grid(error)


def build(
    names: Sequence[str],
    scaler: Scaler,
    encoder: Sequence[Layer],
    decoder: Sequence[Layer],
    far: float,
    notes: Mapping[str, str] | None = None,
) -> Encoder:
    """An encoder of its parts; equal parts give equal bytes. ValueError where they do not fit each other."""
    return Encoder(encoder_file.encode(names, scaler, encoder, decoder, far, notes or {}))


def loads(data: bytes, names: Sequence[str], ratios: int) -> Encoder:
    """The encoder of a file; ValueError, with the reason, where it is damaged or meant for other features."""
    encoder = Encoder(data)
    if encoder.parts.layout != encoder_file.layout(names, ratios):
        pairs = zip(encoder.names, names, strict=False)
        other = next((f"{actual!r} for {wanted!r}" for actual, wanted in pairs if actual != wanted), "not as many")
        raise ValueError(f"the encoder is for features of another layout: {other}")
    return encoder


def dumps(encoder: Encoder) -> bytes:
    """The file's bytes, which loads() takes."""
    return encoder.data


def _run(layers: Sequence[Layer], rows: Floats) -> Floats:
    """Rows (n, in) through the layers, on the grid (n, out)."""
    width = layers[0].weight.shape[1]
    if rows.ndim != 2 or rows.shape[1] != width:
        raise ValueError(f"expected rows of {width} columns, got shape {rows.shape}")
    result = np.empty((len(rows), len(layers[-1].bias)))
    for start in range(0, len(rows), BLOCK):
        columns = np.ascontiguousarray(rows[start : start + BLOCK].T, np.float32)
        for layer in layers[:-1]:
            columns = _dense(layer, columns)
            np.maximum(columns, np.float32(0), out=columns)
        result[start : start + BLOCK] = _dense(layers[-1], columns).T
    return _on_grid(result)


def _dense(layer: Layer, columns: Floats32) -> Floats32:
    """(in, n) -> (out, n): bias, then input after input; a few units at a time."""
    units, n = len(layer.bias), columns.shape[1]
    step = max(1, TILE // n)
    total = np.repeat(layer.bias[:, None], n, axis=1)
    product = np.empty((min(step, units), n), np.float32)
    for start in range(0, units, step):
        sums, weights = total[start : start + step], layer.weight[start : start + step, :, None]
        products = product[: len(sums)]
        for i, column in enumerate(columns):
            np.multiply(weights[:, i], column, out=products)
            sums += products
    return total


def _on_grid(values: Floats) -> Floats:
    values *= GRID
    np.rint(values, out=values)
    values /= GRID
    return values
