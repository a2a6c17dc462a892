"""The arguments that subcommands share: the user's file, its scheduler, the settings, and the jobs to run.

The file is executed to get the scheduler. If the user's code raises an exception, its traceback is shown without the
frames of trioflow.

The option `--only` selects the part of a scenario to run:

1. `--only` selects the jobs that match its patterns, and all jobs nested in these.
2. The jobs that a selected job depends on are kept, too: the jobs whose results it takes, and the services that it or a
   scheduler around it requires, with the jobs that are nested in them, and that they depend on in turn.
3. All other jobs are removed. A kept job that waited for a removed job now waits for the kept jobs before the removed
   job. Their failures keep it from running only if they did so before.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

import click

from .. import (
    AbstractJob,
    JournalError,
    Scheduler,
    Service,
    _loaded_files,
    _scheduler,
    abc,
)
from .. import _posix as posix
from .._core.base._graph_algorithms import reachable
from .._core.scheduler._checks import check_requirement, store_implied_requirements
from .._hints import nearest_name
from ..abc import printable
from ..graph import keep_only, topological_order
from ..view.text import _failure_text, _selection, _symbols
from . import USAGE_ERROR_CODE, _outputs

if TYPE_CHECKING:
    import anyio

T = TypeVar("T")
AnyMember = AbstractJob[Any]
DEFAULT_NAME: Final = "scenario"


class CliError(click.ClickException):
    """An error that keeps the command from doing its work.

    Args:
        message: the reason and the remedy.
        error: an exception that the user's code raised, which is printed with its traceback before the message.

    """

    exit_code = USAGE_ERROR_CODE

    def __init__(self, message: str, error: BaseException | None = None) -> None:
        super().__init__(message)
        self._error = error

    def show(self, file: IO[Any] | None = None) -> None:
        if self._error is not None:
            symbols = _symbols.Symbols.for_stream(sys.stderr)
            _outputs.echo(
                symbols.escape_lines(_failure_text.format_traceback(self._error)),
                err=True,
            )
        super().show(file)


# ---- the file and its scheduler


def parse_file_argument(argument: str) -> tuple[Path, str | None]:
    """Split an argument of the form `FILE[:NAME]`.

    Returns:
        The file, and the name or None.

    Raises:
        BadParameter: the file does not exist, or is a directory.
        BadParameter: the text after the colon is not a Python name.

    """
    file, colon, name = argument.rpartition(":")
    if not colon or Path(argument).exists():
        file = argument
        name = ""
    elif not name.isidentifier():
        raise click.BadParameter(
            f"{printable(name)!r} is not a Python name: write {printable(file)}:NAME"
        )
    path = Path(file)
    check_file_exists(path)
    if path.is_dir():
        raise click.BadParameter(
            f"{printable(file)!r} is a directory: give a Python file in it"
        )
    return path, name or None


class InputFile(click.Path):
    """The type of an option or argument for a file to read. All commands have the same message for a missing file."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        if not (self.allow_dash and value == "-"):
            check_file_exists(Path(value))
        return super().convert(value, param, ctx)


def check_file_exists(path: Path) -> None:
    if not path.exists():
        raise click.BadParameter(f"there is no file {printable(str(path))!r}")


loaded_modules: Final = list[ModuleType]()
"""The module of the user's file, or empty until the file is loaded."""


def load_file(path: Path) -> ModuleType:
    """Execute the user's file as the main module, with its directory first on `sys.path`.

    Its `__name__` is the name of the file, so that code below `if __name__ == "__main__"` is not executed. The name has
    a prefix if another module has it already. As `__main__`, other processes load it by its path, whatever it is
    called.

    Raises:
        CliError: the file cannot be read.
        CliError: the code of the file raises an exception.

    """
    name = path.stem.replace(".", "_")
    if name == "__main__" or sys.modules.get(name) not in (None, *loaded_modules):
        name = f"_scenario_{name}"
    module = ModuleType(name)
    module.__file__ = str(path.absolute())
    try:
        source = posix.read_named(path, posix.MAX_STREAM_SIZE)
    except OSError as error:
        raise CliError(
            f"cannot read {printable(str(path))!r}: {error.strerror}"
        ) from None
    if source.startswith(b"SQLite format 3\0"):
        shown = printable(str(path))
        raise CliError(
            f"{shown!r} is no Python file, but a database: trioflow journal {shown} shows a journal"
        )
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules.update(dict.fromkeys((name, "__main__", "__mp_main__"), module))
    _loaded_files.code_names[module.__file__] = str(path)
    _loaded_files.remember()
    # The file has its own future imports, not those of this module: https://docs.python.org/3/library/functions.html#compile
    call_user_function(
        lambda: exec(
            compile(source, str(path), "exec", dont_inherit=True), module.__dict__
        ),
        f"{path} raised an exception while it was being loaded",
    )
    # The modules that it has imported.
    _loaded_files.remember()
    loaded_modules[:] = [module]
    return module


