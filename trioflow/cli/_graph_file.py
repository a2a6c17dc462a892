"""Graphs of commands as JSON, which other programs write, and `trioflow run graph.json` reads and runs.

msgspec checks what the file says against the classes below, which are the schema as well. If it does not fit, each
field is checked alone, so that all problems are reported together, with their jobs and places. What a schema cannot
express (names, cycles, results) is checked here too.

Such files are written by programs in other languages. They can have neither Python functions nor services.
"""

from __future__ import annotations

import contextlib
import graphlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from .. import CommandJob, Depfile, OptionalFile, Pool, Scheduler
from ..abc import AbstractJob, JobserverStyle, OnTimeout, PolicyName, RunIf
from ..jobs.command._spawn_options import Leftovers, Pin
from ._graph_errors import (
    BadGraph,
    DuplicateKeys,
    Problem,
    did_you_mean,
    duplicate_keys,
    format_problems,
    is_list,
    is_object,
    parse_json,
    unknown_field,
    wrong_value,
)

VERSION: Final = 1
SCHEMA: Final = Path(__file__).with_name("graph.schema.json")
STREAMS: Final = {"PIPE": subprocess.PIPE, "DEVNULL": subprocess.DEVNULL, "STDOUT": subprocess.STDOUT}
MAX_CYCLE_NAMES: Final = 8
"""The number of names of a long cycle that an error shows."""

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Number = Annotated[int, msgspec.Meta(ge=0)]
Amount = int | float | str


class StrictStruct(msgspec.Struct, forbid_unknown_fields=True):
    """A struct that rejects unknown fields: a wrong spelling would have no effect."""


class Result(StrictStruct):
    """The output that another command has written to `{"to": "PIPE"}`, as an argument or as `stdin`."""

    result: str


class Stream(StrictStruct):
    """A target of output other than a path: captured, dropped, or the standard output."""

    to: Literal["PIPE", "DEVNULL", "STDOUT"]


class DepfileRead(StrictStruct):
    """A file in which a compiler lists the files that it has read."""

    depfile: str
    cwd: str | None = None


class OptionalWritten(StrictStruct):
    """A file that a command may write."""

    optional: str


class Group(StrictStruct):
    """A list of jobs, with the options that all of them share."""

    jobs: list[Entry] | UnsetType = UNSET
    jobs_window: Number | UnsetType = UNSET
    cleanup_timeout: Seconds | UnsetType | None = UNSET
    shutdown_timeout: Seconds | UnsetType | None = UNSET
    critical_jobs: bool | UnsetType = UNSET
    policy: PolicyName | UnsetType = UNSET
    pool: dict[str, int | float | str | list[str]] | UnsetType = UNSET
    backfill: Number | UnsetType = UNSET
    jobserver: bool | JobserverStyle | UnsetType = UNSET
    timeout: Seconds | UnsetType = UNSET
    idle_timeout: Seconds | UnsetType = UNSET


class Entry(Group, kw_only=True):
    """A command, or a group of jobs: it has either `command` or `jobs`."""

    name: str
    requires: list[str] = []
    # ---- of every job
    critical: bool | UnsetType = UNSET
    run_if: RunIf | UnsetType = UNSET
    on_timeout: OnTimeout | UnsetType = UNSET
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
    pin: Pin | UnsetType = UNSET
    leftovers: Leftovers | UnsetType = UNSET
    reads: list[str | DepfileRead] | UnsetType = UNSET
    writes: list[str | OptionalWritten] | UnsetType = UNSET
    key: str | int | UnsetType = UNSET
    version: str | int | UnsetType = UNSET
    redact: bool | UnsetType = UNSET


class Graph(Group, kw_only=True):
    """A whole graph; `trioflow` is the version of this form."""

    trioflow: int
    label: str | UnsetType = UNSET


GROUP_OPTIONS: Final = frozenset(Group.__struct_fields__) - {"timeout", "idle_timeout"}
COMMAND_OPTIONS: Final = frozenset(Entry.__struct_fields__[Entry.__struct_fields__.index("command") :])


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a graph; the file `SCHEMA` has the same."""
    (root,), parts = msgspec.json.schema_components([Graph], ref_template="#/$defs/{name}")
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A graph of commands for trioflow"}
    return {**about, **root, "$defs": parts}


# ---- reading

FIELDS: Final[dict[type[Group], dict[str, Any]]] = {
    kind: get_type_hints(kind, include_extras=True) for kind in (Graph, Entry)
}


class ParsedGroup(NamedTuple):
    """The list of a group, or of the whole graph."""

    entries: list[Entry]
    place: str
    path: str
    """The prefix of its jobs' paths."""

    def place_of(self, number: int) -> str:
        """Return the place of an entry."""
        return f"{self.place}.jobs[{number}]"

    def problem(self, number: int, text: str) -> Problem:
        """Return a problem of an entry."""
        return Problem(text, self.place_of(number), self.path + self.entries[number].name)


