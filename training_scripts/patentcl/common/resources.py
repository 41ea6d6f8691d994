"""How much memory, how many threads and what disk a run may use; and whether a step will fit, before it starts."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import ClassVar

from .cli import InputError, option
from .files import remove

GB = 1_000_000_000
LEAST = 4 * GB  # of memory, by default
_CGROUPS = Path("/proc/self/cgroup")  # on Linux: the control groups that the process is in
# How /proc/self/cgroup names the group, where it lies, and its limit, use, and line of cached files in memory.stat.
_VERSIONS = (
    (r"^0::/(.*)$", Path("/sys/fs/cgroup"), "memory.max", "memory.current", r"^file (\d+)"),
    (r"^\d+:[\w,]*\bmemory\b.*?:/(.*)$", Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes",
     "memory.usage_in_bytes", r"^total_cache (\d+)"),
)  # fmt: skip
_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class Resources:
    """The budget of a whole process: every engine's pool, and what lies outside the pools."""

    _argument_group_name: ClassVar[str] = "resources"

    memory: str = option("", "memory that the process may use, like 6GB (default: half of the machine's, at least 4GB)")
    threads: int = option(0, "threads, at most one per core (0: all cores)")
    tmp: Path | None = option(None, "folder for temporary files (default: beside the result)", metavar="DIR")

    def __post_init__(self) -> None:
        """Raise `InputError` for a value that is no amount."""
        if self.memory and _amount(self.memory) < GB:
            raise InputError(f"--memory {self.memory}: must be at least 1GB")
        if self.threads < 0:
            raise InputError(f"--threads {self.threads}: must be 0 (all cores) or more")

    @property
    def bytes(self) -> int:
        """The memory that the process may use."""
        return _amount(self.memory) if self.memory else max(machine_memory() // 2, LEAST)

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
        folder = (
            self.scratch_folder(result)
            / f".patentcl-{hashlib.sha256(str(result.resolve()).encode()).hexdigest()[:12]}.tmp"
        )
        remove(folder)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            remove(folder)

    def scratch_folder(self, result: Path) -> Path:
        """The folder in which `scratch` makes its own: --tmp, or that of `result`."""
        return self.tmp or result.parent

    def on_one_disk(self, result: Path) -> bool:
        """Whether `result` and the temporary files of its step lie on the same disk."""
        return _existing(self.scratch_folder(result)).stat().st_dev == _existing(result).stat().st_dev


def require(
    folder: Path, disk: float, memory: float, what: str, resources: Resources = Resources(), flag: str = "--data"
) -> None:
    """Raise `InputError` unless `disk` bytes are free in `folder`, and the process may and can use `memory` bytes.

    `what` begins the message: "restructuring these tables"; `flag` is the one that names `folder`.
    """
    is_temporary = resources.tmp and folder.resolve().is_relative_to(resources.tmp.resolve())
    folder = _existing(folder)
    free = shutil.disk_usage(folder).free
    if disk > free:
        flag = "--tmp" if is_temporary else flag
        raise InputError(
            f"{what} needs about {_shown(disk)} of disk in {folder}, which has {_shown(free)} free. "
            f"Free some, or name a folder on another disk with {flag}"
        )
    if memory > resources.bytes:
        raise InputError(
            f"{what} needs about {_shown(memory)} of memory, more than the {_shown(resources.bytes)} that it may use. "
            f"Pass --memory {ceil(memory / GB)}GB"
        )
    if memory > (available := available_memory()):
        raise InputError(
            f"{what} needs about {_shown(memory)} of memory, and {_shown(available)} is available. "
            "Close other programs, or use a machine with more; --memory does not help"
        )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container that the process is in."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *(limit for limit, _ in _limits())])


def available_memory() -> int:
    """Bytes of memory that programs can still take, on this machine and in the container."""
    available = machine_memory()
    if _MEMINFO.exists():  # on Linux
        kilobytes = re.search(r"MemAvailable:\s*(\d+)", _MEMINFO.read_text())
        available = min(available, int(kilobytes[1]) * 1024 if kilobytes else available)
    return min([available, *(limit - used for limit, used in _limits())])


def _limits() -> list[tuple[int, int]]:
    """Limit and use of memory of each control group that the process is in; cached files are not counted."""
    limits = []
    groups = _CGROUPS.read_text() if _CGROUPS.exists() else ""
    for pattern, root, limit, use, cache in _VERSIONS:
        group = re.search(pattern, groups, re.MULTILINE)
        for place in (root / group[1], *(root / group[1]).parents) if group else ():
            if place.is_relative_to(root) and (place / limit).exists():
                text = (place / limit).read_text().strip()  # "max" is none
                cached = re.search(cache, (place / "memory.stat").read_text(), re.MULTILINE)
                if text.isdecimal():
                    used = int((place / use).read_text()) - (int(cached[1]) if cached else 0)
                    limits.append((int(text), used))
    return limits


def _amount(memory: str) -> int:
    """Number of bytes of an amount like 4GB."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)\s*([KMGT])i?B", memory.strip(), re.IGNORECASE)
    if not match:
        raise InputError(f"--memory {memory}: write an amount of memory like 4GB")
    return int(float(match[1]) * 1000 ** " KMGT".index(match[2].upper()))


def _shown(count: float) -> str:
    return f"{count / GB:.1f} GB"
