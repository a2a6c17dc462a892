"""`--bar`: how far a batch is, on a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from typing import Final

from ..batch._halt import Tally


class Bar:
    """A line at the bottom of the terminal, on the standard error; it gives way to what is printed."""

    def __init__(self) -> None:
        from rich import progress  # here, as most batches do without
        from rich.console import Console

        columns = (
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[failed]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[left]}"),
        )
        self._progress: Final = progress.Progress(
            *columns, console=Console(stderr=True), transient=True, redirect_stdout=False
        )
        self._task: Final = self._progress.add_task("", total=None, failed="", left="")

    @contextlib.contextmanager
    def shown(self) -> Generator[None]:
        """Show it for the time of a block."""
        with self._progress:
            yield

    def update(self, tally: Tally, expected: int | None) -> None:
        """Show these counts."""
        failed = f"{tally.failed} failed" if tally.failed else ""
        left = "" if expected is None else "left"
        done = tally.failed + tally.succeeded
        self._progress.update(self._task, completed=done, total=expected, failed=failed, left=left)

    @contextlib.contextmanager
    def aside(self) -> Generator[bool]:
        """Take it away for the time of a block."""
        self._progress.stop()
        try:
            yield True
        finally:
            self._progress.start()


class NoBar:
    """The same where nothing is shown."""

    shown = staticmethod(contextlib.nullcontext)

    def aside(self) -> contextlib.nullcontext[bool]:
        """Do nothing."""
        return contextlib.nullcontext(False)

    def update(self, tally: Tally, expected: int | None) -> None:
        """Show nothing."""


def is_wanted() -> bool:
    """Tell whether there is a terminal to draw on."""
    return sys.stderr is not None and sys.stderr.isatty()
