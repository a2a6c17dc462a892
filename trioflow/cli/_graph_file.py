"""Graphs of commands in JSON, for `trioflow run graph.json`.

Programs in any language can write such files. A graph in JSON has neither Python functions nor services.

The classes below are the schema. msgspec validates the whole file against them at once. If that fails, each field is
validated alone, so that all problems are reported together, each with its job and its JSON path. This module also
checks what a schema cannot express: unknown names, cycles, and jobs that do not have the result another job uses.
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
from ..jobs.command._spawn_options import LeftoversOption, PinOption
from ._graph_errors import (
    BadGraph,
    ObjectWithDuplicateKeys,
    Problem,
    did_you_mean,
    find_duplicate_keys,
    find_type_problems,
    format_problems,
    in_json_syntax,
    is_list,
    is_object,
    parse_json,
    unknown_field_problem,
)

FORMAT_VERSION: Final = 1
SCHEMA_FILE: Final = Path(__file__).with_name("graph.schema.json")
SUBPROCESS_CONSTANTS: Final = {"PIPE": subprocess.PIPE, "DEVNULL": subprocess.DEVNULL, "STDOUT": subprocess.STDOUT}
MAX_CYCLE_NAMES: Final = 8
"""The maximum number of names to show in an error about a cycle."""

Seconds = Annotated[float, msgspec.Meta(ge=0)]
NonNegativeInt = Annotated[int, msgspec.Meta(ge=0)]
ResourceAmount = int | float | str


class StrictStruct(msgspec.Struct, forbid_unknown_fields=True):
    """A struct that rejects unknown fields, because a misspelled field would have no effect."""


class ResultReference(StrictStruct):
    """A reference to the captured output of another command, used as an argument or as `stdin`.

    The other command must have `"stdout": {"to": "PIPE"}`.
    """

    result: str


class OutputTarget(StrictStruct):
    """A target of output that is not a file: `PIPE` captures it, `DEVNULL` drops it, `STDOUT` merges it into stdout."""

    to: Literal["PIPE", "DEVNULL", "STDOUT"]


class DepfileInput(StrictStruct):
    """A depfile: a file in which a compiler lists the files that it has read."""

    depfile: str
    cwd: str | None = None


class OptionalOutput(StrictStruct):
    """A file that a command may write."""

    optional: str


class JobGroup(StrictStruct):
    """A list of jobs, and the options of the scheduler that runs them."""

    jobs: list[JobEntry] | UnsetType = UNSET
    jobs_window: NonNegativeInt | UnsetType = UNSET
    cleanup_timeout: Seconds | UnsetType | None = UNSET
    shutdown_timeout: Seconds | UnsetType | None = UNSET
    critical_jobs: bool | UnsetType = UNSET
    policy: PolicyName | UnsetType = UNSET
    pool: dict[str, int | float | str | list[str]] | UnsetType = UNSET
    backfill: NonNegativeInt | UnsetType = UNSET
    jobserver: bool | JobserverStyle | UnsetType = UNSET
    timeout: Seconds | UnsetType = UNSET
    idle_timeout: Seconds | UnsetType = UNSET


class JobEntry(JobGroup, kw_only=True):
    """A command, with the field `command`, or a group of jobs, with the field `jobs`."""

    name: str
    requires: list[str] = []
    # ---- fields of every job
    critical: bool | UnsetType = UNSET
    run_if: RunIf | UnsetType = UNSET
    on_timeout: OnTimeout | UnsetType = UNSET
    restarts: NonNegativeInt | UnsetType = UNSET
    retry: NonNegativeInt | UnsetType = UNSET
    needs: dict[str, ResourceAmount] | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    expected_duration: Seconds | UnsetType = UNSET
    # ---- fields of commands
    command: str | list[str | int | float | ResultReference] | UnsetType = UNSET
    cwd: str | UnsetType = UNSET
    env: dict[str, str] | UnsetType = UNSET
    stdin: str | ResultReference | UnsetType = UNSET
    stdout: str | OutputTarget | UnsetType = UNSET
    stderr: str | OutputTarget | UnsetType = UNSET
    append: bool | UnsetType = UNSET
    check: bool | list[int | str] | UnsetType = UNSET
    terminate_grace: Seconds | UnsetType = UNSET
    nice: int | UnsetType = UNSET
    memory_limit: NonNegativeInt | UnsetType = UNSET
    pin: PinOption | UnsetType = UNSET
    leftovers: LeftoversOption | UnsetType = UNSET
    reads: list[str | DepfileInput] | UnsetType = UNSET
    writes: list[str | OptionalOutput] | UnsetType = UNSET
    key: str | int | UnsetType = UNSET
    version: str | int | UnsetType = UNSET
    redact: bool | UnsetType = UNSET


class Graph(JobGroup, kw_only=True):
    """A whole graph. The field `trioflow` is the version of the format."""

    trioflow: int
    label: str | UnsetType = UNSET


GROUP_ONLY_FIELDS: Final = frozenset(JobGroup.__struct_fields__) - {"timeout", "idle_timeout"}
COMMAND_ONLY_FIELDS: Final = frozenset(JobEntry.__struct_fields__[JobEntry.__struct_fields__.index("command") :])


def graph_schema() -> dict[str, Any]:
    """Return the JSON Schema of a graph. The file `SCHEMA_FILE` has the same schema."""
    (root,), definitions = msgspec.json.schema_components([Graph], ref_template="#/$defs/{name}")
    header = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A graph of commands for trioflow"}
    return {**header, **root, "$defs": definitions}


# ---- reading

FIELD_TYPES: Final[dict[type[JobGroup], dict[str, Any]]] = {
    kind: get_type_hints(kind, include_extras=True) for kind in (Graph, JobEntry)
}


class ParsedGroup(NamedTuple):
    """The entries of a group, or of the whole graph.

    Attributes:
        entries: the entries in the order of the file.
        json_path: the JSON path of the group.

    """

    entries: list[JobEntry]
    json_path: str
    path_prefix: str
    """The prefix of the paths of the group's jobs, e.g. `build/`; "" for the whole graph."""

    def entry_json_path(self, number: int) -> str:
        """Return the JSON path of an entry."""
        return f"{self.json_path}.jobs[{number}]"

    def entry_problem(self, number: int, text: str) -> Problem:
        """Create a problem that concerns an entry."""
        return Problem(text, self.entry_json_path(number), self.path_prefix + self.entries[number].name)


