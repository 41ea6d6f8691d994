"""The command line: options from dataclasses, and how a script reports errors and ends."""

import argparse
import errno
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, TextIO

# Errors of the operating system that the user can fix; any other OSError is a bug and ends in a traceback.
_FIXABLE = {
    errno.ENOSPC: "free disk space",
    errno.EDQUOT: "free disk space",
    errno.EACCES: "choose a folder that you can write to",
    errno.EPERM: "choose a folder that you can write to",
    errno.EROFS: "choose a folder that you can write to",
    errno.ENOTDIR: "choose another path",
    errno.ENAMETOOLONG: "choose a shorter path",
}


class Interrupted(Exception):
    """The run was stopped and can be resumed; the message says how."""


class InputError(Exception):
    """A problem that the user can fix. The message says what is wrong, where, and what to do."""


def parse_options(
    doc: str | None, *options: Any, argv: Sequence[str] | None = None, defaults: dict[str, Any] | None = None
) -> tuple[Any, ...]:
    """Parse a command line into one instance of each dataclass in `options`.

    A field's metadata holds what `argparse.add_argument` takes (`help`, `metavar`); its type and default give the
    rest, and a boolean field is a flag. `_argument_group_name` of a dataclass is the heading of its options.
    `defaults` replaces defaults of fields by name. Raises what a `__post_init__` raises; exits with code 2 and the
    usage when the command line itself is wrong.
    """
    from transformers import HfArgumentParser  # takes a second

    parser = HfArgumentParser(list(options), description=doc, formatter_class=_Help, usage="%(prog)s [options]")
    for action in parser._actions:  # --per-anchor and --per_anchor are both understood, the first one is shown
        action.option_strings = [option for option in action.option_strings if "_" not in option]
    parser.set_defaults(**(defaults or {}))
    return parser.parse_dict(vars(parser.parse_args(argv)))


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keep the layout of the docstring, and show defaults."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, "") or isinstance(action.default, bool):
            return action.help
        return super()._get_help_string(action)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return "" if action.const is True else super()._format_args(action, default_metavar)


def option(default: Any, help: str, **more: Any) -> Any:
    """A field with its help text and other arguments of `argparse`."""
    return field(default=default, metadata={"help": help, **more})


def check_ranges(options: Any, ranges: dict[str, str]) -> None:
    """Raise `InputError` for a value outside its interval; "[0, 1)" holds 0 and not 1."""
    for name, interval in ranges.items():
        value = getattr(options, name)
        low, high = (float(end) for end in interval[1:-1].split(","))
        above = low <= value if interval[0] == "[" else low < value
        below = value <= high if interval[-1] == "]" else value < high
        if not (above and below):  # neither is nan
            raise InputError(f"--{name.replace('_', '-')} {value}: must be in {interval}")


def check_seed(seed: int) -> None:
    """Raise `InputError` unless every random generator takes `seed`."""
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed {seed}: must be from 0 to {2**32 - 1}")


def seed(text: str) -> int:
    """A seed from the command line, for scripts that still use argparse."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text}: must be from 0 to {2**32 - 1}")
    return int(text)


def first_line(problem: BaseException) -> str:
    """The first line of an exception's message, for use in a sentence; the others are often a stack."""
    return str(problem).strip().split("\n")[0] or type(problem).__name__


def is_main_process() -> bool:
    """Whether this process prints: the only one, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def run_script(main: Callable[[], object]) -> None:
    """Run a script's `main`. An `InputError` is printed as one sentence, without a traceback, and exits with code 2.

    SIGTERM and SIGHUP (a closed terminal) interrupt it as Ctrl-C does, so that partial output is removed.
    """

    def interrupt(number: int, _: object) -> None:
        if number == signal.SIGHUP:  # sent by the kernel and again by the shell
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, interrupt)
    sys.stdout, sys.stderr = _unbreakable(sys.stdout), _unbreakable(sys.stderr)
    try:
        main()
    except InputError as problem:
        _fail(f"error: {problem}")
    except OSError as problem:
        if problem.errno not in _FIXABLE:
            raise
        _fail(f"error: {problem}: {_FIXABLE[problem.errno]}")
    except (Interrupted, KeyboardInterrupt) as problem:
        if is_main_process():
            print(f"\nInterrupted: {problem or 'partial output was removed; rerun to continue'}", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> None:
    """Print `message` and exit. Under torchrun, hand it over instead: several processes may fail of one cause."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump({"message": message}, file)
    else:
        print(message, file=sys.stderr)
    sys.exit(2)


class _Unbreakable(io.FileIO):
    """A file descriptor that loses what cannot be written."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)


def _unbreakable(stream: TextIO | None) -> TextIO:
    """A stream that survives when its reader goes away (a closed terminal, `tee` after Ctrl-C): output is lost."""
    if stream is None:  # it was closed before the start
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 (until the script ends)
    raw = _Unbreakable(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True)
