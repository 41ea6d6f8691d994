"""Several processes that train one model, as `torchrun` starts them, one a GPU; a single one is the simple case."""

import datetime
import logging
import os
import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from .cli import InputError

PATIENCE = datetime.timedelta(hours=6)  # that the others wait while the first one evaluates
SAVING = 600  # seconds that processes have for a step and a checkpoint when they are asked to stop


def rank() -> int:
    """The number of this process, 0 for the one that writes and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def join() -> None:
    """Meet the other processes, if torchrun started some. Each takes the GPU of its own number."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
        if rank() > 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # one process prints


def one_process_a_gpu() -> None:
    """Do what plain Python on several GPUs was asked for in a process on each; it would leave all but one idle."""
    devices = torch.cuda.device_count()
    if devices < 2 or "WORLD_SIZE" in os.environ:
        return
    print(f"{devices} GPUs: starts torchrun with a process on each (CUDA_VISIBLE_DEVICES chooses fewer)", flush=True)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes tell what happened
    spec = sys.modules["__main__"].__spec__  # there is one where it was started with -m
    started = ["-m", spec.name] if spec else [sys.argv[0]]
    options = ["--standalone", f"--nproc-per-node={devices}", f"--shutdown-timeout={SAVING}"]
    try:
        torchrun.run(torchrun.parse_args([*options, *started, *sys.argv[1:]]))
    except ChildFailedError as failed:
        _, first = failed.get_first_failure()
        if first.exitcode == 2:  # an InputError, which `run_script` handed over
            print(first.message, file=sys.stderr)
        sys.exit(first.exitcode)
    except SignalException:
        sys.exit(130)
    sys.exit(0)


def wait() -> None:
    """Wait until all have come here."""
    if world() > 1:
        dist.barrier()


def add_gradients(model: nn.Module) -> None:
    """Add the gradients of all processes, in one message."""
    if world() == 1:
        return
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([grad.ravel() for grad in grads])
    dist.all_reduce(flat)
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)


def add(values: Tensor) -> Tensor:
    """The sum of `values` over all processes."""
    if world() > 1:
        dist.all_reduce(values)
    return values


def check_the_same(value: int, what: str) -> None:
    """Raise `InputError` on all processes unless they have the same `value`."""
    if world() > 1:
        ends = torch.tensor([value, -value], device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        if int(ends[0]) != -int(ends[1]):
            raise InputError(f"{what} is not the same for all processes: they must share one folder")


def gather_rows(rows: Tensor, total: int) -> Tensor:
    """The rows (total, d) of all, of which process r holds (m, d): r, r + world, r + 2 world, …"""
    if world() == 1:
        return rows
    whole = rows.new_zeros(total, rows.shape[1])
    whole[rank() :: world()] = rows
    return add(whole)
