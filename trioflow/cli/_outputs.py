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


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """Return the type of an option that names a file to be written; without suffixes it may have any."""

    def path(value: str) -> Path:
        problem = _problem(Path(value), suffixes)
        if problem:
            raise click.BadParameter(printable(problem))
        return Path(value).absolute()  # the user's file may change the working directory

    return path


def _problem(path: Path, suffixes: tuple[str, ...]) -> str:
    """Return why a file cannot be written, as far as one can tell without doing so."""
    if suffixes and path.suffix.lower() not in suffixes:
        return f"'{path}' must end in {' or '.join(suffixes)}"
    if path.is_dir():
        return f"'{path}' is a directory: name a file in it"
    if not path.parent.is_dir():
        return f"there is no directory '{path.parent}' for '{path.name}'"
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return f"'{path}' may not be written"
    return ""


def written(write: Callable[[str], Any], path: Path) -> bool:
    """Call `write` with the path; say on the standard error why not, if it cannot."""
    try:
        write(str(path))
    except (OSError, RuntimeError) as error:  # RuntimeError: a program that draws it is missing, or has failed
        reason = printable(getattr(error, "strerror", None) or str(error))
        click.echo(f"Error: cannot write {printable(str(path))!r}: {reason}", err=True)
        return False
    return True


def said(text: str, **options: Any) -> bool:
    """Print text by `click.echo`; False if it could not be written, unless that is because nobody reads it."""
    try:
        click.echo(text, **options)
    except BrokenPipeError:
        silence()
    except OSError as error:
        output_failed(error)
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
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None if the caller has closed it
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
