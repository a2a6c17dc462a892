"""Graphs of commands in JSON, for `trioflow run graph.json`.

Programs in any language can write such files. A graph in JSON has neither Python functions nor services.

The classes below are the schema, against which msgspec validates the file. This module also checks what a schema
cannot express: duplicate keys, unknown names, cycles, and jobs that do not have the result another job uses. The first
fault is reported, with its job and its JSON path.
"""

from __future__ import annotations

import graphlib
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, NoReturn

import msgspec
from msgspec import UNSET, UnsetType

from .. import CommandJob, Depfile, JobTimeout, OptionalFile, Pool, Retry, Scheduler
from ..abc import AbstractJob, JobserverStyle, OnTimeout, PolicyName, RunIf, fit, printable
from ..jobs.command._spawn_options import LeftoversOption, PinOption
from ._suggestions import nearest_name

FORMAT_VERSION: Final = 1
SCHEMA_FILE: Final = Path(__file__).with_name("graph.schema.json")
SUBPROCESS_CONSTANTS: Final = {"PIPE": subprocess.PIPE, "DEVNULL": subprocess.DEVNULL, "STDOUT": subprocess.STDOUT}
MAX_CYCLE_NAMES: Final = 8
MAX_ERROR_LENGTH: Final = 400
"""The maximum number of characters of an error, which may contain a long value of the file."""
MAX_SUGGESTION_NAMES: Final = 2_000
"""The maximum number of names to search for a suggestion. Searching more names would take seconds."""

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


class RetryEntry(StrictStruct):
    """The arguments of a `Retry`; `times` is null for no limit."""

    times: NonNegativeInt | None
    first: Seconds | UnsetType = UNSET
    factor: Annotated[float, msgspec.Meta(ge=1)] | UnsetType = UNSET
    cap: Seconds | UnsetType = UNSET
    jitter: bool | UnsetType = UNSET
    on: Literal["failure", "timeout"] = "failure"


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
    retry: NonNegativeInt | RetryEntry | UnsetType = UNSET
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
    jobs: list[JobEntry]  # pyright: ignore  # a graph has to have jobs
    label: str | UnsetType = UNSET


class GraphHeader(msgspec.Struct):
    """The part of a graph that all versions of the format share."""

    trioflow: int


GROUP_ONLY_FIELDS: Final = frozenset(JobGroup.__struct_fields__) - {"timeout", "idle_timeout"}
COMMAND_ONLY_FIELDS: Final = frozenset(JobEntry.__struct_fields__[JobEntry.__struct_fields__.index("command") :])


# ---- reading


class BadGraph(ValueError):
    """The file is not a valid graph of commands.

    Args:
        text: the fault.
        json_path: its place in the file, e.g. `$.jobs[0].command`; "" if it is unknown.
        job_path: the path of the job, e.g. `build/link`; "" if the fault is in the graph itself.

    """

    def __init__(self, text: str, json_path: str = "", job_path: str = "") -> None:
        named = f"{job_path!r}: " if job_path and repr(job_path) not in text else ""
        text = fit(named + text, MAX_ERROR_LENGTH)
        super().__init__(printable(text + (f" - at `{json_path}`" if json_path else "")))


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
        return f"{self.json_path}.jobs[{number}]"

    def entry_error(self, number: int, text: str) -> BadGraph:
        return BadGraph(text, self.entry_json_path(number), self.path_prefix + self.entries[number].name)


def read_graph_file(path: Path) -> Scheduler:
    """Read a graph in JSON, and return its scheduler.

    Raises:
        OSError: the file cannot be read.
        BadGraph: the file is not a valid graph.

    """
    data = path.read_bytes()
    try:
        graph = _parse_graph(data)
    except RecursionError:
        raise BadGraph("groups are nested too deeply") from None
    label = path.stem if graph.label is UNSET else graph.label
    try:
        scheduler = Scheduler(label=label, **_keyword_arguments(graph))
    except (TypeError, ValueError) as error:
        raise BadGraph(str(error), "$") from None
    groups: dict[str, Scheduler] = {"$": scheduler}
    for parsed_group in _iterate_groups(graph):  # enclosing groups come before nested ones
        _add_jobs(groups, parsed_group)
    return scheduler


