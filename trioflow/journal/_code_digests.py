"""Digests of the code of functions, which tell whether it has changed since an earlier run.

A digest is computed from the syntax tree of a function, without decorators and docstring: layout, comments, line
numbers, the name of the file and `-O` do not count. (Bytecode depends on layout: on Python 3.13, 5 % of functions have
other bytecode once their file is formatted anew.) Functions that it calls do not count either.

The constants of modules count that the function or a default of it reads, such as a prompt: names of its own module, or
of one that it imports, whose values are numbers, texts, bytes, None, or tuples and frozensets of these. What counts is
the text of the assignment, with that of the constants in it, and not the value, which may be the time or an environment
variable.

The text is the one that was loaded, where that is known, so a reload changes the digests of what it has mended.
Otherwise, a function has no digest if its source is not found, or if its file is newer than this program, which may
then run other code. Digests of another version of Python, whose syntax trees may differ, are not compared.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import functools
import importlib.util
import inspect
import itertools
import linecache
import os
import sys
from collections.abc import Iterable, Iterator
from types import CodeType, ModuleType
from typing import Any, Final, NamedTuple

from .. import _loaded_files
from .._core.base._user_code import STARTED_AT
from ._serialization import digest

PYTHON_VERSION: Final = f"{sys.version_info[0]}.{sys.version_info[1]}"
_known: Final[dict[tuple[str, CodeType, bytes | None], str]] = {}
"""Digests, since many jobs have one function. Only the text of its file, and a reload, can change them."""
MAX_KNOWN: Final = 1000
ATOMS: Final = (int, float, complex, str, bytes, bool, type(None))
MAX_CONSTANTS: Final = 50
MAX_ITEMS: Final = 100
"""How many constants of a function count, and of how many of their items the types are looked at."""


def code_digest(function: Any) -> str | None:
    """Return the version of Python, the digest of a function, and that of each constant that it reads, or None."""
    code = function.__code__
    key = code.co_filename, code, _loaded_files.text_of(code.co_filename)
    if (known := _known.get(key)) is None:
        definition = _definition(code, key[-1])
        names = _names_read(code) | definition.names
        constants = (
            f"{name}:{value}"
            for name, value in _constants(
                code, names, getattr(function, "__globals__", {})
            )
        )
        found = definition.digest
        known = ""
        if found:
            known = " ".join(
                [PYTHON_VERSION, found, *itertools.islice(constants, MAX_CONSTANTS)]
            )
        if len(_known) > MAX_KNOWN:
            _known.clear()
        _known[key] = known
    return known or None


def find_change(before: str | None, now: str | None) -> str | None:
    """Return the names of the constants that differ, separated by commas, "" for another code, or None for no change.

    It is not known without both digests, and of two versions of Python. A constant counts if both have read it.
    """
    if before is None or now is None or before == now:
        return None
    if before.partition(" ")[0] != PYTHON_VERSION:
        return None
    _, code_before, *constants_before = before.split(" ")
    _, code, *constants = now.split(" ")
    if code != code_before:
        return ""
    earlier = dict(each.split(":") for each in constants_before)
    changed: list[str] = []
    for each in constants:
        name, value = each.split(":")
        if earlier.get(name, value) != value:
            changed.append(name)
    return ", ".join(changed) or None


def executing_codes() -> set[Any]:
    """Return the code of all functions that the threads of this program are executing."""
    frames: list[Any] = [*sys._current_frames().values()]
    for frame in frames:
        if frame.f_back is not None:
            frames.append(frame.f_back)
    return {frame.f_code for frame in frames}


def _constants(
    code: CodeType, names: Iterable[str], namespace: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield each constant of a module among these names, as it is named there, with the digest of its assignment."""
    for dotted in names:
        *modules, name = dotted.split(".")
        file = code.co_filename
        module = namespace
        for each in modules:
            value = module.get(each)
            if type(value) is not ModuleType:
                module = {}
                break
            module = vars(value)
            file = getattr(value, "__file__", None) or ""
        if name in module and _is_constant(module[name]):
            package = module.get("__package__") or ""
            text = _loaded_files.text_of(file)
            found = "".join(_assignments(file, text, name, package))
            if found:
                yield dotted, digest(found.encode(errors="backslashreplace"))[:12]


def _is_constant(value: object) -> bool:
    if type(value) in (tuple, frozenset):
        items: Any = value
        return all(map(_is_constant, [*items][:MAX_ITEMS]))
    return type(value) in ATOMS


