"""Several pieces of work at a time, with a clean end when one fails or the user interrupts."""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    width: int,
    finished: Callable[[Result], object],
    stop: Callable[[], None],
) -> None:
    """Do `work` on each item in `width` threads; give each result to `finished`, in this thread, as it comes.

    Items are taken as threads get free, so a long stream of them needs no memory. On an error or an interrupt no
    further item is begun, `stop` asks what is running to end, and the error is raised when all has ended.
    """
    running: set[Future[Result]] = set()

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
