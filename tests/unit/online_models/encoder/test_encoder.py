"""The encoder without torch: what it computes, whatever the batch, and the files that it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.clustering.scaler import GRID, Scaler
from online_models.encoder import safetensors_file
from online_models.encoder.encoder import BLOCK, Encoder, build, dumps, loads
from online_models.encoder.encoder_file import Layer

R, L = 3, 2
NAMES = [f"f{i}" for i in range(R + L)]
SCALER = Scaler([0.5] * R, [2.0] * R, [0.1] * (R + L), [1.5] * (R + L))


def made(seed: int = 1, widths: tuple[int, ...] = (R + L, 7, 2), **changed: Any) -> Encoder:
    rng = np.random.default_rng(seed)

    def side(widths: tuple[int, ...]) -> list[Layer]:
        return [
            Layer(rng.normal(0, 0.5, (b, a)).astype(np.float32), rng.normal(0, 0.5, b).astype(np.float32))
            for a, b in pairwise(widths)
        ]

    parts = {"names": NAMES, "scaler": SCALER, "encoder": side(widths), "decoder": side(widths[::-1]), "far": 0.25}
    return build(**{**parts, **changed})


def lines(seed: int, n: int, width: int = R + L) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).uniform(-2, 2, (n, width)) * GRID) / GRID


def test_by_hand() -> None:
    one = np.float32
    hidden = Layer(np.array([[1, -1], [0, 2]], one), np.array([0, -1], one))
    latent = Layer(np.array([[1, 3]], one), np.array([0.5], one))
    back = Layer(np.array([[1], [0]], one), np.array([0, 0.25], one))
    encoder = build(["a", "b"], Scaler([], [], [0.0, 0.0], [1.0, 1.0]), [hidden, latent], [back], far=1.0)
    features = np.array([[2.0, 1.0], [-1.0, 0.5], [0.0, -2.0]])
    # hidden: max(a - b, 0) and max(2b - 1, 0); embedding: the first + 3 x the second + 0.5
    assert encoder.encode(features).tolist() == [[4.5], [0.5], [2.5]]
    # back: the embedding and 0.25
    assert encoder.reconstruction_error(features).tolist() == [
        (2.5**2 + 0.75**2) / 2,
        (1.5**2 + 0.25**2) / 2,
        (2.5**2 + 2.25**2) / 2,
    ]
    assert (encoder.latent, encoder.names) == (1, ["a", "b"])
    assert encoder.features(np.array([[1.0, -9.0]])).tolist() == [[1.0, -2.0]]


def test_as_a_plain_network_in_double_precision() -> None:
    encoder, features = made(2, (R + L, 31, 11, 4)), lines(3, 500)
    columns = features
    for side in (encoder.parts.encoder, encoder.parts.decoder):
        for layer in side:
            columns = columns @ layer.weight.T.astype(float) + layer.bias
            columns = columns if layer is side[-1] else np.maximum(columns, 0)
        if side is encoder.parts.encoder:
            assert np.abs(encoder.encode(features) - columns).max() < 1e-4
    latent, error = encoder.encode_with_error(features)
    assert error == pytest.approx(((features - columns) ** 2).mean(1), rel=1e-4, abs=1e-4)
    for told in (latent, error):
        assert (told * GRID == np.rint(told * GRID)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 20), st.sampled_from([1, 2, 50, BLOCK - 1, BLOCK, BLOCK + 3]), st.data())
def test_a_line_does_not_see_the_batch(seed: int, n: int, data: st.DataObject) -> None:
    encoder, features = made(seed, (R + L, 19, 9, 3)), lines(seed, n)
    latent, error = encoder.encode_with_error(features)
    cuts = data.draw(st.lists(st.integers(0, n), max_size=4))
    for a, b in pairwise(sorted({0, n, *cuts})):
        # another memory order, and other neighbours
        part = np.asfortranarray(features[a:b][::-1])
        assert encoder.encode(part)[::-1].tobytes() == latent[a:b].tobytes()
        assert encoder.reconstruction_error(part)[::-1].tobytes() == error[a:b].tobytes()
    one = data.draw(st.integers(0, n - 1))
    assert encoder.encode(features[one : one + 1]).tobytes() == latent[one].tobytes()


def test_no_lines_and_lines_of_another_width() -> None:
    encoder = made()
    assert encoder.encode(lines(1, 0)).shape == (0, 2)
    assert encoder.reconstruction_error(lines(1, 0)).shape == (0,)
    for wrong in (lines(1, 3, 4), np.zeros(R + L)):
        with pytest.raises(ValueError, match="5 columns"):
            encoder.encode(wrong)


def test_there_and_back() -> None:
    encoder = made(notes={"rows": "12"})
    again = loads(dumps(encoder), NAMES, R)
    assert again == encoder == made(notes={"rows": "12"})
    assert again.ident == encoder.ident != made().ident
    assert again.parts.notes == {"rows": "12"}
    assert again.parts.scaler == SCALER
    assert again.parts.far == 0.25
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(encoder), type=Encoder) == encoder
    assert again.encode(lines(1, 9)).tobytes() == encoder.encode(lines(1, 9)).tobytes()


def test_for_other_features() -> None:
    data = dumps(made())
    with pytest.raises(ValueError, match="another layout: 'f3' for 'new'"):
        loads(data, ["f0", "f1", "f2", "new", "f4"], R)
    with pytest.raises(ValueError, match="another layout: not as many"):
        loads(data, [*NAMES, "f5"], R)
    with pytest.raises(ValueError, match="another layout: not as many"):
        loads(data, NAMES, R - 1)


def rewritten(change: Callable[[dict[str, Any], dict[str, str]], object], *, sign: bool = True) -> bytes:
    """An encoder's file with changed tensors and metadata, under a checksum that fits."""
    found, metadata = safetensors_file.read(made().data)
    change(found, metadata)
    del metadata["checksum"]
    return safetensors_file.write(
        found, metadata | {"checksum": safetensors_file.digest(found, metadata) if sign else "0"}
    )