def read(path: Path) -> Scheduler:
    """Return the graph in a file.

    Raises:
        OSError: the file cannot be read.
        BadGraph: the file is not a valid graph; the text has all problems.

    """
    data = path.read_bytes()
    problems: list[Problem] = []
    try:
        graph = _parse_graph(data, problems)
    except RecursionError:
        raise BadGraph("groups are nested too deep") from None
    levels = list(_iterate_groups(graph))
    orders = [_order_entries(level, problems) for level in levels]
    if not problems:
        label = path.stem if graph.label is UNSET else graph.label
        scheduler = Scheduler()
        try:
            scheduler = Scheduler(label=label, **_options_of(graph))
        except (TypeError, ValueError) as error:
            problems.append(Problem(str(error), "$"))
        groups: dict[str, Any] = {"$": scheduler}
        for level, order in zip(levels, orders, strict=True):
            _add_jobs(groups, level, order, problems)
        if not problems:
            return scheduler
    raise BadGraph(format_problems(problems))


def _parse_graph(data: bytes, problems: list[Problem]) -> Graph:
    """Return the valid parts of a file, and record the problems."""
    document, is_plain = parse_json(data)
    version: Any = document.get("trioflow", UNSET) if is_object(document) else VERSION
    if version is UNSET:
        raise BadGraph(f'the version of its form is missing: write "trioflow": {VERSION} - at `$.trioflow`')
    if type(version) is int and version != VERSION:
        raise BadGraph(f"it is of version {version}, and this trioflow reads version {VERSION} - at `$.trioflow`")
    if is_object(document) and "jobs" not in document:
        problems.append(Problem("there is no list of jobs", "$.jobs"))
    if is_plain:
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(document, Graph)
    graph = Graph(trioflow=VERSION)
    todo: list[tuple[Any, Group, str, str]] = [(document, graph, "$", "")]
    for value, group, place, path in todo:  # it grows
        _set_fields(value, group, place, path, problems)
        inside: Any = value.get("jobs") if is_object(value) else None
        if is_list(inside):
            group.jobs = []
            within = f"{path}/" if path else ""
            for number, child in enumerate(inside):
                where = f"{place}.jobs[{number}]"
                name: Any = child.get("name") if is_object(child) else None
                is_named = isinstance(name, str)
                entry = Entry(name=name if is_named else where)
                group.jobs.append(entry)
                todo.append((child, entry, where, within + name if is_named else ""))
    return graph


def _set_fields(value: Any, group: Group, place: str, path: str, problems: list[Problem]) -> None:
    """Set the valid fields of a group or an entry except its jobs, and record the problems."""
    if not is_object(value):
        problems += wrong_value(value, type(group), place, path)
        return
    if isinstance(value, DuplicateKeys):
        problems += duplicate_keys(value, place, path)
    known = FIELDS[type(group)]
    if "name" in known and "name" not in value:
        problems.append(Problem('it has no name: give "name"', place))
    for name, field in value.items():
        where = f"{place}.{name}"
        if name not in known:
            problems.append(unknown_field(name, known, place, path))
        elif name == "jobs" and is_list(field):
            continue
        elif wrong := list(wrong_value(field, known[name], where, path)):
            problems += wrong
        else:
            setattr(group, name, msgspec.convert(field, known[name]))


def _iterate_groups(graph: Graph) -> Iterator[ParsedGroup]:
    """Yield the lists, enclosing ones first."""
    todo: list[tuple[Group, str, str]] = [(graph, "$", "")]
    for group, place, path in todo:  # it grows
        if group.jobs is not UNSET:
            level = ParsedGroup(group.jobs, place, path)
            yield level
            for number, entry in enumerate(group.jobs):
                if entry.jobs is not UNSET:
                    todo.append((entry, level.place_of(number), f"{path}{entry.name}/"))


