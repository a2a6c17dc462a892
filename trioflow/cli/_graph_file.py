"""Graphs of commands as JSON: read, so that `trioflow run graph.json` runs them; written by `trioflow graph --json`.

msgspec checks what the file says against the classes below, which are the schema as well. If it does not fit, each
field is checked alone, so that all problems are told at once, with their jobs and places. What the schema cannot say
(names, circles, results) is checked here too.

Programs that were written in another language write such files. Python functions cannot be in them, nor services.
"""

from __future__ import annotations

import contextlib
import fractions
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from .. import CommandJob, Depfile, Optional, Pool, Scheduler
from ..abc import AbstractJob, given_of, is_scheduler
from ..jobs.command._exits import ZERO
from ..jobs.command._options import CommandOptions
from ._graph_errors import (
    BadGraph,
    Doubled,
    Problem,
    in_json,
    is_list,
    is_object,
    like,
    parsed,
    said,
    twice,
    unknown_field,
    wrong_value,
)

VERSION: Final = 1
SCHEMA: Final = Path(__file__).with_name("graph.schema.json")
STREAMS: Final = {"PIPE": subprocess.PIPE, "DEVNULL": subprocess.DEVNULL, "STDOUT": subprocess.STDOUT}
FEW: Final = 8
"""So many names of a long circle an error shows."""

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Number = Annotated[int, msgspec.Meta(ge=0)]
Amount = int | float | str


