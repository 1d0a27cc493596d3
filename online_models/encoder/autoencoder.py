"""A denoising autoencoder over shoppers' features, trained by torch: rows in, an encoder out.

Denoising: Vincent et al. 2010 (features are hidden at random, the network says what they were). Clustering term: deep
embedded clustering (Xie, Girshick, Farhadi 2016), with the reconstruction kept beside it (Guo et al. 2017), or the
embedding would fall into its centres. The only module that imports torch; workers run the result in numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from online_models.clustering.kmeans import lloyd, plus_plus
from online_models.clustering.scaler import Scaler, fit
from online_models.distances import Floats, nearest
from online_models.encoder.encoder import Encoder, build
from online_models.encoder.encoder_file import Layer

Side = list[tuple[torch.Tensor, torch.Tensor]]  # weight (out, in), bias (out,) of each layer
LEAST = 100  # rows
STEPS = 64  # at least, an epoch: few rows are cut into smaller batches
SMALLEST = 64  # rows of a batch
CHUNK = 1 << 16  # rows at a time where nothing is learned
STARTS = 20_000  # rows that the first centres are found from
COMPILING = 2_000  # steps: torch.compile takes tens of seconds, which a shorter training never gains
FAR = 0.99  # quantile of the error beyond which a row is far off


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train. None: where it pays, which is on CUDA."""

    hidden: tuple[int, ...] = (32,)  # units between the features and the embedding, and back
    latent: int = 8
    epochs: int = 30
    batch: int = 4096
    rate: float = 4e-3  # largest step
    noise: float = 0.15  # share of the features that is hidden
    clusters: int = 0  # of the clustering term; below 2 there is none
    cluster_epochs: int = 15
    pull: float = 0.1  # weight of the clustering term
    seed: int = 7
    device: str = "auto"  # auto, cpu, cuda
    bf16: bool | None = None
    compiled: bool | None = None


