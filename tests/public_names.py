"""What users can write: all public names, with their members and signatures, as lines of text.

`python -m tests.public_names` brings `public_names.txt` up to date, which a test compares: a change of these lines is a
change for users.
"""

from __future__ import annotations

import ast
import contextlib
import enum
import importlib
import inspect
import re
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, is_typeddict

import click

from trioflow._hints import MissingAttribute
from trioflow.batch._record_files import FACT_NAMES
from trioflow.cli._commands import command
from trioflow.view.trace._trace_file import CSV_FIELDS

FILE = Path(__file__).with_name("public_names.txt")

MODULES = (
    "trioflow", "trioflow.abc", "trioflow.dask", "trioflow.graph", "trioflow.look", "trioflow.otel", "trioflow.testing",
    "trioflow.view", "trioflow.compat.asynciojobs", "trioflow.compat.asynciojobs_classic", "trioflow.compat.pyexpool",
)  # fmt: skip


def lines() -> Iterator[str]:
    """Yield a line for each public name, and for each member of a class."""
    for module in map(importlib.import_module, MODULES):
        for name in public(module):
            yield from described(f"{module.__name__}.{name}", getattr(module, name))
    yield from command_lines(command, "trioflow")
    yield f"columns of a trace: {', '.join(CSV_FIELDS)}"
    yield f"columns of a batch: {', '.join(FACT_NAMES)}"


def command_lines(of: click.Command, name: str) -> Iterator[str]:
    """Yield a line for each command, and for each of its options and arguments."""
    yield f"command {name}"
    for parameter in of.params:
        words = [*parameter.opts, *parameter.secondary_opts]
        default = (
            "" if parameter.default in (None, False) or not parameter.opts[0].startswith("-") else parameter.default
        )
        yield f"    {', '.join(words)}" + (f" = {default}" if isinstance(default, str | int) and default != "" else "")
    if isinstance(of, click.Group):
        for each in of.list_commands(click.Context(of)):
            found = of.get_command(click.Context(of), each)
            assert found is not None
            yield from command_lines(found, f"{name} {each}")


def public(module: types.ModuleType) -> list[str]:
    """Return the public names of a module, in order."""
    names = getattr(module, "__all__", None) or [name for name in dir(module) if not name.startswith("_")]
    return sorted(name for name in names if not inspect.ismodule(getattr(module, name)))


def described(name: str, thing: Any) -> Iterator[str]:
    """Yield the line of one name, and those of its members."""
    if get_origin(thing) is Literal:
        yield f"{name} = {get_args(thing)}"
        return
    if not isinstance(thing, type):
        yield f"{name}{signature(thing)}" if callable(thing) else f"{name} = {thing!r}"
        return
    if is_typeddict(thing):
        yield f"class {name}: {', '.join(sorted(thing.__required_keys__ | thing.__optional_keys__))}"
        return
    bases = [base.__name__ for base in thing.__mro__[1:] if not is_private(base) and base is not object]
    yield f"class {name}{signature(thing)}" + (f" is a {', '.join(bases)}" if bases else "")
    for member, value in sorted(members(thing).items()):
        yield f"    {member}{shown(value)}"


def is_private(kind: type) -> bool:
    """Return whether a class is private."""
    return kind.__module__.startswith("trioflow.") and "._" in kind.__module__


def members(thing: type) -> dict[str, Any]:
    """Return the public members that a class defines itself, or inherits from a private base."""
    found: dict[str, Any] = {}
    for kind in thing.__mro__:
        if kind is thing or is_private(kind):
            own = {**dict.fromkeys(attributes(kind)), **dict.fromkeys(inspect.get_annotations(kind)), **vars(kind)}
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
    nodes = [node for text in methods if "self." in text for node in ast.walk(ast.parse(textwrap.dedent(text)))]
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
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
    return re.sub(r"<object object at \w+>", "...", text)  # a default that is told apart by what it is


if __name__ == "__main__":
    FILE.write_text("\n".join(lines()) + "\n", encoding="utf-8")
