"""What torch trains and numpy runs."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from online_models.encoder import safetensors_file
from online_models.encoder.autoencoder import Epoch, Plan, Report, train
from online_models.encoder.encoder import Encoder
from state import features
from tests.embeddings.planted import KINDS, WIDTH, shoppers

PLAN = Plan(epochs=8, hidden=(24,), latent=5)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    """What is trained here is small, and other work may go on beside it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(plan: Plan, n: int = 4_000, progress: Callable[[Epoch], None] = lambda _: None) -> tuple[Encoder, Report]:
    clock = itertools.count()
    raw, held = shoppers(1, n)[0], shoppers(2, 500)[0]
    return train(raw, held, features.NAMES, features.R, plan, lambda: float(next(clock)), progress)


@pytest.fixture(scope="module")
def plain() -> tuple[Encoder, Report]:
    return trained(PLAN)


def module(layers: list[Any]) -> torch.nn.Module:
    """A side of the network as torch's own."""
    found: list[torch.nn.Module] = []
    for layer in layers:
        linear = torch.nn.Linear(layer.weight.shape[1], layer.weight.shape[0])
        linear.load_state_dict({"weight": torch.tensor(layer.weight), "bias": torch.tensor(layer.bias)})
        found += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*found[:-1])


@pytest.mark.parametrize("hidden", [(24,), (40, 16), ()])
def test_numpy_says_what_torch_says(hidden: tuple[int, ...]) -> None:
    encoder, report = trained(replace(PLAN, hidden=hidden, epochs=2), 1_000)
    features = encoder.features(shoppers(3, 700)[0])
    inputs = torch.tensor(features, dtype=torch.float32)
    with torch.no_grad():
        latent = module(encoder.parts.encoder)(inputs)
        back = module(encoder.parts.decoder)(latent)
    assert np.abs(encoder.encode(features) - latent.numpy()).max() < 1e-4
    assert np.abs(encoder.reconstruction_error(features) - (back - inputs).square().mean(1).numpy()).max() < 1e-4
    # the last step scales the embedding and leaves what comes back alone
    assert report.error == pytest.approx(report.epochs[-1].held, rel=1e-3)


def test_training_lowers_the_error(plain: tuple[Encoder, Report]) -> None:
    encoder, report = plain
    held = [epoch.held for epoch in report.epochs]
    assert len(held) == PLAN.epochs
    assert held[-1] < 0.7 * held[0]
    assert report.error < 0.4 * report.mean_error  # five numbers say more than the mean shopper
    assert report.epochs[-1].loss < report.epochs[0].loss
    assert (report.rows, report.held, report.device, report.bf16, report.compiled) == (4_000, 500, "cpu", False, False)
    latent = encoder.encode(encoder.features(shoppers(1, 4_000)[0]))
    assert np.abs(latent.mean(0)).max() < 1e-3
    assert (latent**2).mean() == pytest.approx(1.0, abs=1e-3)
    error = encoder.reconstruction_error(encoder.features(shoppers(1, 4_000)[0]))
    assert (error > encoder.parts.far).mean() == pytest.approx(0.01, abs=1e-3)


def test_strangers_come_back_worse(plain: tuple[Encoder, Report]) -> None:
    encoder, _ = plain
    known, strange = shoppers(4, 500)[0], shoppers(4, 500)[0]
    # of several kinds each
    strange[:, : features.R] = np.random.default_rng(1).permuted(strange[:, : features.R], axis=0)
    medians = [np.median(encoder.reconstruction_error(encoder.features(raw))) for raw in (known, strange)]
    assert medians[1] > 1.5 * medians[0]


def test_the_same_seed_gives_the_same_bytes(plain: tuple[Encoder, Report]) -> None:
    assert trained(PLAN)[0].data == plain[0].data
    assert trained(replace(PLAN, seed=8))[0].data != plain[0].data
    state = torch.random.get_rng_state()
    trained(replace(PLAN, epochs=1, clusters=KINDS, cluster_epochs=1), 500)
    assert (torch.random.get_rng_state() == state).all()  # nobody else's chance is used


