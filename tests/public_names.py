"""What users can write, and what their programs can read: all public names with their members and signatures, commands,
columns, fields, keys and files, as lines of text. A line about a name that is not promised yet ends in `# provisional`,
as its docstring or its help says.

All is found in the code. `python -m tests.public_names` brings `public_names.txt` up to date, which a test compares: a
change of these lines is a change for users."""

import ast
import contextlib
import dataclasses
import enum
import importlib
import inspect
import pkgutil
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, is_typeddict
import anyio
import click
import trioflow
from trioflow import Answer, Job, Pool, Scheduler, cli
from trioflow._hints import MissingAttribute
from trioflow.batch._record_files import CsvFormat, JoblogFormat
from trioflow.cli._commands import command
from trioflow.cli._journal import record_facts
from trioflow.cli._look import command as look_command
from trioflow.journal import _store
from trioflow.simulation import _duration_sources
from trioflow.testing import run_virtual
from trioflow.view import save
from trioflow.view.events import _format
from trioflow.view.look import _process_record
from trioflow.view.trace import _trace_file, _trace_record
from .places import PACKAGE

FILE = Path(__file__).with_name("public_names.txt")
FOUND = [
    each.name
    for each in pkgutil.walk_packages(trioflow.__path__, "trioflow.")
    if "._" not in each.name
]
MODULES = (
    "trioflow",
    *(
        name
        for name in FOUND
        if {"__all__", "__dir__"} & vars(importlib.import_module(name)).keys()
        and not name.startswith("trioflow.compat.")
    ),
)
"""The modules that say which of their names are public. Those of `compat` are names of older libraries."""
PROVISIONAL = "  # provisional"
MARK = re.compile(
    r"^ *\*?Provisional\*?: a minor release may change it\.$|\(provisional\)",
    re.MULTILINE,
)
"""What a docstring, or the help of a command or an option, says of a name that is not promised yet."""
TRACE_MARK = "*Provisional*: the columns and keys of traces."
"""What `trioflow.view.save` says of its files."""
VARIABLE = re.compile(r"\bTRIOFLOW_[A-Z]+\b")


def lines() -> Iterator[str]:
    """Yield a line for each public name, and for each member of a class; then all else that a program can rely on."""
    for module in map(importlib.import_module, MODULES):
        for name in public(module):
            lines_of_name = described(
                f"{module.__name__}.{name}", getattr(module, name)
            )
            if is_marked_by_module(module, name):
                lines_of_name = (line + PROVISIONAL for line in lines_of_name)
            yield from lines_of_name
    yield from command_lines(command, "trioflow")
    yield from (
        f"exit code {name} = {value}"
        for name, value in vars(cli).items()
        if name.endswith("_CODE")
    )
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    yield from (
        f"environment {name}"
        for name in sorted({*VARIABLE.findall("\n".join(sources))})
    )
    yield from files()


def files() -> Iterator[str]:
    """Yield lines about each file and stream for programs: its version, and its columns, fields or keys."""
    for event in _format.Event.__subclasses__():
        yield f"event {event.__struct_config__.tag}: {', '.join(event.__struct_fields__)}"
    of_traces = PROVISIONAL if TRACE_MARK in (save.__doc__ or "") else ""
    yield f"trace {_trace_file.FORMAT_VERSION}{of_traces}"
    for kind in dict.fromkeys(record_types(_trace_record.TraceRecord)):
        yield f"    {kind.__name__}: {', '.join(field_names(kind))}"
    yield f"columns of a trace: {', '.join(_trace_file.CSV_FIELDS)}{of_traces}"
    yield f"columns of a batch: {(CsvFormat().header([]) or b'').decode().strip()}"
    yield f"columns of a job log: {', '.join(JoblogFormat.start.decode().split())}"
    yield f"durations {_duration_sources.FORMAT_VERSION}: {_duration_sources.VERSION_KEY}, seconds"
    yield f"journal {_store.FORMAT_VERSION}"
    yield from (f"    {statement}" for statement in _store.SCHEMA_STATEMENTS)
    record = _store.StoredJob("a", "", None, None, None, None, 1, None, 1.0, 1.0, None)
    yield f"trioflow journal show: {', '.join(record_facts(record, []))}"
    (is_json,) = (
        parameter for parameter in look_command.params if parameter.name == "is_json"
    )
    yield f"trioflow look --json {_process_record.SCHEMA_VERSION}{mark(help_of(is_json))}"
    yield from (f"    {key}" for key in sorted({*keys(looked_at())}))