def read_graph_file(path: Path) -> Scheduler:
    """Read a graph in JSON, and return its scheduler.

    Raises:
        OSError: the file cannot be read.
        BadGraph: the file is not a valid graph.

    """
    data = path.read_bytes()
    problems: list[Problem] = []
    try:
        graph = _parse_graph(data, problems)
    except RecursionError:
        raise BadGraph("groups are nested too deeply") from None
    parsed_groups = list(_iterate_groups(graph))
    has_groups = len(parsed_groups) > 1
    orders = [_order_entries(parsed_group, has_groups, problems) for parsed_group in parsed_groups]
    if not problems:
        label = path.stem if graph.label is UNSET else graph.label
        scheduler = Scheduler()
        try:
            scheduler = Scheduler(label=label, **_keyword_arguments(graph))
        except (TypeError, ValueError) as error:
            problems.append(Problem(in_json_syntax(str(error), FIELD_TYPES[JobEntry]), "$"))
        groups: dict[str, Any] = {"$": scheduler}
        for parsed_group, order in zip(parsed_groups, orders, strict=True):
            _add_jobs(groups, parsed_group, order, problems)
        if not problems:
            return scheduler
    raise BadGraph(format_problems(problems))


def _parse_graph(data: bytes, problems: list[Problem]) -> Graph:
    """Parse a file, return the valid parts of its graph, and append a problem for each invalid part to `problems`."""
    document, is_plain = parse_json(data)
    version: Any = document.get("trioflow", UNSET) if is_object(document) else FORMAT_VERSION
    if version is UNSET:
        raise BadGraph(f'the format version is missing: add "trioflow": {FORMAT_VERSION} - at `$.trioflow`')
    if type(version) is int and version != FORMAT_VERSION:
        raise BadGraph(
            f"its format version is {version}, but this trioflow reads version {FORMAT_VERSION} - at `$.trioflow`"
        )
    if is_object(document) and "jobs" not in document:
        problems.append(Problem('the list "jobs" is missing', "$.jobs"))
    if is_plain:
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(document, Graph)
    graph = Graph(trioflow=FORMAT_VERSION)
    queue: list[tuple[Any, JobGroup, str, str]] = [(document, graph, "$", "")]
    for value, group, json_path, path in queue:  # the loop appends the entries of each group to the queue
        _set_fields(value, group, json_path, path, problems)
        children: Any = value.get("jobs") if is_object(value) else None
        if is_list(children):
            group.jobs = []
            prefix = f"{path}/" if path else ""
            for index, child in enumerate(children):
                child_json_path = f"{json_path}.jobs[{index}]"
                name: Any = child.get("name") if is_object(child) else None
                is_named = isinstance(name, str)
                entry = JobEntry(name=name if is_named else child_json_path)
                group.jobs.append(entry)
                queue.append((child, entry, child_json_path, prefix + name if is_named else ""))
    return graph