@dataclass(frozen=True, slots=True)
class Epoch:
    """Mean loss over the epoch, and what matters: the error on rows that were held out, with nothing hidden."""

    phase: str  # denoise, cluster
    number: int
    of: int
    loss: float
    held: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a training was."""

    device: str
    threads: int
    bf16: bool
    compiled: bool
    rows: int  # learned from
    held: int  # judged by
    parameters: int
    batch: int
    epochs: list[Epoch]
    error: float  # on the held-out rows, at the end, as a worker computes it
    mean_error: float  # the same if each shopper were taken for the mean one
    load_seconds: float  # features scaled, and moved to the device
    seconds: float  # in all

    @property
    def epoch_seconds(self) -> float:
        """Of the median epoch of denoising: the first pays for what is set up."""
        return float(np.median([epoch.seconds for epoch in self.epochs if epoch.phase == "denoise"]))

    @property
    def rows_per_second(self) -> float:
        return self.rows / max(self.epoch_seconds, 1e-9)


def train(
    raw: Floats,
    holdout: Floats,
    names: Sequence[str],
    ratios: int,
    plan: Plan,
    clock: Callable[[], float],
    progress: Callable[[Epoch], None] = lambda _: None,
) -> tuple[Encoder, Report]:
    """An encoder from a raw matrix (n, 2R + L), judged by another (m, 2R + L); clock in seconds.

    On the CPU the same arguments give the same bytes (with one torch, number of threads and type of processor).
    ValueError where n is below 100 or the plan's device is not there. Without rows to judge by (m = 0) those learned
    from stand for them.
    """
    started = clock()
    if len(raw) < LEAST:
        raise ValueError(f"{len(raw)} rows, at least {LEAST} are needed")
    scaler = fit(raw, ratios)
    features, judged = scaler.transform(raw), scaler.transform(holdout if len(holdout) else raw)
    run = _Run(features, judged, plan, clock)
    loaded = clock() - started
    epochs = []
    for epoch in run.epochs():
        epochs.append(epoch)
        progress(epoch)
    encoder = _built(run, features, names, scaler)
    report = Report(
        device=run.name,
        threads=torch.get_num_threads(),
        bf16=run.bf16,
        compiled=run.compiled,
        rows=len(raw),
        held=len(holdout),
        parameters=sum(parameter.numel() for parameter in run.parameters),
        batch=run.batch,
        epochs=epochs,
        error=float(encoder.reconstruction_error(judged).mean()),
        mean_error=float(((judged - features.mean(0)) ** 2).mean()),
        load_seconds=loaded,
        seconds=clock() - started,
    )
    return encoder, report


class _Run:
    """Rows and network on their device."""

    def __init__(self, rows: Floats, holdout: Floats, plan: Plan, clock: Callable[[], float]) -> None:
        self.plan, self.clock = plan, clock
        self.device = _device(plan.device)
        cuda = self.device.type == "cuda"
        self.name = torch.cuda.get_device_name(self.device) if cuda else "cpu"
        self.bf16 = cuda if plan.bf16 is None else plan.bf16
        self.batch = min(plan.batch, max(SMALLEST, len(rows) // STEPS), len(rows))
        self.steps = len(rows) // self.batch
        count = self.steps * (plan.epochs + (plan.cluster_epochs if plan.clusters > 1 else 0))
        self.compiled = (cuda and count >= COMPILING) if plan.compiled is None else plan.compiled
        self.rows, self.holdout = self._moved(rows), self._moved(holdout)
        self.chance = torch.Generator(self.device).manual_seed(plan.seed)
        draw = np.random.default_rng(plan.seed)
        widths = (rows.shape[1], *plan.hidden, plan.latent)
        self.encoder, self.decoder = self._side(widths, draw), self._side(widths[::-1], draw)
        self.centres: torch.Tensor | None = None

    @property
    def parameters(self) -> list[torch.Tensor]:
        weights = [tensor for layer in [*self.encoder, *self.decoder] for tensor in layer]
        return weights if self.centres is None else [*weights, self.centres]

    def epochs(self) -> Iterator[Epoch]:
        """Trains; each epoch when it is over."""
        yield from self._phase("denoise", self.plan.epochs, self._denoising)
        if self.plan.clusters > 1:
            self._start_centres()
            yield from self._phase("cluster", self.plan.cluster_epochs, self._clustering)

    def _phase(self, phase: str, epochs: int, loss: Callable[..., torch.Tensor]) -> Iterator[Epoch]:
        # the rate rises over the first steps and falls to nothing: one cycle (Smith and Topin 2019)
        optimizer = torch.optim.AdamW(self.parameters, lr=self.plan.rate, weight_decay=1e-4, fused=True)
        rate = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.plan.rate, total_steps=max(1, epochs * self.steps), pct_start=0.2
        )
        step = self._compiling(loss) if self.compiled else loss
        for number in range(1, epochs + 1):
            began = self._now()
            order = torch.randperm(len(self.rows), generator=self.chance, device=self.device)
            target = self._target() if phase == "cluster" else None
            total = torch.zeros((), device=self.device)
            for i in range(self.steps):
                at = order[i * self.batch : (i + 1) * self.batch]
                clean = self.rows[at]
                shown = torch.rand(clean.shape, generator=self.chance, device=self.device) >= self.plan.noise
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                    cost = step(clean, shown) if target is None else step(clean, shown, target[at])
                optimizer.zero_grad(set_to_none=True)
                cost.backward()
                optimizer.step()
                rate.step()
                total += cost.detach()
            mean = float(total) / self.steps  # waits for the device
            yield Epoch(phase, number, epochs, mean, self._holdout_error(), self._now() - began)

    def _compiling(self, loss: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        """The loss as one compiled step, or as it is where that fails: without a compiler, say."""
        fast = torch.compile(loss)

        def step(*args: torch.Tensor) -> torch.Tensor:
            if self.compiled:
                try:
                    result: torch.Tensor = fast(*args)
                    return result
                except RuntimeError:
                    self.compiled = False
            return loss(*args)

        return step

    def _denoising(self, clean: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        return _error(_through(self.decoder, _through(self.encoder, clean * shown)), clean)

    def _clustering(self, clean: torch.Tensor, shown: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        membership = self._membership(_through(self.encoder, clean))
        divergence = (target * (target.log() - membership.log())).sum(1).mean()
        return self._denoising(clean, shown) + self.plan.pull * divergence

    def _membership(self, latent: torch.Tensor) -> torch.Tensor:
        """(n, D) -> (n, K): how much each row belongs to each centre, by Student's t."""
        assert self.centres is not None
        squared = (latent.float()[:, None] - self.centres).square().sum(2)
        weight = 1.0 / (1.0 + squared)
        return (weight / weight.sum(1, keepdim=True)).clamp_min(1e-6)

    @torch.no_grad()
    def _target(self) -> torch.Tensor:
        """The same, sharpened, and each centre's weight counted once (Xie et al., equation 3)."""
        membership = torch.cat([self._membership(_through(self.encoder, rows)) for rows in self.rows.split(CHUNK)])
        sharp = membership.square() / membership.sum(0)
        return (sharp / sharp.sum(1, keepdim=True)).clamp_min(1e-6)

    @torch.no_grad()
    def _start_centres(self) -> None:
        """Batch k-means over the embedding; the embedding is scaled so that a row is about 1 from its centre."""
        step = -(-len(self.rows) // STARTS)
        latent = _through(self.encoder, self.rows[::step]).double().cpu().numpy()
        centres = lloyd(latent, plus_plus(latent, self.plan.clusters, self.plan.seed), 50)
        spread = max(float(np.sqrt(nearest(latent, centres)[2].mean())), 1e-6)
        _rescale(self.encoder, self.decoder, 0.0, 1.0 / spread)
        self.centres = self._tensor(centres / spread).requires_grad_()

    @torch.no_grad()
    def _holdout_error(self) -> float:
        total = torch.zeros((), device=self.device)
        for rows in self.holdout.split(CHUNK):
            total += _error(_through(self.decoder, _through(self.encoder, rows)), rows) * len(rows)
        return float(total) / len(self.holdout)

    def _side(self, widths: Sequence[int], draw: np.random.Generator) -> Side:
        """He's start; numpy draws it, so that it does not hang on torch's version or device."""
        sizes = [draw.normal(0, np.sqrt(2 / a), (b, a)) for a, b in pairwise(widths)]
        return [(self._tensor(w).requires_grad_(), self._tensor(np.zeros(len(w))).requires_grad_()) for w in sizes]

    def _tensor(self, values: Floats) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)

    def _moved(self, rows: Floats) -> torch.Tensor:
        """Rows on the device, where they stay; to CUDA from pinned memory."""
        here = torch.from_numpy(rows.astype(np.float32))
        return here.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else here

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self.clock()