@functools.lru_cache(1000)
def _names_read(code: CodeType) -> dict[str, None]:
    """Return the global names that code and the code in it read, also with the attributes of each that they read."""
    found: dict[str, None] = {}
    codes = [code]
    for each in codes:
        codes += [
            constant for constant in each.co_consts if isinstance(constant, CodeType)
        ]
        name = ""
        for instruction in dis.get_instructions(each):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                name = str(instruction.argval)
                found[name] = None
            elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and name:
                name = f"{name}.{instruction.argval}"
                found[name] = None
            else:
                name = ""
    return found


class Assignment(NamedTuple):
    """A statement at the top of a module that gives a name its value."""

    tree: str
    names: tuple[str, ...]
    """The names in it."""
    source: str = ""
    original: str = ""
    """The module from which the name is imported, and its name there, or "" if it is not."""


@functools.lru_cache(1000)
def _assignments(
    file: str, text: bytes | None, name: str, package: str
) -> tuple[str, ...]:
    """Return the syntax trees of the assignments to a name of a module, and to the names of the module in these.

    If the name is imported from another module, they are those of that module.
    """
    trees = list[str]()
    names = [name]
    statements = _statements(file, text)
    for each in names:
        for statement in statements.get(each, ()):
            trees.append(statement.tree)
            names += [
                other
                for other in statement.names
                if other in statements and other not in names
            ]
            if statement.source:
                with contextlib.suppress(Exception):  # it may be any object
                    origin: Any = sys.modules[
                        importlib.util.resolve_name(statement.source, package)
                    ]
                    trees += _assignments(
                        origin.__file__,
                        _loaded_files.text_of(origin.__file__),
                        statement.original,
                        origin.__package__ or "",
                    )
    return tuple(trees)


@functools.lru_cache(100)
def _statements(file: str, text: bytes | None) -> dict[str, list[Assignment]]:
    """Return the statements at the top of a module, as it was loaded, that give each name its value."""
    found: dict[str, list[Assignment]] = {}
    source: str | bytes = text or b""
    try:
        if text is None:
            if os.stat(file).st_mtime > STARTED_AT:
                return {}
            source = "".join(linecache.getlines(file))
        todo: list[Any] = [*ast.parse(source).body]
    except (OSError, ValueError, SyntaxError):
        return {}
    for statement in todo:
        if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
            names = tuple(dict.fromkeys(_names_in(statement)))
            assignment = Assignment(ast.dump(statement), names)
            targets: list[ast.expr] = []
            if isinstance(statement, ast.Assign):
                targets += statement.targets
            else:
                targets.append(statement.target)
            for target in targets:
                for name in _names_in(target):
                    found.setdefault(name, []).append(assignment)
        elif isinstance(statement, ast.ImportFrom):
            origin = "." * statement.level + (statement.module or "")
            for alias in statement.names:
                found.setdefault(alias.asname or alias.name, []).append(
                    Assignment("", (), origin, alias.name)
                )
        elif not isinstance(
            statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ):
            # The statements of an `if`, a `try` or a `with` are at the top, too.
            todo += [
                each
                for each in ast.iter_child_nodes(statement)
                if isinstance(each, ast.stmt | ast.excepthandler)
            ]
    return found


def _names_in(tree: ast.AST) -> Iterator[str]:
    return (node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


class Definition(NamedTuple):
    """The `def` of a function."""

    digest: str = ""
    """The digest of its parameters and its body, or "" if its source is not found."""
    names: dict[str, None] = {}  # noqa: RUF012 - a NamedTuple
    """The names in the defaults of its parameters: they are read where it is defined, not in its code."""


@functools.lru_cache(1000)
def _definition(code: Any, text: bytes | None) -> Definition:
    """Return the definition of code in the text that was loaded. Equal codes may have other defaults."""
    try:
        if text is not None:
            lines = _loaded_files.source_lines(text)[code.co_firstlineno - 1 :]
            source = "".join(inspect.getblock(lines))
        elif os.stat(code.co_filename).st_mtime > STARTED_AT:
            return Definition()
        else:
            source = inspect.getsource(code)
        if source[:1].isspace():
            source = f"if 1:\n{source}"
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError, UnicodeDecodeError):
        return Definition()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name == code.co_name
        ):
            body = node.body
            if ast.get_docstring(node, clean=False) is not None:
                body = body[1:]
            found = "".join(map(ast.dump, [node.args, *body]))
            return Definition(digest(found.encode()), _names_in_defaults(node.args))
    return Definition()


def _names_in_defaults(parameters: ast.arguments) -> dict[str, None]:
    found: dict[str, None] = {}
    for default in (*parameters.defaults, *parameters.kw_defaults):
        if default is None:
            # A parameter that is given by its name, and has no default.
            continue
        for each in ast.walk(default):
            if isinstance(each, ast.Name | ast.Attribute):
                found[ast.unparse(each)] = None
    return found
