"""Progress bars that move while one long step runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


@contextmanager
def ticking(progress: "tqdm[Any]", state: Callable[[bool], str] = lambda ended: "") -> Iterator[None]:
    """Redraw the bar every second while the body runs, and at its end, with what `state(ended)` says behind it."""
    done = threading.Event()

    def tick() -> None:
        while not done.wait(1):
            progress.set_postfix_str(state(False))

    progress.set_postfix_str(state(False))
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    progress.set_postfix_str(state(True))