def field_names(kind: Any) -> list[str]:
    names = [*getattr(kind, "_fields", ())] or [
        field.name for field in dataclasses.fields(kind)
    ]
    return [name for name in names if name not in _trace_file.LIVE_FIELDS]


def record_types(kind: Any) -> Iterator[Any]:
    """Yield a type of records, and those of its fields, at any depth."""
    if getattr(kind, "_fields", None) or (
        isinstance(kind, type) and dataclasses.is_dataclass(kind)
    ):
        yield kind
        hints = typing.get_type_hints(kind)
        for name in field_names(kind):
            yield from record_types(hints[name])
    for argument in get_args(kind):
        yield from record_types(argument)


def looked_at() -> Any:
    """Return what `trioflow look --json` shows of a run with jobs that run, ask, wait and have failed."""
    found: list[Any] = []

    async def fail() -> None:
        raise ValueError

    async def look() -> None:
        await anyio.sleep(1)
        scheduler.pause()
        found.append(_process_record.describe_process())
        scheduler.cancel()

    asks = Answer("go?", needs={"cpu": 1}, log=False)
    fails = Job(fail, critical=False)
    waits = Job(fail, needs={"cpu": 1})
    scheduler = Scheduler(
        asks, waits, fails, Job(look, required=fails), pool=Pool(cpu=1), log=False
    )
    run_virtual(scheduler.co_run)
    return found[0]


def keys(record: Any, prefix: str = "") -> Iterator[str]:
    """Yield the keys of JSON, those of a list's items after `[]`. Those of counts are states, and no keys."""
    if isinstance(record, Mapping):
        for key, value in record.items():
            yield f"{prefix}{key}"
            if key not in ("counts", "omitted"):
                yield from keys(value, f"{prefix}{key}.")
    elif isinstance(record, list):
        for item in record:
            yield from keys(item, f"{prefix.removesuffix('.')}[].")


def command_lines(of: click.Command, name: str) -> Iterator[str]:
    """Yield a line for each command, and for each of its options and arguments."""
    yield f"command {name}{mark(of.help)}"
    for parameter in of.params:
        words = [*parameter.opts, *parameter.secondary_opts]
        default = (
            ""
            if parameter.default in (None, False)
            or not parameter.opts[0].startswith("-")
            else parameter.default
        )
        shown_default = (
            f" = {default}" if isinstance(default, str | int) and default != "" else ""
        )
        yield f"    {', '.join(words)}{shown_default}{mark(help_of(parameter))}"
    if isinstance(of, click.Group):
        for each in of.list_commands(click.Context(of)):
            found = of.get_command(click.Context(of), each)
            assert found is not None
            yield from command_lines(found, f"{name} {each}")


def help_of(parameter: click.Parameter) -> str | None:
    return getattr(parameter, "help", None)


def mark(text: str | None) -> str:
    """Return what a line ends with, by the docstring or the help of its name, or of a parameter alone."""
    if MARK.search(text or ""):
        return PROVISIONAL
    parameters = ", ".join(marked_parameters(text or ""))
    return f"{PROVISIONAL}: {parameters}" if parameters else ""


def marked_parameters(docstring: str) -> Iterator[str]:
    """Yield the parameters that the Args of a docstring call provisional."""
    parameter = ""
    for line in inspect.cleandoc(docstring).splitlines():
        entry = re.match(r" {4}(\w+): ", line)
        if entry:
            parameter = entry[1]
        elif not line.startswith("    "):
            parameter = ""
        if parameter and "*Provisional*" in line:
            yield parameter


