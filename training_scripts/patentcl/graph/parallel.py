"""Work in several threads, which ends cleanly on an error or an interrupt."""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any


def in_parallel(
    work: Callable[[Any], Any],
    items: Iterable[Any],
    width: int,
    finished: Callable[[Any], object],
    stop: Callable[[], None],
) -> None:
    """Call `work` on each item in `width` threads, and `finished` on each result as it comes, in this thread.

    Items are taken when a thread is free, so a long stream of them needs no memory. After an error or an interrupt no
    further item is started; `stop` asks running work to end, and the error is raised once it has.
    """
    running: set[Future[Any]] = set()

    def gather() -> None:
        nonlocal running
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            finished(future.result())

    with ThreadPoolExecutor(width) as pool:
        try:
            for item in items:
                if len(running) == width:
                    gather()
                running.add(pool.submit(work, item))
            while running:
                gather()
        except BaseException:
            stop()
            raise