def call_user_function(function: Callable[[], T], message: str) -> T:
    """Call a user-supplied function that builds a scenario, and return its result. No run begins meanwhile.

    Args:
        function: the function.
        message: the message of the error if the function fails.

    Raises:
        CliError: the function raises an exception or calls `sys.exit()`.
        CliError: the function, or a thread that it started, would run a scheduler.

    """
    refusals: list[CliError] = []

    def refuse(scheduler: Scheduler) -> None:
        refusals.append(_refused_run(scheduler.label))
        # No `except Exception` of the user's code catches this.
        raise SystemExit

    _scheduler.begin_refusal = refuse
    try:
        result = function()
    except BaseException as error:
        if refusals:
            raise refusals[0] from None
        if isinstance(error, (Exception, SystemExit)):
            raise CliError(printable(message), error) from None
        raise
    finally:
        _scheduler.begin_refusal = None
    if refusals:
        raise refusals[0]
    return result


def _refused_run(label: str) -> CliError:
    """Return the error for a run that would begin in `call_user_function`. It names the line of the user's code."""
    frames = [frame for frame, _ in traceback.walk_stack(inspect.currentframe())]
    codes = [frame.f_code for frame in frames]
    reason = printable(
        f"{label!r} would run while its file is loaded, which runs nothing"
    )
    if call_user_function.__code__ not in codes:
        return CliError(f'{reason}. Start its thread below if __name__ == "__main__":')
    # The frame below `call_user_function` is the lambda that its caller has passed.
    users_frames = frames[: codes.index(call_user_function.__code__) - 1]
    place = next(
        (frame for frame in users_frames if frame.f_code.co_name == "<module>"),
        users_frames[-1],
    )
    file = place.f_code.co_filename
    number = place.f_lineno
    line = printable(linecache.getline(file, number).strip())
    reason = f"{printable(file)}, line {number}: {reason}"
    if place.f_code.co_name != "<module>":
        return CliError(f"{reason}. Return the Scheduler in place of {line}")
    return CliError(
        f'{reason}. Put it below a guard:\n  if __name__ == "__main__":\n      {line}'
    )


def find_scheduler(module: ModuleType, path: Path, name: str | None) -> Any:
    """Return the scheduler or function of this name in the user's file.

    Without a name, return the only outermost scheduler, or the scheduler or function called `scenario`.

    Raises:
        UsageError: the file has no such scheduler or function.
        UsageError: no name is given, and the file has several outermost schedulers, but nothing called `scenario`.

    """
    schedulers = _schedulers_by_name(module)
    if name is not None:
        return _find_named_target(module, path, name, schedulers)
    outermost = {
        value: key for key, value in schedulers.items() if value.scheduler is None
    }
    if len(outermost) == 1:
        return next(iter(outermost))
    default = module.__dict__.get(DEFAULT_NAME)
    if isinstance(default, Scheduler) or callable(default):
        return default
    shown = printable(str(path))
    if outermost:
        choices = "\n".join(f"  {shown}:{key}" for key in outermost.values())
        raise click.UsageError(
            f"{shown} has several schedulers, and none is called {DEFAULT_NAME}; choose:\n{choices}"
        )
    for value in module.__dict__.values():
        if type(value).__name__ == Scheduler.__name__:
            raise click.UsageError(
                f"the Scheduler in {shown} is of type {_type_name(value)}, not trioflow's own: "
                f"start it by python {shown}"
            )
    raise click.UsageError(
        f"{shown} has no global Scheduler that is not nested in another, and no function called {DEFAULT_NAME}: "
        f"add one, or name a function that returns one: {shown}:NAME"
    )