def _parse_graph(data: bytes) -> Graph:
    try:
        version = msgspec.json.decode(data, type=GraphHeader).trioflow
        if version != FORMAT_VERSION:
            text = f"its format version is {version}, but this trioflow reads version {FORMAT_VERSION}"
            raise BadGraph(text, "$.trioflow")
        graph = msgspec.json.decode(data, type=Graph)
        json.loads(data, object_pairs_hook=_reject_duplicate_keys)
    except msgspec.ValidationError as error:
        text, _, json_path = str(error).partition(" - at `")
        json_path = json_path.rstrip("`") or "$"
        entries = _find_entries(msgspec.json.decode(data), json_path)
        if any(entry.get("redact") for _, entry in entries):
            text = re.sub("(?<=^Invalid enum value) .*", "", text, flags=re.DOTALL)  # the only message with the value
        raise BadGraph(text, json_path, "/".join(str(entry.get("name", index)) for index, entry in entries)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadGraph(f"it is not JSON: {error}") from None
    return graph


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> None:
    """Reject an object with duplicate keys, of which a JSON parser silently chooses one."""
    keys: set[str] = set()
    for key, _ in pairs:
        if key in keys:
            name = next((value for field, value in pairs if field == "name"), "")
            raise BadGraph(f"the field {key!r} occurs more than once: keep one", job_path=str(name))
        keys.add(key)


def _find_entries(document: Any, json_path: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the entries of the jobs that contain a place in a file, from the outermost one, each with its index."""
    entries: list[tuple[str, dict[str, Any]]] = []
    for index in re.findall(r"\.jobs\[(\d+)\]", json_path):
        entry: Any = document["jobs"][int(index)]
        candidate: object = entry
        if not isinstance(candidate, dict):
            break
        entries.append((index, entry))
        document = entry
    return entries


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


def _add_jobs(groups: dict[str, Scheduler], parsed_group: ParsedGroup) -> None:
    """Create the jobs of a group in topological order, and add them to its scheduler in the order of the file."""
    jobs_by_name: dict[str, Any] = {}
    for index in _order_entries(parsed_group):
        entry = parsed_group.entries[index]
        try:
            job: Any = _make_job(entry, jobs_by_name)
        except (TypeError, ValueError) as error:
            raise parsed_group.entry_error(index, str(error)) from None
        jobs_by_name[entry.name] = job
        if entry.jobs is not UNSET:
            groups[parsed_group.entry_json_path(index)] = job
    groups[parsed_group.json_path].update([jobs_by_name[entry.name] for entry in parsed_group.entries])


def _order_entries(parsed_group: ParsedGroup) -> list[int]:
    """Return the indices of a group's entries in topological order.

    Raises:
        BadGraph: a name occurs twice or is unknown, a result that a job uses is missing, or there is a cycle.

    """
    entries = parsed_group.entries
    indices: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if entry.name in indices:
            raise parsed_group.entry_error(index, f"two jobs are called {entry.name!r}")
        indices[entry.name] = index
    requirements_by_name: dict[str, list[str]] = {}
    for index, entry in enumerate(entries):
        sources = _result_sources(entry)
        requirements_by_name[entry.name] = names = [*dict.fromkeys((*entry.requires, *sources))]
        for name in names:
            if name not in indices:
                text = f"{entry.name!r} requires {name!r}, which is not among the jobs of the same list"
                raise parsed_group.entry_error(index, text + _did_you_mean(name, indices))
        for name in sources:
            if reason := _missing_result_reason(entries[indices[name]]):
                raise parsed_group.entry_error(index, f"{entry.name!r} uses the result of {name!r}, {reason}")
    try:
        return [indices[name] for name in graphlib.TopologicalSorter(requirements_by_name).static_order()]
    except graphlib.CycleError as error:
        _reject_cycle(error.args[1][::-1], parsed_group)


def _reject_cycle(cycle: list[str], parsed_group: ParsedGroup) -> NoReturn:
    names = cycle if len(cycle) <= MAX_CYCLE_NAMES + 1 else [*cycle[:MAX_CYCLE_NAMES], "...", cycle[0]]
    raise BadGraph(
        f"jobs require each other in a cycle: {' requires '.join(names)}", f"{parsed_group.json_path}.jobs"
    ) from None


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the hint "; do you mean ...?" for an unknown name; "" if no name is similar, or if there are too many."""
    names = list(known)
    near = nearest_name(name, names) if len(names) <= MAX_SUGGESTION_NAMES else None
    return f"; do you mean {near!r}?" if near else ""


def _missing_result_reason(entry: JobEntry) -> str:
    """Return why other jobs cannot use the result of a job, and the remedy; "" if they can use it."""
    if entry.jobs is not UNSET:
        return "which is a group and has none"
    if isinstance(entry.stdout, OutputTarget) and entry.stdout.to == "PIPE":
        return ""
    return 'whose output is not captured: give that job "stdout": {"to": "PIPE"}'


def _result_sources(entry: JobEntry) -> list[str]:
    arguments = entry.command if isinstance(entry.command, list) else ()
    return [argument.result for argument in (*arguments, entry.stdin) if isinstance(argument, ResultReference)]


def _keyword_arguments(group: JobGroup) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in group.__struct_fields__:
        value = getattr(group, name)
        if value is not UNSET and name not in ("name", "requires", "jobs", "command", "trioflow", "label"):
            options[name] = value
    if isinstance(retry := options.get("retry"), RetryEntry):
        pauses = {name: getattr(retry, name) for name in ("first", "factor", "cap", "jitter")}
        options["retry"] = Retry(
            retry.times,
            on=JobTimeout if retry.on == "timeout" else Exception,
            **{name: value for name, value in pauses.items() if value is not UNSET},
        )
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