def put(name: str, value: Any) -> Callable[[dict[str, Any], dict[str, str]], object]:
    """A change: one tensor replaced (a function of it), or left out."""

    def change(found: dict[str, Any], metadata: dict[str, str]) -> None:
        old = found.pop(name, None)
        if value is not None:
            found[name] = value(old)

    return change


def shorter(*names: str) -> Callable[[dict[str, Any], dict[str, str]], object]:
    return lambda found, metadata: found.update({name: found[name][:-1] for name in names})


def note(**texts: str) -> Callable[[dict[str, Any], dict[str, str]], object]:
    return lambda found, metadata: metadata.update(texts)


def filled(value: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda old: np.full_like(old, value)


REFUSED = {
    "dtype": (put("encoder.0.weight", lambda old: old.astype(np.float64)), "float64 of .* expected float32"),
    "dimensions": (put("encoder.0.bias", lambda old: old[None]), "of 1 dimensions"),
    "missing": (put("decoder.0.bias", None), "decoder.0.bias: missing"),
    "a gap": (put("encoder.0.weight", None), "encoder.0.weight: missing"),
    "no layers": (lambda found, _: [found.pop(name) for name in list(found) if name[0] == "d"], "decoder.0.*missing"),
    "unknown": (put("encoder.9.weight", lambda _: np.zeros((2, 2), np.float32)), "no part of an encoder"),
    "bias": (put("encoder.0.bias", lambda old: old[:-1]), r"shapes \(7, 5\) and \(6,\)"),
    "chain": (put("encoder.1.weight", lambda old: old[:, :-1]), "after a layer of 7 units"),
    "input": (put("encoder.0.weight", lambda old: old[:, :-1]), "encoder: from 4 to 2 columns, expected 5 to 2"),
    "output": (shorter("decoder.1.weight", "decoder.1.bias"), "decoder: from 2 to 4 columns, expected 2 to 5"),
    "empty": (put("encoder.1.weight", lambda old: old[:0]), r"a layer of shape \(0, 7\)"),
    "wide": (put("encoder.0.weight", lambda old: np.zeros((4097, 5), np.float32)), "at most 4096 wide"),
    "NaN": (put("decoder.1.weight", filled(np.nan)), "decoder.1.weight: not a number"),
    "infinite": (put("scaler.spread", filled(np.inf)), "scaler.spread: not a number"),
    "large": (put("encoder.0.weight", filled(3e20)), "too large"),
    "large at the end": (put("decoder.1.bias", filled(1e12)), "too large"),
    "spread": (put("scaler.spread", filled(0.0)), "not above it"),
    "strength": (put("scaler.strength", filled(-1.0)), "not above it"),
    "prior": (put("scaler.prior", filled(-1.0)), "a prior below 0"),
    "median": (put("scaler.median", lambda old: old[:-1]), "scaler.median: shape"),
    "ratios": (put("scaler.prior", lambda old: old[:-1]), r"scaler.strength: shape \(3,\)"),
    "layout": (note(layout="0" * 64), "layout: the hash"),
    "fewer names": (note(names='["f0", "f1"]'), "scaler.prior: shape"),
    "order of names": (note(names=json.dumps(NAMES[::-1])), "layout: the hash"),
    "twice": (note(names='["a", "a"]'), "twice"),
    "no names": (note(names="[1]"), "names: no list"),
    "deep names": (note(names="[" * 40_000), "names: no list"),
    "activation": (note(activation="tanh"), "activation 'tanh', expected 'relu'"),
    "far": (note(far="nan"), "far: 'nan'"),
    "no far": (note(far=""), "far: ''"),
    "format": (note(format="shoal-encoder-9"), "format is 'shoal-encoder-9'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    change, reason = REFUSED[name]
    data = rewritten(change)
    with pytest.raises(ValueError, match=reason):
        Encoder(data)
    with pytest.raises(ValueError, match=reason):  # a version that holds it is refused for the same reason
        msgspec.msgpack.decode(msgspec.msgpack.encode({"data": data}), type=Encoder)


def test_an_encoder_is_not_deeper_than_it_may_be() -> None:
    with pytest.raises(ValueError, match="8 of them"):
        made(1, (R + L, *[3] * 8, 2))


@pytest.mark.parametrize("change", [put("encoder.0.bias", lambda old: old + 1), note(rows="13"), lambda *_: None])
def test_a_checksum_that_does_not_fit(change: Callable[[dict[str, Any], dict[str, str]], object]) -> None:
    with pytest.raises(ValueError, match="checksum"):
        Encoder(rewritten(change, sign=False))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_bit_can_be_flipped_and_nothing_cut_off(data: st.DataObject) -> None:
    whole = bytearray(made().data)
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (whole, whole[:at], made().data[:at], made().data + bytes([whole[at]])):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever the reason
            Encoder(bytes(damaged))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 220))
def test_any_bytes_are_read_or_refused(data: bytes, length: int) -> None:
    for file in (data, length.to_bytes(8, "little") + data):
        with pytest.raises(ValueError):  # noqa: PT011
            Encoder(file)


def test_an_encoder_needs_no_torch_and_reading_a_version_no_river() -> None:
    code = "import sys, online_models.version; print(sorted({'torch', 'river', 'scipy.stats'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert told == "[]\n"
