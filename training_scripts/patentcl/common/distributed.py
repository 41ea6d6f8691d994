"""Training in several processes, one per GPU, started by `torchrun`; a single process is the simple case."""

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

from .cli import InputError, command_line

PATIENCE = datetime.timedelta(hours=6)  # how long the others wait while the first process evaluates
SAVING = 600  # seconds that an interrupted process has to finish its step and save


def rank() -> int:
    """The number of this process; process 0 writes and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def join() -> None:
    """Join the other processes if torchrun started some; each takes the GPU of its own number."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
        if rank() > 0:  # only process 0 prints
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def launch_one_process_per_gpu() -> None:
    """On a machine with several GPUs, run this script again under torchrun with one process per GPU, then exit."""
    devices = torch.cuda.device_count()
    if devices < 2 or "WORLD_SIZE" in os.environ:
        return
    print(f"{devices} GPUs: starting one process on each (select some with CUDA_VISIBLE_DEVICES)", flush=True)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes report their errors
    options = ["--standalone", f"--nproc-per-node={devices}", f"--shutdown-timeout={SAVING}"]
    try:
        torchrun.run(torchrun.parse_args([*options, *command_line(), *sys.argv[1:]]))
    except ChildFailedError as failed:
        _, first = failed.get_first_failure()
        if first.exitcode == 2:  # an InputError, which `run_script` handed over
            print(first.message, file=sys.stderr)
        sys.exit(first.exitcode)
    except SignalException:
        sys.exit(130)
    sys.exit(0)


def wait() -> None:
    """Barrier across all processes."""
    if world() > 1:
        dist.barrier()


def add(values: Tensor) -> Tensor:
    """Sum `values` over all processes, in place."""
    if world() > 1:
        dist.all_reduce(values)
    return values


def add_gradients(model: nn.Module) -> None:
    """Sum the gradients over all processes, in one message."""
    if world() == 1:
        return
    parameters = [p for p in model.parameters() if p.requires_grad]
    flat = add(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).ravel() for p in parameters]))
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)


def gather_rows(rows: Tensor, total: int) -> Tensor:
    """All rows (total, d), of which process r holds (m, d): r, r + world, r + 2 world, …"""
    if world() == 1:
        return rows
    complete = rows.new_zeros(total, rows.shape[1])
    complete[rank() :: world()] = rows
    return add(complete)


def check_the_same(value: int, what: str) -> None:
    """Raise `InputError` in all processes unless they have the same `value`."""
    values = [value] * world()
    if world() > 1:
        dist.all_gather_object(values, value)
    if len(set(values)) > 1:
        raise InputError(f"{what} differs between processes ({values}). They must share one folder.")
