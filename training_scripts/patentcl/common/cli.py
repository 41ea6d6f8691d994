"""What the scripts share: how they end, and the seed from the command line."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from .screen import screen_may_go


class Interrupted(Exception):
    """Work was asked to stop, and has saved what it needs to go on."""


class InputError(Exception):
    """Something the user can mend, told in one sentence that names the place and what to do."""


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; tell an `InputError` as one sentence (exit code 2) instead of a traceback.

    SIGTERM and SIGHUP (a closed terminal) end it as Ctrl-C does: what is half-written is removed.
    """

    def end(number: int, _: object) -> None:
        if number == signal.SIGHUP:  # which comes from the kernel and from the shell
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, end)
    try:
        with screen_may_go():
            main()
    except Interrupted as saved:
        sys.exit(_say(f"interrupted: {saved}", 130))
    except InputError as problem:
        sys.exit(_say(f"error: {problem}", 2))
    except OSError as problem:  # a full disk, a folder that may not be written to
        sys.exit(_say(f"error: {problem}: free space, or choose a folder that can be written to", 2))
    except KeyboardInterrupt:
        sys.exit(_say("\ninterrupted: nothing half-written was kept; start again to go on", 130))


def seed(text: str) -> int:
    """A seed from the command line: what every random generator takes, 0 to 2^32 - 1."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text} is no seed: take a whole number from 0 to 4294967295")
    return int(text)


def _say(sentence: str, code: int) -> int:
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks, if it has something to say
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(3)  # torchrun ends the others when one has ended
    with suppress(OSError):  # nobody may be there to read it
        print(sentence, file=sys.stderr, flush=True)
    return code