def is_marked_by_module(module: types.ModuleType, name: str) -> bool:
    """Return whether the docstring of a module calls a name provisional: a constant has no docstring of its own."""
    return f"*Provisional*: `{name}`" in (module.__doc__ or "")


def public(module: types.ModuleType) -> list[str]:
    names = getattr(module, "__all__", None) or [
        name for name in dir(module) if not name.startswith("_")
    ]
    return sorted(name for name in names if not inspect.ismodule(getattr(module, name)))


def described(name: str, thing: Any) -> Iterator[str]:
    """Yield the line of one name, and those of its members."""
    if get_origin(thing) is Literal:
        yield f"{name} = {get_args(thing)}"
        return
    if not isinstance(thing, type):
        if callable(thing):
            yield f"{name}{signature(thing)}{mark(thing.__doc__)}"
        else:
            yield f"{name} = {thing!r}"
        return
    if is_typeddict(thing):
        yield f"class {name}: {', '.join(sorted(thing.__required_keys__ | thing.__optional_keys__))}"
        return
    bases = [
        base.__name__
        for base in thing.__mro__[1:]
        if not is_private(base) and base is not object
    ]
    shown_bases = f" is a {', '.join(bases)}" if bases else ""
    yield f"class {name}{constructor(thing)}{shown_bases}{mark(thing.__doc__)}"
    by_class = {*marked_parameters(thing.__doc__ or "")}
    for member, value in sorted(members(thing).items()):
        own = (
            PROVISIONAL if member in by_class else mark(getattr(value, "__doc__", None))
        )
        yield f"    {member}{shown(value)}{own}"


def constructor(kind: type) -> str:
    """Return the signature of a class that users call: its docstring has the arguments, or an example. trioflow alone
    makes objects of the others: errors, results, spans, simulations. Their attributes are promised."""
    text, call = inspect.getdoc(kind) or "", signature(kind)
    is_called = (
        "Args:" in text
        or "Args:" in (kind.__init__.__doc__ or "")
        or f"{kind.__name__}(" in text
    )  # type: ignore[misc]
    return call if is_called or call == "()" else ""


def is_private(kind: type) -> bool:
    home = kind.__module__
    return home.startswith("trioflow") and (
        "._" in home or not hasattr(importlib.import_module(home), kind.__name__)
    )


def members(thing: type) -> dict[str, Any]:
    """Return the public members that a class defines itself, or inherits from a private base."""
    found: dict[str, Any] = {}
    for kind in thing.__mro__:
        if kind is thing or is_private(kind):
            own = {
                **dict.fromkeys(attributes(kind)),
                **dict.fromkeys(inspect.get_annotations(kind)),
                **vars(kind),
            }
            found = {**own, **found}
    return {
        name: value
        for name, value in found.items()
        if not name.startswith("_") and not isinstance(value, MissingAttribute)
    }


def attributes(kind: type) -> set[str]:
    """Return the attributes that the methods of a class set, such as those of an error."""
    methods: list[str] = []
    for each in filter(inspect.isfunction, vars(kind).values()):
        with contextlib.suppress(OSError):  # one of a dataclass, which has no source
            methods.append(inspect.getsource(each))
    nodes = [
        node
        for text in methods
        if "self." in text
        for node in ast.walk(ast.parse(textwrap.dedent(text)))
    ]
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "self"
    }


def shown(value: Any) -> str:
    """Return the part of a line that follows the name of a member."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, enum.Enum):
        return f" = {value.value!r}"
    return signature(value) if inspect.isfunction(value) else ""


def signature(thing: Any) -> str:
    """Return a signature without types, which are compared by type checkers."""
    if isinstance(thing, enum.EnumType):  # it is of Python's version
        return ""
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    given = [one.replace(annotation=one.empty) for one in found.parameters.values()]
    text = str(found.replace(parameters=given, return_annotation=found.empty))
    return text.replace(
        "NO_DEFAULT", "..."
    )  # a default that is told apart by what it is


if __name__ == "__main__":
    FILE.write_text("\n".join(lines()) + "\n", encoding="utf-8")
