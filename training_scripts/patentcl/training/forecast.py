"""How long a training will take, and where the time of a step goes, measured before it starts."""

import time
from datetime import datetime, timedelta

import numpy as np
import torch
from torch import nn
from torch.utils.benchmark import Timer

from ..common.distributed import world
from ..models.device import device_dtype, precision
from .batches import Batches
from .gradient import Gradient

WARM_UP, MEASURED = 2, 4  # steps; the first ones load or compile kernels
LEAST_STEPS = 50  # of a training that is worth a forecast


def forecast(
    gradient: Gradient, batches: Batches, first: int, total: int, evaluations: float = 0, profile: bool = False
) -> None:
    """Measure some steps without taking them, and print how long the `total - first` that are left will take.

    `evaluations` is the time of evaluations in seconds, 0 if unknown. With `profile`, also print where the time of
    a step goes, and the share of the device's peak that it reaches.
    """
    left = total - first
    if left < LEAST_STEPS and not profile:
        return
    end = min(total, (first // batches.per_epoch + 1) * batches.per_epoch)  # of the epoch, whose order is made once
    steps = np.linspace(first, end, WARM_UP + MEASURED, endpoint=False, dtype=int).tolist()
    seconds = []
    for step in steps:
        batch = batches[step]  # a training reads it while the step before is computed
        started = time.perf_counter()
        gradient.compute(step, batch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    each = float(np.mean(seconds[WARM_UP:]))  # without the optimizer, a few percent
    duration = timedelta(seconds=round(each * left + evaluations))
    beside = f"with {timedelta(seconds=round(evaluations))} of evaluations" if evaluations else "without evaluations"
    print(f"{left:,} steps of {each:.2f} s: {duration} {beside}, until {datetime.now() + duration:%a %H:%M}")
    if profile:
        _print_profile(gradient, batches, steps[WARM_UP:], each)
    gradient.model.zero_grad()


def _print_profile(gradient: Gradient, batches: Batches, steps: list[int], seconds: float) -> None:
    """Print the slowest operations, and the FLOP/s of steps that take `seconds` each."""
    with torch.profiler.profile() as profiled:
        for step in steps:
            gradient.compute(step, batches[step])
    device = gradient.model.device
    slowest = "cuda_time_total" if device.type == "cuda" else "cpu_time_total"
    print(profiled.key_averages().table(slowest, row_limit=10, max_name_column_width=32))
    lengths = [len(gradient.texts[row]) for step in steps for row in np.unique(batches[step])]
    flops = step_flops(gradient.model, np.array(lengths)) / len(steps) / world()
    size = 8192 if device.type == "cuda" else 2048
    a = torch.randn(size, size, device=device, dtype=device_dtype())
    product = Timer("a @ a", globals={"a": a}, num_threads=torch.get_num_threads()).timeit(5)
    peak = 2 * size**3 / product.mean
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
