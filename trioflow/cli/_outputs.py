"""The outputs of subcommands: files that are checked before the work starts, and standard streams that may break."""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Final, cast

import click

from .._core.base._text_forms import plural
from ..abc import printable
from . import STOPPED_CODE

if TYPE_CHECKING:
    from pathlib import Path


@contextlib.contextmanager
def errors_as(
    shown: type[click.ClickException], *kinds: type[Exception]
) -> Generator[None]:
    """Raise errors of some kinds as errors of the command line, which print their text alone."""
    try:
        yield
    except kinds as error:
        raise shown(printable(str(error))) from None


class OutputFile(click.Path):
    """The type of an option for an output file, which is checked before the work starts.

    Args:
        *suffixes: the suffixes that the file may have. "" allows a name without suffix. By default, all are allowed.

    """

    def __init__(self, *suffixes: str) -> None:
        super().__init__()
        self._suffixes: Final = suffixes

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """Check the path, and return it as absolute, because the user's file may change the working directory."""
        # Imported here, because a batch without such an option does not need it.
        from pathlib import Path

        if problem := _find_path_problem(Path(value), self._suffixes):
            self.fail(printable(problem), param, ctx)
        return Path(value).absolute()


def _find_path_problem(path: Path, suffixes: tuple[str, ...]) -> str:
    """Return why a file cannot be written, or "" if it probably can. Nothing is written."""
    if path.is_dir():
        return f"'{path}' is a directory: give a file in it"
    if not path.parent.is_dir():
        return (
            f"there is no directory '{path.parent}' for '{path.name}': create it first"
        )
    written = path if path.exists() else path.parent
    if not os.access(written, os.W_OK):
        return f"no permission to write '{path}'"
    if suffixes and path.suffix.lower() not in suffixes:
        *others, last = filter(None, suffixes)
        choices = last
        if others:
            choices = f"{', '.join(others)} or {last}"
        return f"'{path}' must end in {choices}"
    return ""


def check_files_differ(places: Iterable[tuple[str, object]]) -> None:
    """Check that no two arguments name one file, of which the last would replace the others, even a journal.

    Args:
        places: the name of each argument, and its value. A value that is no path is left out.

    Raises:
        UsageError: two arguments do.

    """
    names: dict[str, str] = {}
    for name, value in places:
        if not value or not isinstance(value, (str, os.PathLike)):
            continue
        path = os.fspath(cast("str | os.PathLike[str]", value))
        # A device takes the texts of all.
        if os.path.isfile(path) or not os.path.exists(path):
            other = names.setdefault(os.path.realpath(path), name)
            if other != name:
                raise click.UsageError(
                    f"{other} and {name} name one file, {printable(path)!r}: give each its own"
                )


def write_output(write: Callable[[str], Any], path: Path) -> bool:
    """Call `write` with the path. On failure, report it on standard error and return False."""
    try:
        write(str(path))
    except (OSError, RuntimeError) as error:
        # RuntimeError: Graphviz is missing or has failed.
        reason = printable(getattr(error, "strerror", None) or str(error))
        echo(f"Error: cannot write {printable(str(path))!r}: {reason}", err=True)
        return False
    return True


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text that may contain anything. See `terminal_text`.

    Raises:
        OSError: the stream cannot be written.

    """
    # Imported here, because most batches do not need it.
    from ..view.text._symbols import terminal_text

    is_forced = bool(os.environ.get("FORCE_COLOR")) and not os.environ.get("NO_COLOR")
    shown = terminal_text(text, sys.stderr if err else sys.stdout)
    # With None, click removes colors for a file: https://click.palletsprojects.com/en/stable/api/#click.echo.
    click.echo(shown, err=err, nl=nl, color=True if is_forced else None)


def echo_address(url: str, *, err: bool = False) -> None:
    """Print the address of a page, and in a session of ssh the command that forwards it to the user's machine.

    Raises:
        OSError: the stream cannot be written.

    """
    echo(url, err=err)
    words = os.environ.get("SSH_CONNECTION", "").split()
    if len(words) == 4:
        port = url.split(":")[2].partition("/")[0]
        flag = "" if words[3] == "22" else f"-p {words[3]} "
        echo(
            f"From your own machine, first: ssh -L {port}:127.0.0.1:{port} {flag}{getpass.getuser()}@{words[2]}",
            err=err,
        )


def echo_data(data: bytes) -> None:
    """Print a line for programs as it is or, on a terminal, as text.

    Raises:
        OSError: the stream cannot be written.

    """
    if sys.stdout.isatty():
        echo(os.fsdecode(data))
    else:
        click.echo(data)


def pass_on(data: bytes, *, err: bool) -> None:
    click.echo(data, nl=False, err=err)


def kept_note(kept: int | None, total: int | None, noun: str) -> str:
    """Return how much of a run its journal keeps for the next, such as "(3 of 4 jobs kept)".

    Args:
        kept: the number of jobs that it keeps, or None without a journal, which is suggested.
        total: the number of all jobs, or None if it is unknown.
        noun: "job", or another word for it.

    """
    if kept is None:
        return "(--journal FILE keeps what succeeds)"
    # `keep_jobs=False` removes settled jobs, so `total` may be too small.
    known = total is not None and kept <= total
    if known:
        return f"({kept} of {plural(total or 0, noun)} kept)"
    return f"({plural(kept, noun)} kept)"


def show_error(error: click.ClickException) -> None:
    from ..view.text._symbols import terminal_text

    error.message = terminal_text(error.message, sys.stderr)  # type: ignore[misc]  # click does not mean it
    with contextlib.suppress(OSError):
        error.show()


def try_echo(text: str, *, err: bool = False, nl: bool = True) -> bool:
    """Print text as `echo` does. Report an error other than a closed pipe. Return False if an error was reported."""
    try:
        echo(text, err=err, nl=nl)
    except OSError as error:
        report_output_error(error)
        return isinstance(error, BrokenPipeError)
    return True


def report_output_error(error: OSError) -> int:
    """Report that the output cannot be written, unless its pipe was closed, and return the exit code."""
    if not isinstance(error, BrokenPipeError):
        with contextlib.suppress(OSError):
            echo(f"Error: cannot write the output: {error.strerror or error}", err=True)
    discard_buffers()
    return STOPPED_CODE


def discard_buffers() -> None:
    """Discard buffered output that cannot be written, because Python would print an error about it at exit."""
    null_descriptor = os.open(os.devnull, os.O_WRONLY)
    # None for a stream that was closed at the start.
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(null_descriptor, stream.fileno())
    os.close(null_descriptor)
