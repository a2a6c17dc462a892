"""The arguments that subcommands share: a file, its scheduler, values for a function, and the selected part.

The user's file is loaded, and the scheduler found in it; what the user's code raises is shown as its own.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

import click

from .. import JournalError, Scheduler
from ..abc import is_scheduler, printable
from ..view.text import _exception_text, _symbols
from . import USAGE, _argument_conversion, _subgraph_options
from ._suggestions import nearest

if TYPE_CHECKING:
    import anyio

T = TypeVar("T")
USUAL: Final = "scenario"
"""The default name of a function, for a file without a name."""


class Refusal(click.ClickException):
    """The command cannot do its work; the message says why, and what to do.

    Args:
        message: the text after the word Error.
        error: the exception of the user's code; its traceback is shown first, without trioflow's own frames.

    """

    exit_code = USAGE

    def __init__(self, message: str, error: BaseException | None = None) -> None:
        super().__init__(message)
        self._error = error

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the traceback, if there is one, and the message below it."""
        if self._error is not None:
            symbols = _symbols.Symbols.for_stream(sys.stderr)
            click.echo(symbols.escape_lines(_exception_text.format_traceback(self._error)), err=True)
        super().show(file)


# ---- the file and its scheduler


def parse_file(argument: str) -> tuple[Path, str | None]:
    """Return the file and the name of `FILE[:NAME]`.

    Raises:
        BadParameter: there is no such file, or what follows the colon is not a name.

    """
    file, colon, name = argument.rpartition(":")
    if not colon or Path(argument).exists():
        file, name = argument, ""
    elif not name.isidentifier():
        raise click.BadParameter(f"{printable(name)!r} is not a Python name: write {printable(file)}:NAME")
    path = Path(file)
    if not path.exists():
        raise click.BadParameter(f"there is no file {printable(file)!r}")
    if path.is_dir():
        raise click.BadParameter(f"{printable(file)!r} is a directory: name a Python file in it")
    return path, name or None


loaded: Final[list[ModuleType]] = []
"""The user's file, once loaded."""


def load(path: Path) -> ModuleType:
    """Execute the file as a module that is not `__main__`, with its directory first on `sys.path`.

    The module is in `sys.modules` under the file's name, unless that is taken, so that what it defines can be pickled.

    Raises:
        Refusal: the file cannot be read, or it raises.

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
    # Not by the loader: it would store the compiled file, and use it for another version written in the same second.
    call_user_function(
        lambda: exec(compile(source, str(path), "exec"), module.__dict__), f"{path} raised while it was being loaded"
    )
    loaded[:] = [module]
    return module


def call_user_function(function: Callable[[], T], what: str) -> T:
    """Call the user's function, and return its result.

    Raises:
        Refusal: the function raises, `sys.exit()` included.

    """
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise Refusal(printable(what), error) from None


def find_scheduler(module: ModuleType, path: Path, name: str | None) -> Any:
    """Return the scheduler or function of that name; without a name, the default one.

    Raises:
        UsageError: none or several match.

    """
    names = _scheduler_names(module)
    if name is not None:
        return _find_by_name(module, path, name, names)
    outermost = {value: key for key, value in names.items() if value.scheduler is None}
    if len(outermost) == 1:
        return next(iter(outermost))
    usual = module.__dict__.get(USUAL)
    if isinstance(usual, Scheduler) or callable(usual):
        return usual
    shown = printable(str(path))
    if outermost:
        choices = "\n".join(f"  {shown}:{key}" for key, value in names.items() if value.scheduler is None)
        raise click.UsageError(f"{shown} has several schedulers, and none is called {USUAL}; choose:\n{choices}")
    raise click.UsageError(
        f"{shown} has no global Scheduler that is not nested in another, and no function called {USUAL}: "
        f"make one, or name a function that returns one: {shown}:NAME"
    )


def _scheduler_names(module: ModuleType) -> dict[str, Scheduler]:
    """Return the file's global schedulers by name: the default name if a scheduler has it, otherwise its first one."""
    names: dict[Scheduler, str] = {}
    for name, value in module.__dict__.items():
        if isinstance(value, Scheduler) and (value not in names or name == USUAL):
            names[value] = name
    return {name: scheduler for scheduler, name in names.items()}


def _find_by_name(module: ModuleType, path: Path, name: str, names: dict[str, Scheduler]) -> Any:
    shown = printable(str(path))
    if name not in module.__dict__:
        choices = [*names, *_functions(module)]
        near = nearest(name, choices)
        hint = f"do you mean {near!r}?" if near else f"its schedulers and functions: {', '.join(choices) or 'none'}"
        raise click.UsageError(f"{shown} has no {name!r}; {hint}")
    value = module.__dict__[name]
    if not (isinstance(value, Scheduler) or callable(value)):
        raise click.UsageError(not_a_scheduler(f"{name!r} in {shown}", value))
    return value


