"""Options come from dataclasses; a script reports what the user can fix, and leaves bugs a traceback."""

import errno
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from patentcl.common.cli import InputError, Interrupted, check_ranges, option, parse_options, run_script


@dataclass
class Where:
    """The first group."""

    _argument_group_name: ClassVar[str] = "places"
    data: Path = option(Path("data"), "data folder", metavar="DIR")
    models: list[str] = field(default_factory=list, metadata={"help": "names"})


@dataclass
class How:
    """The second group."""

    per_anchor: int = option(3, "positives of an anchor")
    split: Literal["random", "time"] = option("random", "how to split")
    resume: bool = option(False, "continue")
    lr: float | None = None
    seed: int = 42

    def __post_init__(self) -> None:
        check_ranges(self, {})


def test_each_dataclass_is_filled_from_its_flags() -> None:
    where, how = parse_options(
        "", Where, How, argv=["--models", "a", "b", "--per-anchor", "5", "--split", "time", "--resume"]
    )

    assert where == Where(models=["a", "b"])
    assert how == How(per_anchor=5, split="time", resume=True)
    given = parse_options("", How, argv=["--seed", "7"], defaults=lambda chosen: {"per_anchor": chosen.seed})
    assert given == (How(per_anchor=7, seed=7),)


def test_help_shows_the_docstring_the_groups_and_each_default_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options("First.\n\n    python x.py   # a   comment\n", Where, How, argv=["--help"])

    shown = capsys.readouterr().out
    assert "    python x.py   # a   comment\n" in shown and "\nplaces:\n" in shown
    assert "--per-anchor PER_ANCHOR\n" in shown and "--per_anchor" not in shown
    assert "(default: 3)" in shown and "(default: data)" in shown and "None" not in shown
    assert "{random,time}" in shown and "--resume " in shown and "[RESUME]" not in shown


@pytest.mark.parametrize(
    "argv", [["--split", "age"], ["--per-anchor", "x"], ["--unknown", "1"], ["--per", "5"], ["--lr=--"]]
)
def test_a_wrong_command_line_names_the_flag(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options("", How, argv=argv)

    assert ended.value.code == 2 and argv[0].removesuffix("=--") in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "4294967296"])
def test_a_value_out_of_range_names_its_flag(seed: str) -> None:
    with pytest.raises(InputError, match=f"--seed {seed}"):
        parse_options("", How, argv=["--seed", seed])


def raising(problem: BaseException) -> int:
    """The exit code of a script that raises `problem`."""

    def main() -> None:
        raise problem

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    return int(ended.value.code or 0)


def test_what_the_user_can_fix_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    assert raising(InputError("x.csv, line 7: wrong")) == 2
    assert capfd.readouterr().err == "error: x.csv, line 7: wrong\n"
    assert raising(OSError(errno.ENOSPC, "No space left on device", "out.csv")) == 2
    assert "out.csv" in capfd.readouterr().err
    assert raising(Interrupted("add --resume")) == 130
    assert "--resume" in capfd.readouterr().err
    assert raising(KeyboardInterrupt()) == 130
    assert re.search(r"Interrupted: \w", capfd.readouterr().err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_that_a_library_makes_its_own_error_is_one(number: signal.Signals) -> None:
    def main() -> None:
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            raise InputError("numpy failed to import") from None

    before = signal.signal(number, signal.SIG_DFL)  # as in a terminal; a process in the background may ignore it
    with pytest.raises(SystemExit) as ended:
        run_script(main)
    signal.signal(number, before)

    assert ended.value.code == 130


def test_a_bug_keeps_its_traceback() -> None:
    def main() -> None:
        raise ConnectionError("refused")

    with pytest.raises(ConnectionError):
        run_script(main)


WITHOUT_A_READER = """
import sys
from pathlib import Path
from patentcl.common.cli import run_script

def main():
    for stream in (sys.stdout, sys.stderr):
        print("x" * 100_000, file=stream, flush=True)
    Path(sys.argv[1]).touch()

if sys.argv[2] == "closed":
    sys.stdout = None
run_script(main)
"""


@pytest.mark.parametrize("how", ["gone", "closed"])
def test_a_script_that_nobody_reads_does_its_work(tmp_path: Path, how: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as after `python x.py 2>&1 | tee log` and Ctrl-C, or a closed terminal
    command = [sys.executable, "-c", WITHOUT_A_READER, str(tmp_path / "done"), how]

    ended = subprocess.run(command, stdout=writing, stderr=writing)

    os.close(writing)
    assert ended.returncode == 0 and (tmp_path / "done").exists()