def _schedulers_by_name(module: ModuleType) -> dict[str, Scheduler]:
    """Return the global schedulers of the file, keyed by name.

    A scheduler with several names is included once: as `scenario` if that is among them, otherwise by its first name.
    """
    names: dict[Scheduler, str] = {}
    for name, value in module.__dict__.items():
        if isinstance(value, Scheduler) and (
            value not in names or name == DEFAULT_NAME
        ):
            names[value] = name
    return {name: scheduler for scheduler, name in names.items()}


def _find_named_target(
    module: ModuleType, path: Path, name: str, schedulers: dict[str, Scheduler]
) -> Any:
    shown = printable(str(path))
    if name not in module.__dict__:
        functions = [
            key
            for key, value in module.__dict__.items()
            if inspect.isfunction(value)
            and value.__module__ == module.__name__
            and not key.startswith("_")
        ]
        choices = [*schedulers, *functions]
        near = nearest_name(name, choices)
        if near:
            hint = f"do you mean {near!r}?"
        else:
            hint = f"its schedulers and functions: {', '.join(choices) or 'none'}"
        raise click.UsageError(f"{shown} has no {name!r}; {hint}")
    value = module.__dict__[name]
    if not (isinstance(value, Scheduler) or callable(value)):
        raise click.UsageError(
            f"{name!r} in {shown} is neither a Scheduler nor a function that returns one: it is of type "
            f"{_type_name(value)}"
        )
    return value


def _type_name(value: object) -> str:
    """Return the name of the type of a value that is no Scheduler, with its module if it is called so, too."""
    name = type(value).__name__
    if name == Scheduler.__name__:
        return f"{type(value).__module__}.{name}"
    return name


# ---- shared arguments


SCENARIO_OPTIONS: Final = (
    click.argument("file", type=parse_file_argument, metavar="FILE[:NAME]", shell_complete=click.Path().shell_complete),
    click.option(
        "--set", "settings", metavar="NAME=VALUE", multiple=True,
        help="A parameter of the function that returns the scenario; a list or a dict as JSON.",
    ),
    click.option(
        "--only", metavar="PATH", multiple=True,
        help="Only the jobs with this path; * is any text, ? is any one character. `list --paths` shows the paths.",
    ),
)  # fmt: skip


