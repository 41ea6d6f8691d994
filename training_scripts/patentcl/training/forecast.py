"""How long a training will take, and where the time of a step goes, measured before it starts."""

import math
import time
from datetime import datetime, timedelta

import numpy as np
import torch
from torch import nn

from ..common.distributed import world
from ..models.device import device_dtype, precision
from .batches import Batches
from .gradient import Gradient

WARM_UP, MEASURED = 2, 4  # steps; the first ones load or compile kernels
LEAST_STEPS = 50  # of a training that is worth a forecast
TABLE_ROWS = 10  # of the profile


def forecast(
    gradient: Gradient, batches: Batches, first: int, total: int, evaluations: float = math.nan, profile: bool = False
) -> None:
    """Measure some steps without taking them, and print how long the `total - first` that are left will take.

    `evaluations` is the time of evaluations in seconds, nan if unknown. With `profile`, also print where the time of
    a step goes, and the share of the device's peak that it reaches.
    """
    left = total - first
    if left < LEAST_STEPS and not profile:
        return
    end = min(total, (first // batches.per_epoch + 1) * batches.per_epoch)  # of the epoch, whose order is made once
    steps = [int(step) for step in np.linspace(first, end, WARM_UP + MEASURED, endpoint=False, dtype=int)]
    seconds = []
    for step in steps:
        batch = batches[step]  # a training reads it while the step before is computed
        started = time.perf_counter()
        gradient.compute(step, batch)
        _wait()
        seconds.append(time.perf_counter() - started)
    each = float(np.mean(seconds[WARM_UP:]))  # without the optimizer, a few percent
    known = math.isfinite(evaluations)
    complete = each * left + (evaluations if known else 0)
    beside = f"with {_duration(evaluations)} of evaluations" if known else "without evaluations"
    until = datetime.now() + timedelta(seconds=complete)
    print(f"{left:,} steps of {each:.2f} s: {_duration(complete)} {beside}, until {until:%a %H:%M}")
    if profile:
        _print_profile(gradient, batches, steps[WARM_UP:], each)
    gradient.model.zero_grad()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{max(minutes, 1)} min"


def _print_profile(gradient: Gradient, batches: Batches, steps: list[int], seconds: float) -> None:
    with torch.profiler.profile() as profiled:
        for step in steps:
            gradient.compute(step, batches[step])
    device = gradient.model.device
    order = "cuda_time_total" if device.type == "cuda" else "cpu_time_total"
    print(profiled.key_averages().table(sort_by=order, row_limit=TABLE_ROWS, max_name_column_width=32))
    lengths = [len(gradient.texts[row]) for step in steps for row in np.unique(batches[step])]
    flops = step_flops(gradient.model, np.array(lengths)) / len(steps) / world()
    peak = measured_peak(device)
    print(
        f"{flops / 1e12:.2f} TFLOP per step, {flops / seconds / 1e12:.2f} TFLOP/s: {flops / seconds / peak:.0%} of the "
        f"{peak / 1e12:.2f} TFLOP/s of a large {precision()} matrix product"
    )


def step_flops(model: nn.Module, lengths: np.ndarray) -> float:
    """Floating-point operations of a training step over texts of `lengths` (U,), in tokens.

    6 per weight and token (2 forward, 4 backward), and 12 d L² per text and layer for the two products of attention
    (Kaplan et al. 2020, https://arxiv.org/abs/2001.08361).
    """
    weights = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
    config = model[0].model.config  # type: ignore[index]
    tokens = lengths.astype(np.float64)
    attention = 12 * config.num_hidden_layers * config.hidden_size * (tokens**2).sum()
    return float(6 * weights * tokens.sum() + attention)


def measured_peak(device: torch.device, size: int = 0) -> float:
    """FLOP/s of a large square matrix product."""
    size = size or (8192 if device.type == "cuda" else 2048)
    a = torch.randn(size, size, device=device, dtype=device_dtype())
    best = 0.0
    for _ in range(5):
        _wait()
        started = time.perf_counter()
        a @ a
        _wait()
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best
