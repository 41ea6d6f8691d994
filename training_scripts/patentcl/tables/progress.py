"""A progress bar over steps, which moves while DuckDB answers a query, too."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
from tqdm import tqdm

from ..common.progress import ticking


class Steps:
    """Steps of which one after the other is done, shown by a bar."""

    def __init__(self, bar: "tqdm[Any]") -> None:
        """Show them by `bar`."""
        self.bar, self.name, self.done = bar, "", 0
        self.share: Callable[[], float] = lambda: 0.0  # of the current step

    @contextmanager
    def step(
        self, name: str, total: int = 0, query: duckdb.DuckDBPyConnection | None = None
    ) -> Iterator[Callable[[int], None]]:
        """Do a step: yield a function that is called with a number of rows, of about `total`, that were done.

        Or it is as far as what `query` runs.
        """
        moved = 0

        def move(rows: int) -> None:
            nonlocal moved
            moved += rows

        self.name = name
        self.share = (lambda: query.query_progress() / 100) if query is not None else (lambda: moved / max(total, 1))
        yield move
        self.share = lambda: 0.0
        self.done += 1
        self.show(ended=False)
        self.bar.refresh()

    def show(self, ended: bool) -> str:
        """Move the bar; return the name of the step."""
        self.bar.n = self.done + min(max(self.share(), 0.0), 0.99)
        return self.name


@contextmanager
def steps_of(desc: str, count: int) -> Iterator[Steps]:
    """Show a bar of `count` steps, which moves every second."""
    form = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total} steps [{elapsed}{postfix}]"
    with tqdm(total=count, desc=desc, bar_format=form) as bar:
        steps = Steps(bar)
        with ticking(bar, steps.show):
            yield steps
