"""Where the time of a training step goes, and how long a training will take, measured before it starts."""

import math
import time
from datetime import datetime, timedelta

import numpy as np
import torch
from torch import nn

from ..common.distributed import world
from ..models.attention import Layout
from ..models.device import device_dtype, precision
from .batches import Batches
from .gradient import Steps

WARM_UP, MEASURED = 2, 4  # steps; the first ones load or compile kernels
LEAST_STEPS = 50  # of a training that is worth a forecast


def forecast(
    steps: Steps, batches: Batches, first: int, total: int, evaluations: float = math.nan, profile: bool = False
) -> None:
    """Measure some steps without taking them, and print how long the `total - first` that are left will take.

    `evaluations` is how many seconds they will take beside, not a number if that is not known.

    With `profile`, also print where the time of a step goes.
    """
    left = total - first
    if left < LEAST_STEPS and not profile:
        return
    chosen = _steps_of_one_epoch(batches, first, total)
    steps.timed, seconds = profile, []
    for count, step in enumerate(chosen):
        if count == WARM_UP:
            steps.seconds = dict.fromkeys(steps.seconds, 0.0)
        batch = batches[int(step)]  # a training reads it while the step before is computed
        started = time.perf_counter()
        steps.gradient(int(step), batch)
        _wait()
        seconds.append(time.perf_counter() - started)
    optimizer = _optimizer_seconds(steps.model)
    each = float(np.mean(seconds[WARM_UP:])) + optimizer
    known = math.isfinite(evaluations)
    whole = each * left + (evaluations if known else 0)
    beside = f"with {_duration(evaluations)} of evaluations" if known else "without evaluations"
    ends = datetime.now() + timedelta(seconds=whole)
    print(f"{left:,} steps of {each:.2f} s: {_duration(whole)} {beside}, until {ends:%a %H:%M}")
    if profile:
        _print_profile(steps, batches, chosen[WARM_UP:], each, optimizer)
    steps.timed = False
    steps.model.zero_grad()


def _steps_of_one_epoch(batches: Batches, first: int, total: int) -> np.ndarray:
    """Steps over the rest of an epoch, whose order is made once; but for its last batch, which may be a small one."""
    if (first + 1) % batches.per_epoch == 0 and first + 1 < total:
        first += 1  # only that last one is left of the epoch
    ends = min(total, (first // batches.per_epoch + 1) * batches.per_epoch) - 1
    return np.linspace(first, max(first, ends - 1), WARM_UP + MEASURED, dtype=int)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{max(minutes, 1)} min"


def _print_profile(steps: Steps, batches: Batches, chosen: np.ndarray, whole: float, optimizer: float) -> None:
    started = time.perf_counter()
    read = [[steps.texts[row] for row in np.unique(batches[int(step)])] for step in chosen]
    data = (time.perf_counter() - started) / len(chosen)
    forward, backward = (steps.seconds[name] / len(chosen) for name in ("forward", "backward"))
    lengths = [np.sort([len(text) for text in texts])[::-1] for texts in read]
    tokens = sum(int(own.sum()) for own in lengths) / len(chosen)
    layouts = [Layout(own, steps.model.device) for own in lengths]
    cells = sum(group.count * group.width for layout in layouts for group in layout.groups) / len(chosen)
    stock = sum(3 * len(batches[int(step)]) * int(own[0]) for step, own in zip(chosen, lengths, strict=True)) / len(
        chosen
    )
    parts = {"data": data, "forward": forward, "backward": backward, "optimizer": optimizer}
    parts["rest"] = max(0.0, whole - sum(parts.values()))
    print(
        "a step: " + ", ".join(f"{name} {value * 1000:.0f} ms ({value / whole:.0%})" for name, value in parts.items())
    )
    print(
        f"  {tokens:,.0f} tokens; padding {1 - tokens / cells:.0%} in attention, none elsewhere "
        f"(padded to one longest: {1 - tokens / stock:.0%})"
    )
    flops = step_flops(steps.model, np.concatenate(lengths)) / len(chosen) / world()
    peak = measured_peak(steps.model.device)
    print(
        f"  {flops / 1e12:.2f} TFLOP, {flops / whole / 1e12:.2f} TFLOP/s: {flops / whole / peak:.0%} of the "
        f"{peak / 1e12:.2f} TFLOP/s that a large {precision()} matrix product reaches here"
    )


def _optimizer_seconds(model: nn.Module) -> float:
    """One update of as many parameters, on a copy."""
    copies = [torch.zeros_like(p).requires_grad_() for p in model.parameters()]
    for copy in copies:
        copy.grad = torch.zeros_like(copy)
    optimizer = torch.optim.AdamW(copies, 1e-5, weight_decay=0, fused=True)
    optimizer.step()
    _wait()
    started = time.perf_counter()
    optimizer.step()
    _wait()
    return time.perf_counter() - started


def step_flops(model: nn.Module, lengths: np.ndarray) -> float:
    """Floating-point operations of a training step over texts of `lengths` (U,), in tokens.

    6 a weight and token (2 forward, 4 backward), and 12 d L² a text and layer for the attention's two products
    (Kaplan et al. 2020, https://arxiv.org/abs/2001.08361).
    """
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    weights = sum(m.weight.numel() for m in linear)
    config = model[0].model.config  # type: ignore[index]
    own = lengths.astype(np.float64)
    return float(6 * weights * own.sum() + 12 * config.num_hidden_layers * config.hidden_size * (own**2).sum())


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