def _functions(module: ModuleType) -> list[str]:
    """Return the names of the public functions that the file itself defines."""
    return [
        name
        for name, value in module.__dict__.items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


def not_a_scheduler(what: str, value: object) -> str:
    """Return the message for a value that should be a scheduler."""
    return f"{what} is neither a Scheduler nor a function that returns one: it is of type {type(value).__name__}"


# ---- shared arguments


OPTIONS: Final = (
    click.argument("file", type=parse_file, metavar="FILE[:NAME]", shell_complete=click.Path().shell_complete),
    click.option(
        "--set", "settings", metavar="NAME=VALUE", multiple=True,
        help="A parameter of the function that returns the scenario; for a list, once for each item.",
    ),
    click.option(
        "--only", metavar="PATH", multiple=True,
        help="Only the jobs with this path; * is any text, ? is any one character. `list --paths` shows the paths.",
    ),
    click.option(
        "--from", "starts", metavar="PATH", multiple=True,
        help="Only these jobs, and all that wait for them.",
    ),
    click.option(
        "--until", "ends", metavar="PATH", multiple=True,
        help="Only these jobs, and all that they wait for.",
    ),
)  # fmt: skip


def takes_scenario(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """Decorate a subcommand: its first argument becomes the scheduler, built after all options are parsed."""

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
        translate_errors(scheduler, lambda: _subgraph_options.keep_selected(scheduler, only, starts, ends))
        return function(scheduler, **options)

    for option in reversed(OPTIONS):
        prepared = option(prepared)
    return prepared


def build(path: Path, name: str | None, settings: tuple[str, ...] = ()) -> Scheduler:
    """Build the file's scheduler; a function is called with the settings.

    Raises:
        ClickException: no scheduler is found, or the user's code raises.

    """
    if is_graph(path):
        if name is not None or settings:
            what = f":{name}" if name is not None else f"--set {printable(settings[0])}"
            raise click.UsageError(f"{what}: {printable(str(path))} is a graph in JSON, which has no functions")
        return read_graph(path)
    sys.argv = [str(path)]  # as a script would see it, without the options of the command
    meant = find_scheduler(load(path), path, name)
    if isinstance(meant, Scheduler):
        if settings:
            raise click.UsageError(f"--set {printable(settings[0])}: {meant.label!r} is a Scheduler; only a function "
                                   f"that returns one has parameters")  # fmt: skip
        if meant.stop_reason is not None:
            raise click.UsageError(printable(f"{path} ran {meant.label!r} while it was being loaded: put that call "
                                             f'below if __name__ == "__main__":'))  # fmt: skip
        return meant
    what = f"{getattr(meant, '__name__', name)}() of {path}"
    bound = _argument_conversion.bind(meant, settings)
    made = call_user_function(lambda: meant(*bound.args, **bound.kwargs), f"{what} raised")
    if inspect.iscoroutine(made):
        made.close()
        raise click.UsageError(printable(f"{what} is async: make it a plain function that returns a Scheduler"))
    if not isinstance(made, Scheduler):
        raise click.UsageError(printable(f"{what} returned {type(made).__name__}, not a Scheduler: return one"))
    return made


def read_graph(path: Path) -> Scheduler:
    """Read the graph in a JSON file.

    Raises:
        Refusal: the file cannot be read.

    """
    shown = printable(str(path))
    try:
        from . import _graph_file

        return _graph_file.read(path)
    except ImportError as error:
        raise Refusal(f"{shown} needs {error.name}: pip install 'trioflow[cli]'") from None
    except OSError as error:
        raise Refusal(f"cannot read {shown!r}: {error.strerror}") from None
    except ValueError as error:
        raise Refusal(f"{shown} is not a graph of commands: {error}") from None


def window_of_run(scheduler: Scheduler, slots: int | None) -> int | anyio.CapacityLimiter | None:
    """Return the window for `-j N`: if schedulers are nested, a limiter, which counts the jobs of the whole run."""
    if not slots or not any(map(is_scheduler, scheduler)):
        return slots
    import anyio  # late, because --help does not need it

    return anyio.CapacityLimiter(slots)


def translate_errors(scheduler: Scheduler, call: Callable[[], Any]) -> Any:
    """Call `call`, and raise errors about this scheduler as errors of the command line.

    Raises:
        Refusal: the scenario cannot run.

    """
    try:
        return call()
    except JournalError as error:
        raise Refusal(str(error)) from None
    except (TypeError, ValueError, RuntimeError) as error:
        hint = "" if scheduler.is_runnable() else "\n`trioflow check` shows all that is wrong"
        raise Refusal(f"{error}{hint}") from None


def is_graph(path: Path) -> bool:
    """Return whether a file is a graph in JSON, not a Python file."""
    return path.suffix.lower() == ".json"