def _set_fields(value: Any, group: JobGroup, json_path: str, path: str, problems: list[Problem]) -> None:
    """Set the valid fields of a group or an entry, except `jobs`; append a problem for each invalid field."""
    if not is_object(value):
        problems += find_type_problems(value, type(group), json_path, path)
        return
    if isinstance(value, ObjectWithDuplicateKeys):
        problems += find_duplicate_keys(value, json_path, path)
    known = FIELD_TYPES[type(group)]
    if "name" in known and "name" not in value:
        problems.append(Problem('it has no name: add "name"', json_path))
    for name, field in value.items():
        field_json_path = f"{json_path}.{name}"
        if name not in known:
            problems.append(unknown_field_problem(name, known, json_path, path))
        elif name == "jobs" and is_list(field):
            continue
        elif type_problems := list(find_type_problems(field, known[name], field_json_path, path)):
            problems += type_problems
        else:
            setattr(group, name, msgspec.convert(field, known[name]))


def _iterate_groups(graph: Graph) -> Iterator[ParsedGroup]:
    """Yield the entries of the whole graph, then those of each group. Enclosing groups come before nested ones."""
    queue: list[tuple[JobGroup, str, str]] = [(graph, "$", "")]
    for group, json_path, path in queue:  # the loop appends nested groups to the queue
        if group.jobs is not UNSET:
            parsed_group = ParsedGroup(group.jobs, json_path, path)
            yield parsed_group
            for index, entry in enumerate(group.jobs):
                if entry.jobs is not UNSET:
                    queue.append((entry, parsed_group.entry_json_path(index), f"{path}{entry.name}/"))


def _add_jobs(groups: dict[str, Any], parsed_group: ParsedGroup, order: list[int], problems: list[Problem]) -> None:
    """Create the jobs of a group in topological order, and add them to its scheduler in the order of the file."""
    jobs_by_name: dict[str, Any] = {}
    for index in order:
        entry = parsed_group.entries[index]
        try:
            jobs_by_name[entry.name] = _make_job(entry, jobs_by_name)
        except (TypeError, ValueError) as error:
            problems.append(parsed_group.entry_problem(index, in_json_syntax(str(error), FIELD_TYPES[JobEntry])))
            # Replace the invalid job by a valid one, so that the jobs that require it can be checked.
            jobs_by_name[entry.name] = CommandJob(["true"])
        if entry.jobs is not UNSET:
            groups[parsed_group.entry_json_path(index)] = jobs_by_name[entry.name]
    if not problems:
        groups[parsed_group.json_path].update([jobs_by_name[entry.name] for entry in parsed_group.entries])


def _order_entries(parsed_group: ParsedGroup, has_groups: bool, problems: list[Problem]) -> list[int]:
    """Return the indices of a group's entries in topological order.

    Append a problem to `problems` for each duplicate or unknown name, each missing result, and a cycle. If there is a
    cycle, return an empty list.
    """
    indices: dict[str, int] = {}
    requirements_by_name: dict[str, list[str]] = {}
    for index, entry in enumerate(parsed_group.entries):
        if entry.name in indices:
            problems.append(parsed_group.entry_problem(index, f"two jobs are called {entry.name!r}"))
        else:
            indices[entry.name] = index
            requirements_by_name[entry.name] = [*dict.fromkeys((*entry.requires, *_result_sources(entry)))]
    for name, names in requirements_by_name.items():
        for requirement in names:
            if requirement not in indices:
                hint = did_you_mean(requirement, indices)
                fault = "which is not in the same group" if has_groups else "but no job in this file has that name"
                text = f"{name!r} requires {requirement!r}, {fault}{hint}"
                problems.append(parsed_group.entry_problem(indices[name], text))
        requirements_by_name[name] = known = [requirement for requirement in names if requirement in indices]
        for requirement in _result_sources(parsed_group.entries[indices[name]]) if known else ():
            if requirement not in indices:
                continue
            stdout_json_path = f"{parsed_group.entry_json_path(indices[requirement])}.stdout"
            is_reported = any(problem.json_path.startswith(stdout_json_path) for problem in problems)
            if (reason := _missing_result_reason(parsed_group.entries[indices[requirement]])) and not is_reported:
                problems.append(
                    parsed_group.entry_problem(indices[name], f"{name!r} uses the result of {requirement!r}, {reason}")
                )
    return [indices[name] for name in _sort_topologically(requirements_by_name, parsed_group.json_path, problems)]


