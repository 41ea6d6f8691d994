"""What is printed while nobody may be there to read it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast


class _Screen:
    """A stream whose other end may go: a closed terminal, or `tee` that Ctrl-C ended. Then it writes nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return self._try(self.stream.write, text) or len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, do: Callable[..., Any], *arguments: str) -> Any:
        try:
            return do(*arguments)
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # so that the interpreter's last flush goes well, too
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def screen_may_go() -> Iterator[None]:
    """Let what is printed be lost, and not the work, when nobody is there any more to read it."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
        streams = (stream or nowhere for stream in before)  # a stream that was closed before the start is None
        sys.stdout, sys.stderr = (cast("TextIO", _Screen(stream)) for stream in streams)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
