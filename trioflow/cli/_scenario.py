"""What each subcommand takes: a file, the scheduler in it, the values for a function, and the part that is meant."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from .._core._labels import printable
from .._core._scheduler import BaseScheduler
from . import _completion, _file, _part, _values

OPTIONS: Final = (
    click.argument("file", type=_file.parse, metavar="FILE[:NAME]", shell_complete=_completion.file_and_name),
    click.option(
        "--set", "settings", metavar="NAME=VALUE", multiple=True,
        help="A parameter of the function that returns the scenario; more than once for the items of a list.",
    ),
    click.option(
        "--only", metavar="PATH", multiple=True,
        help="Only the jobs with this path; * is any text, ? any one character. `list --paths` shows the paths.",
    ),
    click.option("--from", "starts", metavar="PATH", multiple=True, help="Only these, and all that waits for them."),
    click.option("--until", "ends", metavar="PATH", multiple=True, help="Only these, and all that they wait for."),
)  # fmt: skip


def takes_scenario(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """Let a subcommand's function have the scheduler as its first argument, built when all options are read."""

    @functools.wraps(function)
    def prepared(
        file: tuple[Path, str | None],
        settings: tuple[str, ...],
        only: tuple[str, ...],
        starts: tuple[str, ...],
        ends: tuple[str, ...],
        **options: Any,
    ) -> int | None:
        scheduler = build(*file, settings)
        refusing(lambda: _part.keep(scheduler, _part.Part(only, starts, ends)))
        return function(scheduler, **options)

    for option in reversed(OPTIONS):
        prepared = option(prepared)
    return prepared


def build(path: Path, name: str | None, settings: tuple[str, ...] = ()) -> BaseScheduler:
    """Return the scheduler of a file; a function is called with the settings.

    Raises:
        ClickException: there is none, or the user's code raises.

    """
    sys.argv = [str(path)]  # what a script sees: the options of the command are none of its
    meant = _file.find(_file.load(path), path, name)
    if isinstance(meant, BaseScheduler):
        if settings:
            raise click.UsageError(f"--set {printable(settings[0])}: {meant.label!r} is a Scheduler; only a function "
                                   f"that returns one has parameters")  # fmt: skip
        if meant.stop_reason is not None:
            raise click.UsageError(printable(f"{path} has run {meant.label!r} while it was loaded: put that call below "
                                             f'if __name__ == "__main__":'))  # fmt: skip
        return meant
    what = f"{getattr(meant, '__name__', name)}() of {path}"
    bound = _values.bind(meant, settings)
    made = _file.called(lambda: meant(*bound.args, **bound.kwargs), f"{what} raised")
    if inspect.iscoroutine(made):
        made.close()
        raise click.UsageError(printable(f"{what} is async: make it a plain function that returns a Scheduler"))
    if not isinstance(made, BaseScheduler):
        raise click.UsageError(printable(f"{what} returned no Scheduler, but {type(made).__name__}: return one"))
    return made


def refusing(call: Callable[[], Any]) -> Any:
    """Return what `call` returns.

    Raises:
        Refusal: the scenario cannot run.

    """
    try:
        return call()
    except (ValueError, RuntimeError) as error:
        raise _file.Refusal(f"{error}\n`trioflow check` finds all that is wrong") from None