def _missing_result_reason(entry: JobEntry) -> str:
    """Return why other jobs cannot use the result of a job, and the remedy; "" if they can use it."""
    if entry.jobs is not UNSET:
        return "which is a group and has none"
    if isinstance(entry.stdout, OutputTarget) and entry.stdout.to == "PIPE":
        return ""
    return 'whose output is not captured: give that job "stdout": {"to": "PIPE"}'


def _result_sources(entry: JobEntry) -> list[str]:
    """Return the names of the jobs whose results an entry uses."""
    arguments = entry.command if isinstance(entry.command, list) else ()
    return [argument.result for argument in (*arguments, entry.stdin) if isinstance(argument, ResultReference)]


def _sort_topologically(
    requirements_by_name: dict[str, list[str]], json_path: str, problems: list[Problem]
) -> list[str]:
    """Return the names in topological order. If there is a cycle, append a problem and return an empty list."""
    try:
        return list(graphlib.TopologicalSorter(requirements_by_name).static_order())
    except graphlib.CycleError as error:
        cycle: list[str] = error.args[1][::-1]
        names = cycle if len(cycle) <= MAX_CYCLE_NAMES + 1 else [*cycle[:MAX_CYCLE_NAMES], "...", cycle[0]]
        problems.append(Problem(f"jobs require each other in a cycle: {' requires '.join(names)}", f"{json_path}.jobs"))
        return []


def _keyword_arguments(group: JobGroup) -> dict[str, Any]:
    """Return the options of an entry or a whole graph as keyword arguments of the job or the scheduler."""
    options: dict[str, Any] = {}
    for name in group.__struct_fields__:
        value = getattr(group, name)
        if value is not UNSET and name not in ("name", "requires", "jobs", "command", "trioflow", "label"):
            options[name] = value
    if "pool" in options:
        options["pool"] = Pool(**options["pool"])
    return options


def _make_job(entry: JobEntry, jobs_by_name: dict[str, Any]) -> AbstractJob[Any]:
    """Create the job of an entry. The jobs that it requires must already be in `jobs_by_name`."""
    is_group = entry.jobs is not UNSET
    if is_group is (entry.command is not UNSET):
        both = "both a command and jobs" if is_group else "neither a command nor jobs"
        raise ValueError(f"{entry.name!r} has {both}: give one of them")
    options = _keyword_arguments(entry)
    if misplaced := sorted(options.keys() & (COMMAND_ONLY_FIELDS if is_group else GROUP_ONLY_FIELDS)):
        audience, kind = ("commands", "group") if is_group else ("groups", "command")
        raise ValueError(f"{misplaced[0]!r} is for {audience}, and {entry.name!r} is a {kind}")
    options |= {"label": entry.name, "required": [jobs_by_name[name] for name in entry.requires]}
    if is_group:
        return Scheduler(**options)
    for stream in ("stdin", "stdout", "stderr"):
        if isinstance(options.get(stream), OutputTarget):
            options[stream] = SUBPROCESS_CONSTANTS[options[stream].to]
        elif isinstance(options.get(stream), ResultReference):
            options[stream] = jobs_by_name[options[stream].result]
    options["reads"] = [
        Depfile(path.depfile, path.cwd) if isinstance(path, DepfileInput) else path for path in options.get("reads", ())
    ]
    options["writes"] = [
        OptionalFile(path.optional) if isinstance(path, OptionalOutput) else path for path in options.get("writes", ())
    ]
    if isinstance(entry.command, str):
        return CommandJob(entry.command, shell=True, **options)
    assert isinstance(entry.command, list)
    return CommandJob(
        [
            jobs_by_name[argument.result] if isinstance(argument, ResultReference) else argument
            for argument in entry.command
        ],
        **options,
    )
