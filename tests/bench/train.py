"""Training of the encoder: rows/s and seconds an epoch, and what bounds them.

    python -m tests.bench.train --rows 100000 --rows 1000000

Runs in the environment of `make test-embeddings`; on CUDA where there is one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from online_models.encoder.autoencoder import Plan, Report, train
from state import features
from tests.embeddings.planted import shoppers

Clock = Callable[[], float]
SMALL = 64  # rows of a step that shows what a step costs by itself
SIDE = 2048  # of the square matrices that show what the device can do


@click.command()
@click.option("--rows", multiple=True, type=int, default=[100_000, 1_000_000], show_default=True)
@click.option("--epochs", default=5, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--hidden", default="32", show_default=True, help="Units of the hidden layers: 64,32.")
@click.option("--threads", default=0, help="0: torch's own choice.")
@click.option("--cpu-time", is_flag=True, help="Time of the process, not the wall's; one thread.")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(
    rows: tuple[int, ...], epochs: int, device: str, hidden: str, threads: int, cpu_time: bool, path: Path | None
) -> None:
    clock = time.process_time if cpu_time else time.perf_counter
    if cpu_time:
        torch.set_num_threads(1)
    elif threads:
        torch.set_num_threads(threads)
    layers = tuple(int(units) for units in hidden.split(",") if units)
    plan = Plan(hidden=layers, epochs=epochs, device=device)
    if device == "auto":
        plan = replace(plan, device="cuda" if torch.cuda.is_available() else "cpu")
    found = []
    for mode in modes(plan):
        for n in rows:
            found.append(measured(mode, n, clock))
            click.echo(line(found[-1]))
    if path is not None:
        path.write_text(json.dumps(found, indent=2))


def modes(plan: Plan) -> Iterator[Plan]:
    """On the CPU as it is trained there; on CUDA also what bf16 and compilation add."""
    if plan.device == "cpu":
        yield plan
        return
    for bf16, compiled in ((False, False), (True, False), (True, True)):
        yield replace(plan, bf16=bf16, compiled=compiled)


def measured(plan: Plan, n: int, clock: Clock) -> dict[str, Any]:
    report = trained(plan, n, clock)
    flops = 6 * report.parameters * report.rows  # an epoch: multiply and add, forward and twice backward
    small = trained(replace(plan, batch=SMALL, epochs=2), 200 * SMALL, clock)
    steps = report.rows // report.batch
    one, step = small.epoch_seconds / 200, report.epoch_seconds / steps
    reached, possible = flops / report.epoch_seconds / 1e9, peak(plan, clock)
    if one > step / 2:
        bound = "the fixed cost of a step"
    elif reached > possible / 2:
        bound = "arithmetic"
    else:
        bound = "memory traffic: layers this narrow move more bytes than they multiply"
    return {
        "rows": n, "device": report.device, "threads": report.threads, "bf16": report.bf16,
        "compiled": report.compiled, "parameters": report.parameters, "batch": report.batch,
        "load_seconds": report.load_seconds, "first_epoch_seconds": report.epochs[0].seconds,
        "epoch_seconds": report.epoch_seconds, "rows_per_second": report.rows_per_second,
        "step_ms": step * 1e3, "small_step_ms": one * 1e3, "gflops": reached, "possible_gflops": possible,
        "bound": bound,
    }  # fmt: skip


def trained(plan: Plan, n: int, clock: Clock) -> Report:
    return train(shoppers(1, n)[0], shoppers(2, 256)[0], features.NAMES, features.R, plan, clock)[1]


def peak(plan: Plan, clock: Clock) -> float:
    """GFLOP/s of a large product on the same device."""
    kind = torch.bfloat16 if plan.bf16 else torch.float32
    side = torch.randn(SIDE, SIDE, device=plan.device, dtype=kind)
    best = float("inf")
    for _ in range(5):
        began = clock()
        side @ side
        if plan.device == "cuda":
            torch.cuda.synchronize()
        best = min(best, clock() - began)
    return 2 * SIDE**3 / best / 1e9


def line(found: dict[str, Any]) -> str:
    return (
        f"{found['rows']:,} rows x {len(features.NAMES)} features, {found['parameters']:,} parameters, "
        f"{found['device']} ({found['threads']} threads{', bf16' * found['bf16']}{', compiled' * found['compiled']}): "
        f"{found['rows_per_second']:,.0f} rows/s, {found['epoch_seconds']:.2f} s an epoch (the first "
        f"{found['first_epoch_seconds']:.2f}), scaled and loaded in {found['load_seconds']:.2f} s; a step of "
        f"{found['batch']:,} rows {found['step_ms']:.2f} ms, of {SMALL} {found['small_step_ms']:.2f} ms; "
        f"{found['gflops']:.1f} of {found['possible_gflops']:.0f} GFLOP/s; bound by {found['bound']}"
    )


if __name__ == "__main__":
    main()