def _add_jobs(groups: dict[str, Any], level: ParsedGroup, order: list[int], problems: list[Problem]) -> None:
    """Make the jobs of a list, and add them to their scheduler in the order of the file."""
    made: dict[str, Any] = {}
    for number in order:
        entry = level.entries[number]
        try:
            made[entry.name] = _make_job(entry, made)
        except (TypeError, ValueError) as error:
            problems.append(level.problem(number, str(error)))
            made[entry.name] = CommandJob(["true"])  # a placeholder for the jobs that require it
        if entry.jobs is not UNSET:
            groups[level.place_of(number)] = made[entry.name]
    if not problems:
        groups[level.place].update([made[entry.name] for entry in level.entries])


def _order_entries(level: ParsedGroup, problems: list[Problem]) -> list[int]:
    """Return the numbers of a list's entries in topological order; record wrong names."""
    numbers: dict[str, int] = {}
    before: dict[str, list[str]] = {}
    for number, entry in enumerate(level.entries):
        if entry.name in numbers:
            problems.append(level.problem(number, f"two jobs are called {entry.name!r}"))
        else:
            numbers[entry.name] = number
            before[entry.name] = [*dict.fromkeys((*entry.requires, *_results_used(entry)))]
    for name, names in before.items():
        for other in names:
            if other not in numbers:
                text = f"{name!r} requires {other!r}, which is not in its list{did_you_mean(other, numbers)}"
                problems.append(level.problem(numbers[name], text))
        before[name] = known = [other for other in names if other in numbers]
        for other in _results_used(level.entries[numbers[name]]) if known else ():
            if other not in numbers:
                continue
            is_told = any(problem.place.startswith(f"{level.place_of(numbers[other])}.stdout") for problem in problems)
            if (why := _why_no_result(level.entries[numbers[other]])) and not is_told:
                problems.append(level.problem(numbers[name], f"{name!r} has the result of {other!r}, {why}"))
    return [numbers[name] for name in _sort_names(before, level.place, problems)]


def _why_no_result(entry: Entry) -> str:
    """Return the reason why a job has no result for others, and what to do; "" if it has one."""
    if entry.jobs is not UNSET:
        return "which is a group, and has none"
    if isinstance(entry.stdout, Stream) and entry.stdout.to == "PIPE":
        return ""
    return 'which is not captured: give that job "stdout": {"to": "PIPE"}'


def _results_used(entry: Entry) -> list[str]:
    """Return the names of the jobs whose results an entry uses."""
    arguments = entry.command if isinstance(entry.command, list) else ()
    return [argument.result for argument in (*arguments, entry.stdin) if isinstance(argument, Result)]


def _sort_names(before: dict[str, list[str]], place: str, problems: list[Problem]) -> list[str]:
    """Return the names in topological order; record a cycle."""
    try:
        return list(graphlib.TopologicalSorter(before).static_order())
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1][::-1]
        shown = circle if len(circle) <= MAX_CYCLE_NAMES + 1 else [*circle[:MAX_CYCLE_NAMES], "...", circle[0]]
        problems.append(Problem(f"jobs require each other in a circle: {' -> '.join(shown)}", f"{place}.jobs"))
        return []


def _options_of(group: Group) -> dict[str, Any]:
    """Return the options of an entry as keyword arguments."""
    options: dict[str, Any] = {}
    for name in group.__struct_fields__:
        value = getattr(group, name)
        if value is not UNSET and name not in ("name", "requires", "jobs", "command", "trioflow", "label"):
            options[name] = value
    if "pool" in options:
        options["pool"] = Pool(**options["pool"])
    return options


def _make_job(entry: Entry, made: dict[str, Any]) -> AbstractJob[Any]:
    """Make the job of an entry; its requirements exist already."""
    is_group = entry.jobs is not UNSET
    if is_group is (entry.command is not UNSET):
        both = "both a command and jobs" if is_group else "neither a command nor jobs"
        raise ValueError(f"{entry.name!r} has {both}: give one of them")
    options = _options_of(entry)
    if strange := sorted(options.keys() & (COMMAND_OPTIONS if is_group else GROUP_OPTIONS)):
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
        Depfile(path.depfile, path.cwd) if isinstance(path, DepfileRead) else path for path in options.get("reads", ())
    ]
    options["writes"] = [
        OptionalFile(path.optional) if isinstance(path, OptionalWritten) else path for path in options.get("writes", ())
    ]
    if isinstance(entry.command, str):
        return CommandJob(entry.command, shell=True, **options)
    assert isinstance(entry.command, list)
    return CommandJob(
        [made[argument.result] if isinstance(argument, Result) else argument for argument in entry.command], **options
    )
