"""What a subcommand writes: files that can be known to be unwritable before the work is done, and outputs that end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .._core._labels import printable
from ._codes import STOPPED


class OutputFile(click.ParamType[Any]):
    """A file that can be written, as far as one can tell without doing so.

    Args:
        suffixes: those that it may have; none for any.

    """

    name = "file"

    def __init__(self, *suffixes: str) -> None:
        """Take note of the suffixes."""
        self._suffixes = suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, if it may be written."""
        path = Path(value)
        shown = printable(str(path))
        if self._suffixes and path.suffix.lower() not in self._suffixes:
            self.fail(f"{shown!r} must end in one of {', '.join(self._suffixes)}", param, ctx)
        if path.is_dir():
            self.fail(f"{shown!r} is a directory: name a file in it", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"there is no directory {printable(str(path.parent))!r} to write {path.name!r} to", param, ctx)
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            self.fail(f"{shown!r} cannot be written: permission denied", param, ctx)
        return path

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
        """Leave it to the shell."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


def written(write: Callable[[str], Any], path: Path) -> bool:
    """Call `write` with the path; say on the standard error why not, if it cannot."""
    try:
        write(str(path))
    except OSError as error:
        click.echo(f"Error: cannot write {printable(str(path))!r}: {error.strerror or error}", err=True)
        return False
    return True


def output_failed(error: OSError) -> int:
    """Say that the standard output takes no more, unless that is because nobody reads it; return the exit code."""
    if not isinstance(error, BrokenPipeError):
        with contextlib.suppress(OSError):
            click.echo(f"Error: cannot write the output: {error.strerror or error}", err=True)
    silence()
    return STOPPED


def silence() -> None:
    """Let what is still in the buffers go nowhere, lest Python complains of it when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
