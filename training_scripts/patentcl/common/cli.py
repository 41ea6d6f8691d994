"""The command line: options from dataclasses, and how a script reports errors and ends."""

import argparse
import errno
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

# Errors of the operating system that the user can fix; any other OSError is a bug and ends in a traceback.
_FIXABLE = (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError)
_FIXABLE_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG)


class Interrupted(Exception):
    """The run was stopped and can be resumed; the message says how."""


class InputError(Exception):
    """A problem that the user can fix. The message says what is wrong, where, and what to do."""


def parse_options(
    doc: str | None,
    *options: Any,
    argv: Sequence[str] | None = None,
    defaults: Callable[[argparse.Namespace], dict[str, Any]] = lambda given: {},
) -> tuple[Any, ...]:
    """Parse a command line into one instance of each dataclass in `options`, whose fields are made by `option`.

    A boolean field is a flag, and a `Literal` gives the choices. `_argument_group_name` of a dataclass is the heading
    of its options; `defaults` gives defaults that depend on what is given. Exits with code 2 for a command line that
    argparse refuses.
    """
    from transformers import HfArgumentParser  # takes a second

    usage = " ".join(["python", *command_line(), "[options]"])
    parser = HfArgumentParser(list(options), description=doc, formatter_class=_Help, usage=usage, allow_abbrev=False)
    for action in parser._actions:  # show --per-anchor but not --per_anchor, which is understood, too; nor --import-
        action.option_strings = [o for o in action.option_strings if "_" not in o and not o.endswith("-")]
    argv = sys.argv[1:] if argv is None else argv
    for word in argv:
        if word.startswith("--") and word.endswith("=--"):  # a ValueError in argparse
            parser.error(f"argument {word.removesuffix('=--')}: expected a value")
        if re.search("[\ud800-\udfff]", word):
            parser.error(f"{word!a}: not UTF-8")
    words = [word for word in argv if word not in ("-h", "--help")]
    if len(words) == len(argv) or not any(action.required for action in parser._actions):
        parser.set_defaults(**defaults(parser.parse_args(words)))
    return parser.parse_dict(vars(parser.parse_args(argv)))


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keep the layout of the docstring, and show defaults."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, "") or isinstance(action.default, bool):
            return action.help
        return super()._get_help_string(action)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return "" if action.const is True else super()._format_args(action, default_metavar)


def command_line() -> list[str]:
    """What runs, as arguments of `python`: `["demo.py"]` or `["-m", "patentcl.evaluation"]`."""
    module = sys.modules["__main__"].__spec__  # None unless started with python -m
    return ["-m", module.name.removesuffix(".__main__")] if module else [sys.argv[0]]


def option(default: Any, help: str, **more: Any) -> Any:
    """A dataclass field with its help text and other arguments of `argparse.add_argument`, such as `metavar`."""
    return field(default=default, metadata={"help": help, **more})


def check_ranges(options: Any, ranges: dict[str, str]) -> None:
    """Raise `InputError` naming the flag for a value outside its interval, such as "[0, 1)" (0 is in it, 1 is not).

    `options` is a dataclass instance or a dict. A seed and the choices of fields, which a notebook can set to anything,
    are checked without being named; None is in every interval.
    """
    values = options if isinstance(options, dict) else vars(options)
    for name, interval in {"seed": "[0, 4294967296)", **ranges}.items():
        low, high = (float(end) for end in interval[1:-1].split(","))
        if (value := values.get(name)) is not None:
            above = low <= value if interval[0] == "[" else low < value
            below = value <= high if interval[-1] == "]" else value < high
            if not (above and below):  # neither is nan
                raise InputError(f"--{name.replace('_', '-')} {value}: must be in {interval}.")
    for known in () if isinstance(options, dict) else fields(options):
        choices = get_args(known.type) if get_origin(known.type) is Literal else known.metadata.get("choices")
        if choices and values[known.name] not in (None, *choices):
            flag = known.name.strip("_").replace("_", "-")
            raise InputError(f"--{flag} {values[known.name]}: must be one of {', '.join(choices)}.")


def first_line(problem: BaseException) -> str:
    """The first line of an exception's message, for use in a sentence; the others are often a stack."""
    return str(problem).strip().split("\n")[0] or type(problem).__name__


def is_main_process() -> bool:
    """Whether this process prints: the only one, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def run_script(main: Callable[[], object]) -> None:
    """Run a script's `main`. An `InputError` is printed without a traceback, and the exit code is 2.

    SIGTERM and SIGHUP (a closed terminal) interrupt the script as Ctrl-C does, so that partial output is removed. The
    exit code is then 130, also where a library made another error of the interrupt.
    """
    signals: list[int] = []

    def interrupt(number: int, _: object) -> None:
        signals.append(number)
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_IGN)  # SIGHUP comes from the kernel and again from the shell
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, interrupt)
    for name in ("stdout", "stderr"):
        if stream := getattr(sys, name):  # None if it was closed before the start
            raw = io.BufferedWriter(_Unbreakable(stream.fileno(), "w", closefd=False))
            setattr(sys, name, io.TextIOWrapper(raw, stream.encoding, "backslashreplace", line_buffering=True))
    try:
        try:
            main()
        except Exception as problem:
            if signals and not isinstance(problem, Interrupted):
                raise KeyboardInterrupt from None
            raise
    except InputError as problem:
        _fail(f"error: {problem}")
    except OSError as problem:
        if not isinstance(problem, _FIXABLE) and problem.errno not in _FIXABLE_CODES:
            raise
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        _fail(f"error: {problem}. {'Free disk space' if full else 'Change its permissions'}, or choose another folder.")
    except (Interrupted, KeyboardInterrupt) as problem:
        if is_main_process():
            print(f"\nInterrupted: {str(problem) or 'run the same command again to continue.'}", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> None:
    """Print `message` on one line and exit; under torchrun hand it over: others may fail for the same reason."""
    message = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in message)
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        Path(path).write_text(json.dumps({"message": message}), encoding="utf-8")
    else:
        print(message, file=sys.stderr)
    sys.exit(2)


class _Unbreakable(io.FileIO):
    """Output whose reader may go away (a closed terminal, `tee` after Ctrl-C): what cannot be written is lost."""

    def write(self, data: Any) -> int:
        with suppress(OSError):
            return super().write(data) or 0
        return len(data)