def test_a_clustering_term_draws_the_kinds_together() -> None:
    plan = replace(PLAN, clusters=KINDS, cluster_epochs=8)
    told: list[Epoch] = []
    encoder, report = trained(plan, progress=told.append)
    assert told == report.epochs
    assert [epoch.phase for epoch in told] == ["denoise"] * 8 + ["cluster"] * 8
    raw, kind = shoppers(5, 1_500)
    scores, tight = [], []
    for one in (trained(PLAN)[0], encoder):
        latent = one.encode(one.features(raw))
        scores.append(adjusted_rand_score(kind, KMeans(KINDS, n_init=4, random_state=0).fit_predict(latent)))
        middles = np.stack([latent[kind == k].mean(0) for k in range(KINDS)])
        tight.append(float(((latent - middles[kind]) ** 2).sum(1).mean()))  # of a mean square that is 1 a dimension
    assert scores[1] > max(0.8, scores[0] - 0.02)
    assert tight[1] < 0.8 * tight[0]
    assert report.error < 0.5 * report.mean_error


def test_bf16_takes_the_same_way_less_exactly() -> None:
    exact, half = (trained(replace(PLAN, epochs=4, bf16=bf16))[1] for bf16 in (False, True))
    assert half.bf16
    assert half.error == pytest.approx(exact.error, rel=0.15)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
def test_a_compiled_step_takes_the_same_way() -> None:
    whole, plain = (trained(replace(PLAN, epochs=1, compiled=compiled), 500)[1] for compiled in (True, False))
    assert (whole.compiled, plain.compiled) == (True, False)
    assert whole.error == pytest.approx(plain.error, rel=0.05)


def test_a_step_that_does_not_compile_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(step: Callable[..., Any]) -> Callable[..., Any]:
        def compiling(*args: Any) -> Any:
            raise RuntimeError("no compiler")

        return compiling

    monkeypatch.setattr(torch, "compile", fails)
    plan = replace(PLAN, epochs=2)
    encoder, report = trained(replace(plan, compiled=True), 500)
    assert not report.compiled
    assert encoder.data == trained(plan, 500)[0].data


def test_the_safetensors_library_reads_ours_and_we_read_its(plain: tuple[Encoder, Report]) -> None:
    encoder, _ = plain
    found = safetensors.numpy.load(encoder.data)
    ours, metadata = safetensors_file.read(encoder.data)
    assert found.keys() == ours.keys() > {"scaler.prior", "encoder.0.weight", "decoder.1.bias"}
    for name, tensor in found.items():
        assert tensor.dtype == ours[name].dtype
        assert (tensor == ours[name]).all()
    again = Encoder(safetensors.numpy.save(found, metadata))  # its own order of tensors
    assert again.parts.layout == encoder.parts.layout
    raw = shoppers(6, 50)[0]
    assert again.encode(again.features(raw)).tobytes() == encoder.encode(encoder.features(raw)).tobytes()


@pytest.mark.parametrize("cut", [1, 9, 500, -1])
def test_what_the_library_refuses_we_refuse(plain: tuple[Encoder, Report], cut: int) -> None:
    for damaged in (plain[0].data[:cut], plain[0].data + b"\0", b"\xff" * 8 + plain[0].data[8:]):
        with pytest.raises(safetensors.SafetensorError):
            safetensors.numpy.load(damaged)
        with pytest.raises(ValueError):  # noqa: PT011
            Encoder(damaged)


def test_plans_that_cannot_be_followed() -> None:
    with pytest.raises(ValueError, match="99 rows"):
        trained(PLAN, 99)
    assert trained(replace(PLAN, epochs=1), 100)[1].batch == 64
    none = train(
        shoppers(1, 300)[0], np.zeros((0, WIDTH)), features.NAMES, features.R, replace(PLAN, epochs=1), lambda: 0.0
    )
    assert none[1].held == 0
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="cuda"):
            trained(replace(PLAN, device="cuda"), 200)
