"""The user's file: it is loaded, and the scheduler found in it; its errors are shown as its own."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Final, TypeVar

import click

from .._core._labels import printable
from .._core._scheduler import BaseScheduler
from ..view import _own_frames, _script
from ._codes import USAGE

T = TypeVar("T")

USUAL_NAME: Final = "scenario"


class Refusal(click.ClickException):
    """What was asked for cannot be done; the message says why, and what to do."""

    exit_code = USAGE


class FileFailed(Refusal):
    """The user's code raised; its own traceback is shown, without our frames."""

    def __init__(self, what: str, error: BaseException) -> None:
        """Say in `what` what the user's code was asked to do."""
        super().__init__(what)
        self._error = error

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the traceback, and below it what was going on."""
        script = _script.Script(getattr(sys.stderr, "encoding", None))
        click.echo(script.lines(_own_frames.formatted(self._error)), err=True)
        super().show(file)


def parse(given: str) -> tuple[Path, str | None]:
    """Return the file and the name of `FILE[:NAME]`.

    Raises:
        BadParameter: there is no such file, or what stands behind the colon is no name.

    """
    file, colon, name = given.rpartition(":")
    if not colon or Path(given).exists():
        file, name = given, ""
    elif not name.isidentifier():
        raise click.BadParameter(f"{printable(name)!r} is no name of Python: write {printable(file)}:NAME")
    path = Path(file)
    if not path.exists():
        raise click.BadParameter(f"there is no file {printable(file)!r}")
    if path.is_dir():
        raise click.BadParameter(f"{printable(file)!r} is a directory: name a Python file in it")
    return path, name or None


def load(path: Path) -> ModuleType:
    """Execute the file as a module that is not `__main__`, its directory first on `sys.path`.

    Under its own name it is in `sys.modules`, so that what it defines can be pickled; unless that name is taken.

    Raises:
        FileFailed: it cannot be read, or raises.

    """
    name = path.stem.replace(".", "_")
    if name in sys.modules or name == "__main__":
        name = f"_scenario_{name}"
    spec = importlib.util.spec_from_file_location(name, path, loader=SourceFileLoader(name, str(path)))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    try:
        source = path.read_bytes()
    except OSError as error:
        raise Refusal(f"cannot read {printable(str(path))!r}: {error.strerror}") from None
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[name] = module
    # Not by the loader: it would keep the compiled file, and take it for that of another version of the same second.
    called(lambda: exec(compile(source, str(path), "exec"), module.__dict__), f"{path} raised while it was loaded")
    return module


def called(function: Callable[[], T], what: str) -> T:
    """Return what the user's function returns.

    Raises:
        FileFailed: it raises, `sys.exit()` included.

    """
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise FileFailed(printable(what), error) from None


def find(module: ModuleType, path: Path, name: str | None) -> Any:
    """Return the scheduler of that name, or the function; without a name, the one that is meant.

    Raises:
        UsageError: there is none, or several.

    """
    names = _names(module)
    if name is not None:
        return _named(module, path, name, names)
    outermost = {value: key for key, value in names.items() if value.scheduler is None}
    if len(outermost) == 1:
        return next(iter(outermost))
    usual = module.__dict__.get(USUAL_NAME)
    if isinstance(usual, BaseScheduler) or callable(usual):
        return usual
    shown = printable(str(path))
    if outermost:
        choices = "\n".join(f"  {shown}:{key}" for key, value in names.items() if value.scheduler is None)
        raise click.UsageError(f"{shown} has several schedulers, and none is called {USUAL_NAME}; choose:\n{choices}")
    raise click.UsageError(
        f"{shown} has no global Scheduler that is nested in no other, and no function called {USUAL_NAME}: make one, "
        f"or name a function that returns one: {shown}:NAME"
    )


def _names(module: ModuleType) -> dict[str, BaseScheduler]:
    """Return the file's global schedulers, each under its first name, or the usual one."""
    found: dict[BaseScheduler, str] = {}
    for name, value in module.__dict__.items():
        if isinstance(value, BaseScheduler) and (value not in found or name == USUAL_NAME):
            found[value] = name
    return {name: scheduler for scheduler, name in found.items()}


def _named(module: ModuleType, path: Path, name: str, names: dict[str, BaseScheduler]) -> Any:
    shown = printable(str(path))
    if name not in module.__dict__:
        choices = [*names, *_functions(module)]
        near = difflib.get_close_matches(name, choices, n=1)
        hint = f"do you mean {near[0]!r}?" if near else f"its schedulers and functions are: {', '.join(choices) or '-'}"
        raise click.UsageError(f"{shown} has no {name!r}; {hint}")
    value = module.__dict__[name]
    if not (isinstance(value, BaseScheduler) or callable(value)):
        raise click.UsageError(not_a_scheduler(f"{name!r} of {shown}", value))
    return value


def _functions(module: ModuleType) -> list[str]:
    """Return the names of the functions that the file itself defines, but private ones."""
    return [
        name
        for name, value in module.__dict__.items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


def not_a_scheduler(what: str, value: object) -> str:
    """Return the message for something that should be a scheduler."""
    return f"{what} is no Scheduler, nor a function that returns one, but a {type(value).__name__}"
