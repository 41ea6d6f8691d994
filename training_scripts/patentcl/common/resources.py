"""How much memory, how many threads and what disk a run may use; and whether a step will fit, before it starts."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path
from typing import ClassVar

from .cli import InputError, check_ranges, option
from .files import plain, remove

GB = 1_000_000_000
LEAST = 4 * GB  # of memory, by default
_CGROUPS, _MEMINFO = Path("/proc/self/cgroup"), Path("/proc/meminfo")  # on Linux
# Where control groups lie, both versions, with their limit, use, and the name of cached files in memory.stat.
_VERSIONS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),
)


@dataclass(frozen=True)
class Resources:
    """The budget of a whole process: every engine's pool, and what lies outside the pools."""

    _argument_group_name: ClassVar[str] = "resources"

    memory: str = option("", "memory that the process may use, like 6GB (default: half of the machine's, at least 4GB)")
    threads: int = option(0, "threads, at most one per core (0: all cores)")
    tmp: Path | None = option(None, "folder for temporary files (default: beside the result)", metavar="DIR")

    def __post_init__(self) -> None:
        """Raise `InputError` for a value that is no amount, and for a folder that cannot be written."""
        if self.memory and _amount(self.memory) < GB:
            raise InputError(f"--memory {self.memory}: must be at least 1GB")
        check_ranges(self, {"threads": "[0, inf)"})
        place = _existing(self.tmp or Path())
        if self.tmp and not (place.is_dir() and os.access(place, os.W_OK)):
            raise InputError(f"--tmp {self.tmp}: {place} is not a folder that you can write to")

    @property
    def bytes(self) -> int:
        """The memory that the process may use, at most what the machine has."""
        machine = machine_memory()
        return min(machine, _amount(self.memory) if self.memory else max(machine // 2, LEAST))

    @property
    def thread_count(self) -> int:
        """The number of threads: at most one per core, as more only take memory."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(self.threads or cores, cores)

    @contextmanager
    def scratch(self, result: Path) -> Iterator[Path]:
        """Yield a new folder for the temporary files of the step that writes `result`; it is removed at the end.

        What a killed run of the same step left is removed first, so one process at a time may write `result`.
        """
        name = hashlib.sha256(str(result.resolve()).encode()).hexdigest()[:12]
        folder = plain(self.tmp or result.parent) / f".patentcl-{name}.tmp"
        remove(folder)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            remove(folder)


def require(
    folder: Path,
    disk: float,
    memory: float,
    what: str,
    resources: Resources | None = None,
    flag: str = "--data",
    temporary: float = 0,
) -> None:
    """Raise `InputError` unless a step has enough disk and memory, in bytes.

    `disk` is for its result in `folder`, which `flag` names, and `temporary` for its temporary files. Without
    `resources` it may use all memory that is available. `what` begins the message: "restructuring these tables".
    """
    place, tmp = _existing(folder), _existing((resources and resources.tmp) or folder)
    if place.stat().st_dev == tmp.stat().st_dev:
        disk, temporary = disk + temporary, 0
    budget = resources.bytes if resources else inf
    move = "Free some, or move the {} folder to another disk and pass its new path"
    for need, free, where, advice in (
        (disk, shutil.disk_usage(place).free, f"disk in {place}", move.format(flag)),
        (temporary, shutil.disk_usage(tmp).free, f"disk in {tmp}", move.format("--tmp")),
        (memory, available_memory(), "memory", "Close other programs, or use a machine with more"),
        (memory, budget, "the memory that it may use", f"Pass --memory {ceil(memory / GB)}GB"),
    ):
        if need > free:
            raise InputError(f"{what} needs about {shown(need)} of {where}, with {shown(free)} free. {advice}")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container that the process is in."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *(limit for limit, _ in _limits())])


def available_memory() -> int:
    """Bytes of memory that programs can still take, on this machine and in the container."""
    kilobytes = re.findall(r"MemAvailable:\s*(\d+)", _MEMINFO.read_text() if _MEMINFO.exists() else "")
    return min([machine_memory(), *(1024 * int(n) for n in kilobytes), *(limit - used for limit, used in _limits())])


def _limits() -> Iterator[tuple[int, int]]:
    """Limit and use of memory of each control group that the process is in; cached files are not counted."""
    for line in _CGROUPS.read_text().splitlines() if _CGROUPS.exists() else ():
        _, controllers, group = line.split(":", 2)
        for root, limit, use, cache in _VERSIONS if "memory" in (controllers or "memory") else ():
            for place in (root / group[1:], *(root / group[1:]).parents):
                text = (place / limit).read_text().strip() if (place / limit).exists() else ""  # "max" is none
                if text.isdecimal():
                    counts = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
                    yield int(text), int((place / use).read_text()) - int(counts.get(cache, 0))


def _amount(memory: str) -> int:
    """Number of bytes of an amount like 4GB."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)\s*([KMGT])i?B", memory.strip(), re.IGNORECASE)
    if not match:
        raise InputError(f"--memory {memory}: write an amount of memory like 4GB")
    return int(float(match[1]) * 1000 ** " KMGT".index(match[2].upper()))


def shown(count: float) -> str:
    """A number of bytes as GB, or as MB if it is small."""
    return f"{count / GB:.1f} GB" if count >= GB / 10 else f"{count / 1e6:.1f} MB"