class Strict(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Fields that nobody knows are refused: a wrong spelling would do nothing."""


class Result(Strict):
    """In place of an argument, or as `stdin`: what another command has written to `{"to": "PIPE"}`."""

    result: str


class Stream(Strict):
    """In place of a path: captured, dropped, or where the standard output goes."""

    to: Literal["PIPE", "DEVNULL", "STDOUT"]


class DepfileRead(Strict):
    """A file in which a compiler says what it has read."""

    depfile: str
    cwd: str | None = None


class OptionalWritten(Strict):
    """A file that a command may write."""

    optional: str


class Group(Strict):
    """What is true of all jobs of a list, and the list."""

    jobs: list[Entry] | UnsetType = UNSET
    jobs_window: Number | UnsetType = UNSET
    cleanup_timeout: Seconds | UnsetType | None = UNSET
    shutdown_timeout: Seconds | UnsetType | None = UNSET
    critical_jobs: bool | UnsetType = UNSET
    start_interval: Seconds | UnsetType = UNSET
    policy: Literal["auto", "fifo", "critical-path", "depth-first"] | UnsetType = UNSET
    pool: dict[str, int | float | str | list[str]] | UnsetType = UNSET
    backfill: Number | UnsetType = UNSET
    drain_at: Seconds | UnsetType = UNSET
    jobserver: bool | Literal["fifo", "pipe"] | UnsetType = UNSET
    timeout: Seconds | UnsetType = UNSET
    idle_timeout: Seconds | UnsetType = UNSET


class Entry(Group, kw_only=True):
    """A command, or a group of jobs: `command` or `jobs` says which."""

    name: str
    requires: list[str] = []
    # ---- of every job
    critical: bool | UnsetType = UNSET
    run_if: Literal["settled", "succeeded", "failed"] | UnsetType = UNSET
    on_timeout: Literal["fail", "restart", "move_on"] | UnsetType = UNSET
    restarts: Number | UnsetType = UNSET
    retry: Number | UnsetType = UNSET
    needs: dict[str, Amount] | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    expected_duration: Seconds | UnsetType = UNSET
    # ---- of a command
    command: str | list[str | int | float | Result] | UnsetType = UNSET
    cwd: str | UnsetType = UNSET
    env: dict[str, str] | UnsetType = UNSET
    stdin: str | Result | UnsetType = UNSET
    stdout: str | Stream | UnsetType = UNSET
    stderr: str | Stream | UnsetType = UNSET
    append: bool | UnsetType = UNSET
    check: bool | list[int | str] | UnsetType = UNSET
    terminate_grace: Seconds | UnsetType = UNSET
    nice: int | UnsetType = UNSET
    memory_limit: Number | UnsetType = UNSET
    pin: Literal["slot"] | UnsetType = UNSET
    leftovers: Literal["wait", "end"] | UnsetType = UNSET
    reads: list[str | DepfileRead] | UnsetType = UNSET
    writes: list[str | OptionalWritten] | UnsetType = UNSET
    key: str | int | UnsetType = UNSET
    version: str | int | UnsetType = UNSET
    redact: bool | UnsetType = UNSET


class Graph(Group, kw_only=True):
    """A whole graph; `trioflow` is the version of this form."""

    trioflow: int
    label: str | UnsetType = UNSET


OF_GROUPS: Final = frozenset(Group.__struct_fields__) - {"timeout", "idle_timeout"}
OF_COMMANDS: Final = frozenset(Entry.__struct_fields__[Entry.__struct_fields__.index("command") :])
OF_JOBS: Final = (
    "critical", "run_if", "timeout", "idle_timeout", "on_timeout", "restarts", "retry", "needs", "priority",
    "expected_duration",
)  # fmt: skip


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a graph; the file `SCHEMA` has the same."""
    (found,), parts = msgspec.json.schema_components([Graph], ref_template="#/$defs/{name}")
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A graph of commands for trioflow"}
    return {**about, **found, "$defs": parts}


# ---- reading

FIELDS: Final[dict[type[Group], dict[str, Any]]] = {
    kind: get_type_hints(kind, include_extras=True) for kind in (Graph, Entry)
}
NAMES: Final = tuple({name: None for fields in FIELDS.values() for name in fields})


def in_words(text: str) -> str:
    """Return an error of trioflow with its hints as one writes them in a file."""
    return in_json(text, NAMES)


class Level(NamedTuple):
    """The list of a group, or of the whole graph."""

    entries: list[Entry]
    place: str
    path: str
    """What paths of its jobs begin with."""

    def place_of(self, number: int) -> str:
        """Return where an entry stands."""
        return f"{self.place}.jobs[{number}]"

    def problem(self, number: int, text: str) -> Problem:
        """Return a problem of an entry."""
        return Problem(text, self.place_of(number), self.path + self.entries[number].name)


def read(path: Path) -> Scheduler:
    """Return the graph in a file.

    Raises:
        OSError: the file cannot be read.
        BadGraph: there is something else in it; the text names all problems.

    """
    data = path.read_bytes()
    problems: list[Problem] = []
    try:
        graph = _graph(data, problems)
    except RecursionError:
        raise BadGraph("groups are nested too deep") from None
    levels = list(_levels(graph))
    orders = [_order(level, problems) for level in levels]
    if not problems:
        label = path.stem if graph.label is UNSET else graph.label
        scheduler = Scheduler()
        try:
            scheduler = Scheduler(label=label, **_given(graph))
        except (TypeError, ValueError) as error:
            problems.append(Problem(in_words(str(error)), "$"))
        groups: dict[str, Any] = {"$": scheduler}
        for level, order in zip(levels, orders, strict=True):
            _fill(groups, level, order, problems)
        if not problems:
            return scheduler
    raise BadGraph(said(problems))


def _graph(data: bytes, problems: list[Problem]) -> Graph:
    """Return what a file says, as far as it fits; note the problems."""
    found, is_plain = parsed(data)
    version: Any = found.get("trioflow", UNSET) if is_object(found) else VERSION
    if version is UNSET:
        raise BadGraph(f'the version of its form is missing: write "trioflow": {VERSION} - at `$.trioflow`')
    if type(version) is int and version != VERSION:
        raise BadGraph(f"it is of version {version}, and this trioflow reads version {VERSION} - at `$.trioflow`")
    if is_object(found) and "jobs" not in found:
        problems.append(Problem("there is no list of jobs", "$.jobs"))
    if is_plain:
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(found, Graph)
    graph = Graph(trioflow=VERSION)
    todo: list[tuple[Any, Group, str, str]] = [(found, graph, "$", "")]
    for value, group, place, path in todo:  # it grows
        _note(value, group, place, path, problems)
        inside: Any = value.get("jobs") if is_object(value) else None
        if is_list(inside):
            group.jobs = []
            within = f"{path}/" if path else ""
            for number, one in enumerate(inside):
                where = f"{place}.jobs[{number}]"
                name: Any = one.get("name") if is_object(one) else None
                is_named = isinstance(name, str)
                entry = Entry(name=name if is_named else where)
                group.jobs.append(entry)
                todo.append((one, entry, where, within + name if is_named else ""))
    return graph


def _note(value: Any, group: Group, place: str, path: str, problems: list[Problem]) -> None:
    """Set what fits of a group or an entry, apart from the jobs in it, and note what does not."""
    if not is_object(value):
        problems += wrong_value(value, type(group), place, path)
        return
    if isinstance(value, Doubled):
        problems += twice(value, place, path)
    known = FIELDS[type(group)]
    if "name" in known and "name" not in value:
        problems.append(Problem('it has no name: give "name"', place))
    for name, one in value.items():
        where = f"{place}.{name}"
        if name not in known:
            problems.append(unknown_field(name, known, place, path))
        elif name == "jobs" and is_list(one):
            continue
        elif found := list(wrong_value(one, known[name], where, path)):
            problems += found
        else:
            setattr(group, name, msgspec.convert(one, known[name]))


def _levels(graph: Graph) -> Iterator[Level]:
    """Yield the lists, outer ones first."""
    todo: list[tuple[Group, str, str]] = [(graph, "$", "")]
    for group, place, path in todo:  # it grows
        if group.jobs is not UNSET:
            level = Level(group.jobs, place, path)
            yield level
            for number, entry in enumerate(group.jobs):
                if entry.jobs is not UNSET:
                    todo.append((entry, level.place_of(number), f"{path}{entry.name}/"))


def _fill(groups: dict[str, Any], level: Level, order: list[int], problems: list[Problem]) -> None:
    """Make the jobs of a list, and put them into their scheduler, in the order of the file."""
    made: dict[str, Any] = {}
    for number in order:
        entry = level.entries[number]
        try:
            made[entry.name] = _job(entry, made)
        except (TypeError, ValueError) as error:
            problems.append(level.problem(number, in_words(str(error))))
            made[entry.name] = CommandJob(["true"])  # for those that require it
        if entry.jobs is not UNSET:
            groups[level.place_of(number)] = made[entry.name]
    if not problems:
        groups[level.place].update([made[entry.name] for entry in level.entries])


def _order(level: Level, problems: list[Problem]) -> list[int]:
    """Return the numbers of the entries of a list, each after those that it requires; note names that are wrong."""
    numbers: dict[str, int] = {}
    before: dict[str, list[str]] = {}
    for number, entry in enumerate(level.entries):
        if entry.name in numbers:
            problems.append(level.problem(number, f"two jobs are called {entry.name!r}"))
        else:
            numbers[entry.name] = number
            before[entry.name] = [*dict.fromkeys((*entry.requires, *_results(entry)))]
    for name, names in before.items():
        for one in names:
            if one not in numbers:
                text = f"{name!r} requires {one!r}, which is not in its list{like(one, numbers)}"
                problems.append(level.problem(numbers[name], text))
        before[name] = known = [one for one in names if one in numbers]
        for one in _results(level.entries[numbers[name]]) if known else ():
            if one not in numbers:
                continue
            is_told = any(found.place.startswith(f"{level.place_of(numbers[one])}.stdout") for found in problems)
            if (why := _why_no_result(level.entries[numbers[one]])) and not is_told:
                problems.append(level.problem(numbers[name], f"{name!r} has the result of {one!r}, {why}"))
    return [numbers[name] for name in _in_order(before, level.place, problems)]


def _why_no_result(entry: Entry) -> str:
    """Return why a job has no result that others can have, and what to do; empty if it has one."""
    if entry.jobs is not UNSET:
        return "which is a group, and has none"
    if isinstance(entry.stdout, Stream) and entry.stdout.to == "PIPE":
        return ""
    return 'which is not captured: give that job "stdout": {"to": "PIPE"}'


def _results(entry: Entry) -> list[str]:
    """Return the names of the jobs whose results an entry has."""
    arguments = entry.command if isinstance(entry.command, list) else ()
    return [one.result for one in (*arguments, entry.stdin) if isinstance(one, Result)]


def _in_order(before: dict[str, list[str]], place: str, problems: list[Problem]) -> list[str]:
    """Return the names, each after those that it requires (Kahn 1962); note a circle."""
    missing = {name: len(names) for name, names in before.items()}
    after: dict[str, list[str]] = {}
    for name, names in before.items():
        for one in names:
            after.setdefault(one, []).append(name)
    order = [name for name, number in missing.items() if not number]
    for name in order:  # it grows
        for one in after.get(name, ()):
            missing[one] -= 1
            if not missing[one]:
                order.append(one)
    if len(order) == len(before):
        return order
    left = {name: None for name, number in missing.items() if number}
    walk: dict[str, None] = {}
    name = next(iter(left))
    while name not in walk:
        walk[name] = None
        name = next(one for one in before[name] if one in left)
    names = list(walk)
    circle = names[names.index(name) :]
    shown = [*circle[:FEW], *(["..."] if len(circle) > FEW else []), name]
    problems.append(Problem(f"jobs require each other in a circle: {' -> '.join(shown)}", f"{place}.jobs"))
    return []


def _given(found: Group) -> dict[str, Any]:
    """Return the options that an entry says, as keyword arguments."""
    options: dict[str, Any] = {}
    for name in found.__struct_fields__:
        value = getattr(found, name)
        if value is not UNSET and name not in ("name", "requires", "jobs", "command", "trioflow", "label"):
            options[name] = value
    if "pool" in options:
        options["pool"] = Pool(**options["pool"])
    return options


def _job(entry: Entry, made: dict[str, Any]) -> AbstractJob[Any]:
    """Return the job of an entry; the jobs that it requires are made."""
    is_group = entry.jobs is not UNSET
    if is_group is (entry.command is not UNSET):
        both = "both a command and jobs" if is_group else "neither a command nor jobs"
        raise ValueError(f"{entry.name!r} has {both}: give one of them")
    options = _given(entry)
    if strange := sorted(options.keys() & (OF_COMMANDS if is_group else OF_GROUPS)):
        raise ValueError(f"{strange[0]!r} is for {'commands' if is_group else 'groups'}, not for {entry.name!r}")
    options |= {"label": entry.name, "required": [made[name] for name in entry.requires]}
    if is_group:
        return Scheduler(**options)
    for stream in ("stdin", "stdout", "stderr"):
        if isinstance(options.get(stream), Stream):
            options[stream] = STREAMS[options[stream].to]
        elif isinstance(options.get(stream), Result):
            options[stream] = made[options[stream].result]
    options["reads"] = [
        Depfile(one.depfile, one.cwd) if isinstance(one, DepfileRead) else one for one in options.get("reads", ())
    ]
    options["writes"] = [
        Optional(one.optional) if isinstance(one, OptionalWritten) else one for one in options.get("writes", ())
    ]
    if isinstance(entry.command, str):
        return CommandJob(entry.command, shell=True, **options)
    assert isinstance(entry.command, list)
    return CommandJob([made[one.result] if isinstance(one, Result) else one for one in entry.command], **options)


# ---- writing


def text(scheduler: Scheduler) -> str:
    """Return a graph as JSON.

    Raises:
        BadGraph: something in it cannot be written; the text names the job.

    """
    found: dict[str, Any] = {"trioflow": VERSION, "label": scheduler.label, **_own(scheduler, is_outermost=True)}
    groups: list[tuple[Any, dict[str, Any]]] = [(scheduler, found)]
    while groups:
        around, target = groups.pop()
        names = _names(around)
        entries: list[dict[str, Any]] = []
        target["jobs"] = entries
        for job in around:
            entry: dict[str, Any] = {"name": names[job]}
            if is_scheduler(job):
                entry |= _own(job)
                groups.append((job, entry))
            else:
                entry |= _command(job, names)
            strange = [one for one in job.required if one not in names]
            if strange:
                raise BadGraph(f"{job.path!r} requires {strange[0].path!r}, which is not in its list")
            inputs = set(_inputs(job))
            requires = [names[one] for one in job.required if one not in inputs]
            if requires:
                entry["requires"] = requires
            entries.append(entry)
    try:
        return msgspec.json.format(msgspec.json.encode(found, enc_hook=_plain), indent=2).decode()
    except UnicodeEncodeError as error:
        raise BadGraph(f"JSON cannot have {error.object!r}, which is not Unicode") from None


def _names(scheduler: Any) -> dict[AbstractJob[Any], str]:
    """Return a name for each job of a list: its label, with a number if others have the same."""
    taken: dict[str, int] = {}
    names: dict[AbstractJob[Any], str] = {}
    labels = {job.label for job in scheduler}
    for job in scheduler:
        name = job.label
        while name in taken or (name != job.label and name in labels):
            taken[job.label] += 1
            name = f"{job.label} ({taken[job.label]})"
        taken[name] = 1
        names[job] = name
    return names


def _own(job: Any, is_outermost: bool = False) -> dict[str, Any]:
    """Return the options of every job, and those of a group, that are not as they are by default."""
    declared: dict[str, Any] = job._declared
    names = [*(OF_JOBS if not is_outermost else ("timeout", "idle_timeout"))]
    names += sorted(OF_GROUPS - {"jobs"}) if is_scheduler(job) else ()
    found = {name: getattr(job, name) for name in names if getattr(job, name) != declared[name].default}
    if not found.get("needs", True):
        del found["needs"]
    if "pool" in found:
        found["pool"] = found["pool"].total
    for name, value in found.items():
        if callable(value) or (name == "policy" and not isinstance(value, str)):
            raise BadGraph(f"{name}= of {job.path!r} is a Python object, which JSON cannot have")
    if is_scheduler(job) and type(found.get("jobs_window", 0)) is not int:
        raise BadGraph(f"jobs_window= of {job.path!r} is a Python object, which JSON cannot have")
    return found


def _inputs(job: AbstractJob[Any]) -> Iterable[AbstractJob[Any]]:
    given: tuple[Any, ...] = given_of(job) if isinstance(job, CommandJob) else ()
    return [one for one in given if isinstance(one, AbstractJob)]  # pyright: ignore[reportUnknownVariableType]


def _command(job: AbstractJob[Any], names: dict[AbstractJob[Any], str]) -> dict[str, Any]:
    """Return what a command is, but for what it requires."""
    if type(job) is not CommandJob:
        raise BadGraph(f"{job.path!r} is a {type(job).__name__}: a graph in JSON has CommandJobs and groups alone")
    options = job._options
    for name in ("on_start", "on_line", "tag"):
        if getattr(options, name) not in (None, False):
            raise BadGraph(f"{name}= of {job.path!r} is for Python programs, and JSON cannot have it")
    if job._granted_env:
        raise BadGraph(f"env= of {job.path!r} has granted() in it, which JSON cannot have")
    shown = [_argument(one, job, names) for one in job.command]
    found: dict[str, Any] = {"command": shown[0] if options.shell else shown, **_own(job)}
    if options.shell and not isinstance(shown[0], str):
        raise BadGraph(f"the line of {job.path!r} is the result of a job, which JSON cannot have")
    stdin = given_of(job)[-1]
    if stdin is not None:
        found["stdin"] = _argument(stdin, job, names)
    if options.allowed != ZERO:
        found["check"] = options.allowed is not None and sorted(options.allowed)
    for name in ("key", "version", "redact"):
        if (value := getattr(job, name)) != type(job)._declared[name].default:
            found[name] = value
    for name in COMMAND_OPTIONS:
        if (value := getattr(options, name)) != DEFAULTS[name]:
            found[name] = _option(name, value, job)
    return found


COMMAND_OPTIONS: Final = sorted(OF_COMMANDS & set(CommandOptions.__dataclass_fields__))
DEFAULTS: Final = {name: getattr(CommandOptions(), name) for name in COMMAND_OPTIONS}


def _argument(one: Any, job: AbstractJob[Any], names: dict[AbstractJob[Any], str]) -> Any:
    if isinstance(one, AbstractJob):
        found: Any = one  # pyright: ignore[reportUnknownVariableType]
        if found not in names:
            raise BadGraph(f"{job.path!r} has the result of {found.path!r}, which is not in its list")
        return {"result": names[found]}
    return one if isinstance(one, (int, float)) else _text(one, "an argument", job)


def _text(value: Any, what: str, job: AbstractJob[Any]) -> str:
    if isinstance(value, (str, bytes, os.PathLike)):
        return os.fsdecode(value)  # pyright: ignore[reportUnknownArgumentType]
    raise BadGraph(f"{what} of {job.path!r} is a Python object, {value!r}, which JSON cannot have")


def _option(name: str, value: Any, job: AbstractJob[Any]) -> Any:
    """Return an option of a command as JSON has it."""
    what = f"{name}="
    if name == "env":
        return {os.fsdecode(variable): os.fsdecode(given) for variable, given in value.items()}
    if name == "reads":
        return [_depfile(one, job) if isinstance(one, Depfile) else _text(one, what, job) for one in value]
    if name == "writes":
        return [
            {"optional": _text(one.path, what, job)} if isinstance(one, Optional) else _text(one, what, job)
            for one in value
        ]
    if name in ("stdin", "stdout", "stderr") and isinstance(value, int):
        return {"to": next((one for one, number in STREAMS.items() if number == value), None)}
    return _text(value, what, job) if name in ("cwd", "stdin", "stdout", "stderr") else value


def _depfile(one: Depfile, job: AbstractJob[Any]) -> dict[str, str]:
    cwd = {} if one.cwd is None else {"cwd": _text(one.cwd, "a Depfile", job)}
    return {"depfile": _text(one.path, "a Depfile", job), **cwd}


def _plain(value: Any) -> Any:
    """Return an amount, which may be a fraction, as a number."""
    if isinstance(value, fractions.Fraction):
        return int(value) if value.denominator == 1 else float(value)
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    raise BadGraph(f"JSON cannot have {value!r}")
