"""Progress bars that move while one long step runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


@contextmanager
def ticking(progress: "tqdm[Any]", state: Callable[[], str] | None = None) -> Iterator[None]:
    """Redraw the bar every second while the body runs, with what `state` says behind it."""
    done = threading.Event()

    def tick() -> None:
        while not done.wait(1):
            if state is not None:
                progress.set_postfix_str(state(), refresh=False)
            progress.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