def _built(run: _Run, features: Floats, names: Sequence[str], scaler: Scaler) -> Encoder:
    """The encoder, its embedding moved and scaled to mean 0 and mean square 1 over the rows learned from."""
    with torch.no_grad():
        latent = torch.cat([_through(run.encoder, rows) for rows in run.rows.split(CHUNK)]).double().cpu().numpy()
        middle = latent.mean(0)
        spread = max(float(np.sqrt(((latent - middle) ** 2).mean())), 1e-6)
        _rescale(run.encoder, run.decoder, torch.tensor(middle, device=run.device), 1.0 / spread)
    encoder, decoder = (
        [Layer(*(tensor.detach().cpu().numpy() for tensor in layer)) for layer in side]
        for side in (run.encoder, run.decoder)
    )
    notes = {"rows": str(len(features)), "clusters": str(run.plan.clusters), "seed": str(run.plan.seed)}
    without_far = build(names, scaler, encoder, decoder, far=0.0, notes=notes)
    far = float(np.quantile(without_far.reconstruction_error(features), FAR))
    return build(names, scaler, encoder, decoder, far=far, notes=notes)


def _through(side: Side, rows: torch.Tensor) -> torch.Tensor:
    for weight, bias in side[:-1]:
        rows = functional.relu(functional.linear(rows, weight, bias))
    return functional.linear(rows, *side[-1])


def _error(back: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(back.float(), rows)


def _rescale(encoder: Side, decoder: Side, middle: Any, factor: float) -> None:
    """The embedding becomes (embedding - middle) * factor; what comes back stays the same."""
    (weight, bias), (after, back) = encoder[-1], decoder[0]
    back += (after.double() * middle).sum(1).float()
    after /= factor
    bias -= middle
    bias *= factor
    weight *= factor


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda: torch finds none")
    return torch.device(name)
