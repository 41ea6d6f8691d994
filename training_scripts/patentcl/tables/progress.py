"""A progress bar over steps, which moves while DuckDB answers a query, too."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import duckdb
from tqdm import tqdm

EVERY = 0.5  # seconds


class Steps:
    """A bar of `steps` steps with the name of the current one, moved by a thread."""

    def __init__(self, desc: str, steps: int) -> None:
        """Show the bar."""
        form = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} steps [{elapsed}{postfix}]"
        self.bar = tqdm(total=steps, desc=desc, bar_format=form)
        self.done, self.moved, self.total = 0, 0, 1
        self.query: duckdb.DuckDBPyConnection | None = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._move, daemon=True)

    def __enter__(self) -> "Steps":
        """Start to move."""
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the bar where it is."""
        self.ended.set()
        self.thread.join()
        self.bar.close()

    @contextmanager
    def step(
        self, name: str, total: int = 0, query: duckdb.DuckDBPyConnection | None = None
    ) -> Iterator[Callable[[int], None]]:
        """Do a step: yield a function that is called with a number of rows, of about `total`, that were done.

        Or it is as far as what `query` runs.
        """
        self.moved, self.total, self.query = 0, total or 1, query
        self.bar.set_postfix_str(name)

        def move(rows: int) -> None:
            self.moved += rows

        yield move
        self.query = None
        self.moved, self.done = 0, self.done + 1
        self._show()

    def _show(self) -> None:
        query = self.query
        share = query.query_progress() / 100 if query is not None else self.moved / self.total
        self.bar.n = self.done + min(max(share, 0.0), 0.99)
        self.bar.refresh()

    def _move(self) -> None:
        while not self.ended.wait(EVERY):
            self._show()