def scenario_command(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """Decorate a subcommand so that it is called with the scheduler of the user's file.

    The scheduler is built when the subcommand is called, after all options are parsed.
    """

    @functools.wraps(function)
    def call_with_scheduler(
        file: tuple[Path, str | None],
        settings: tuple[str, ...],
        only: tuple[str, ...],
        **options: object,
    ) -> int | None:
        scheduler = build_scheduler(*file, settings)
        translate_errors(scheduler, lambda: keep_selected_jobs(scheduler, only))
        return function(scheduler, **options)

    for option in reversed(SCENARIO_OPTIONS):
        call_with_scheduler = option(call_with_scheduler)
    return call_with_scheduler


def build_scheduler(
    path: Path, name: str | None, settings: tuple[str, ...] = ()
) -> Scheduler:
    """Return the scheduler in the user's file, or the scheduler that a function of the file returns.

    Args:
        path: the file.
        name: the name of the scheduler or function, or None for the default.
        settings: the values of `--set`, which are the arguments of the function.

    Raises:
        ClickException: no scheduler is found, or the file would run a scheduler.
        ClickException: the settings do not fit the function.
        ClickException: the user's code raises an exception.

    """
    # The file sees no arguments of `trioflow`, as a script that was started without any.
    sys.argv = [str(path)]
    target = find_scheduler(load_file(path), path, name)
    if isinstance(target, Scheduler):
        if settings:
            raise click.UsageError(f"--set {printable(settings[0])}: {target.label!r} is a Scheduler; only a function "
                                   f"that returns one has parameters")  # fmt: skip
        return target
    call_text = f"{getattr(target, '__name__', name)}() of {path}"
    bound = bind_settings(target, settings)
    scheduler = call_user_function(
        lambda: target(*bound.args, **bound.kwargs), f"{call_text} raised an exception"
    )
    if inspect.iscoroutine(scheduler):
        scheduler.close()
        raise click.UsageError(
            printable(
                f"{call_text} is async: make it a plain function that returns a Scheduler"
            )
        )
    if not isinstance(scheduler, Scheduler):
        type_name = _type_name(scheduler)
        raise click.UsageError(
            printable(f"{call_text} returned {type_name}, not a Scheduler: return one")
        )
    return scheduler


def loop_of_program() -> tuple[abc.BackendName, str]:
    """Return the event loop that the loaded program is written for, and the file that says so, or "".

    It is asyncio if a file of the program imports asyncio, and none imports trio.
    """
    _loaded_files.remember()
    first_imports: dict[str, str] = {}
    for file, loaded in _loaded_files.loaded.items():
        # trio decides. Few files of a large program have these words, and parsing one takes milliseconds.
        if "trio" not in first_imports and re.search(
            rb"\b(?:asyncio|trio)\b", loaded.text
        ):
            for module in _imported_modules(loaded.text):
                first_imports.setdefault(module, file)
    if "asyncio" not in first_imports or "trio" in first_imports:
        return "trio", ""
    return "asyncio", os.path.basename(first_imports["asyncio"])


def _imported_modules(text: bytes) -> Iterator[str]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        # The file was saved after it was loaded, with a mistake in it.
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def make_window(
    scheduler: Scheduler, slots: int | None
) -> int | anyio.CapacityLimiter | None:
    """Return the `jobs_window` for `-j N`.

    If there are nested schedulers, return a limiter, which all schedulers share.

    Args:
        scheduler: the outermost scheduler.
        slots: N. 0 or None is no limit.

    """
    if not slots or not any(isinstance(job, Scheduler) for job in scheduler):
        return slots
    # Imported here, because --help does not need it.
    import anyio

    return anyio.CapacityLimiter(slots)


def translate_errors(scheduler: Scheduler, call: Callable[[], Any]) -> Any:
    """Return the result of `call`, and convert its errors about the scheduler to errors of the command line.

    Raises:
        CliError: the scenario cannot run.

    """
    try:
        return call()
    except JournalError as error:
        raise CliError(str(error)) from None
    except (TypeError, ValueError, RuntimeError) as error:
        hint = "\n`trioflow check` lists all problems"
        if scheduler.is_runnable():
            hint = ""
        raise CliError(f"{error}{hint}") from None


# ---- the settings


def bind_settings(
    function: Callable[..., Any], settings: Iterable[str]
) -> inspect.BoundArguments:
    """Return the arguments to call `function` with, which come from the settings on the command line.

    Each value is converted to the type of the parameter's annotation, or to the type of its default.

    Raises:
        UsageError: a setting has no `=`.
        UsageError: a parameter is unknown, or has neither a value nor a default.
        UsageError: a value cannot be converted, or a setting is repeated.

    """
    signature = _signature(function)
    texts_by_name = _split(settings)
    values: dict[str, Any] = {}
    required_names: list[str] = []
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            values[name] = texts_by_name
            texts_by_name = {}
        elif parameter.kind is parameter.VAR_POSITIONAL:
            continue
        elif name in texts_by_name:
            values[name] = _convert(parameter, texts_by_name.pop(name))
        elif parameter.default is parameter.empty:
            required_names.append(name)
    if texts_by_name:
        name = next(iter(texts_by_name))
        parameter_names = list(signature.parameters)
        near = nearest_name(name, parameter_names)
        if near:
            hint = f"do you mean {near}=?"
        else:
            hint = f"its parameters: {', '.join(parameter_names) or 'none'}"
        raise click.UsageError(f"--set {printable(name)}=: unknown parameter; {hint}")
    for name in required_names:
        raise click.UsageError(
            f"the scenario needs a value for {name!r}: --set {name}=..."
        )
    bound = inspect.BoundArguments(signature, values)
    bound.apply_defaults()
    return bound


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except Exception:
        # Only type checkers can evaluate some annotations.
        pass
    try:
        return inspect.signature(function)
    except (ValueError, TypeError) as error:
        # Some functions written in C have no signature.
        raise click.UsageError(
            f"the scenario's parameters cannot be read: {error}"
        ) from None


def _split(settings: Iterable[str]) -> dict[str, str]:
    texts_by_name: dict[str, str] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise click.UsageError(
                f"--set {printable(setting)}: write --set name=value"
            )
        if name in texts_by_name:
            raise click.UsageError(
                f"--set {printable(name)}= is given twice: give it once; a list is [1, 2]"
            )
        texts_by_name[name] = text
    return texts_by_name


def _convert(parameter: inspect.Parameter, text: str) -> Any:
    """Convert a text to a parameter's type. A list or dict is JSON."""
    # Imported here, because --help does not need it.
    import msgspec

    name: str = parameter.name
    default: Any = parameter.default
    annotation: Any = parameter.annotation
    if annotation is parameter.empty or isinstance(annotation, str):
        annotation = str
        if default not in (parameter.empty, None):
            annotation = type(default)  # pyright: ignore[reportUnknownVariableType]
    try:
        try:
            return msgspec.convert(text, annotation, strict=False)
        except msgspec.ValidationError:
            if not text.startswith(("[", "{")):
                raise
            return msgspec.json.decode(text, type=annotation)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise click.UsageError(
            f"--set {printable(name)}={printable(text)}: {printable(str(error))}; "
            "give a text, a number, true, false or a date, or a list or dict as JSON"
        ) from None


# ---- the jobs to run


def keep_selected_jobs(scheduler: Scheduler, patterns: Sequence[str]) -> None:
    """Remove all jobs that are neither selected nor needed by a selected job. Without patterns, remove none.

    This takes O(V + E + R) time, where R is the number of requirements that are added between kept jobs.

    Args:
        scheduler: the outermost scheduler.
        patterns: the patterns of `--only`.

    Raises:
        UsageError: a pattern matches no job.
        ValueError: the jobs have no order: there is a cycle, or a requirement is missing. Other mistakes are found
            later, and only those of the kept jobs.

    """
    if not patterns:
        return
    store_implied_requirements(scheduler)
    paths = abc.paths_of(scheduler)
    kept: set[AnyMember] = set()
    for pattern in patterns:
        kept.update(match_jobs(paths, pattern))
    kept |= reachable(kept, _dependencies).keys()
    for job in [*kept]:
        kept.update(abc.enclosing_schedulers(job))
    for level in [*kept]:
        if isinstance(level, Scheduler):
            _remove_unselected(level, kept)


def match_jobs(paths: dict[AnyMember, str], pattern: str) -> list[AnyMember]:
    """Return the jobs whose paths match a pattern. Patterns have the same form as in `graph(only=)`.

    Raises:
        UsageError: no job matches.

    """
    matches = _selection.match_paths(paths, pattern)
    if not matches:
        hint = _selection.suggest_paths(paths, pattern) or ";"
        raise click.UsageError(
            f"no job has a path like {printable(pattern)!r}{hint} `trioflow list --paths` shows all paths"
        )
    return matches


def _dependencies(job: AnyMember) -> Iterator[AnyMember]:
    if isinstance(job, Scheduler):
        yield from job
    yield from abc.inputs_of(job)
    for level in (job, *abc.enclosing_schedulers(job)):
        for requirement in level.required:
            if isinstance(requirement, Service):
                yield requirement


def _remove_unselected(level: Scheduler, kept: Collection[AnyMember]) -> None:
    """Remove the members of a scheduler that are not in `kept`. The kept members stay in order."""
    kept_members = [job for job in level if job in kept]
    if len(kept_members) == len(level):
        return
    # Maps each removed member to the kept members that it waited for, directly or through other removed members, and
    # to whether it would have let a job that requires it run although that member failed.
    substitutes: dict[AnyMember, dict[AnyMember, bool]] = {}
    for job in topological_order(level):
        for requirement in job.required:
            check_requirement(job, requirement, level)
        required = abc.all_requirements(level, job)
        settled_only = {*_selection.settled_only_for(job)}
        if job not in kept and job.run_if != "succeeded":
            # Nothing but an input blocks it.
            settled_only = {*required} - {*abc.inputs_of(job)}
        predecessors: dict[AnyMember, bool] = {}
        for requirement in required:
            is_settled_only = requirement in settled_only
            passed_on = substitutes.get(requirement, {requirement: False})
            for each, lets_run in passed_on.items():
                is_weak = lets_run or is_settled_only
                predecessors[each] = is_weak and predecessors.get(each, True)
        if job not in kept:
            if abc.criticality(job) is False:
                predecessors = dict.fromkeys(predecessors, True)
            substitutes[job] = predecessors
            continue
        for each, lets_run in predecessors.items():
            if each not in required:
                job.requires(each, settled=lets_run)
    keep_only(level, kept_members)
