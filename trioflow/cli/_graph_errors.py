"""Errors in a graph in JSON: each problem with its job and its place, in JSON's names of types.

`parse_json` reads the text, and marks objects with duplicate keys. `wrong_value` and `unknown_field` find problems.
`format_problems` makes one text of all problems; a problem that several jobs share is printed once.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import msgspec

from ..abc import printable
from ..view.text._verdict import join_names
from ._suggestions import nearest

if TYPE_CHECKING:
    from typing_extensions import TypeIs

MAX_LENGTH: Final = 400
"""Characters kept of a problem's text: a value in it may be as long as the file."""
MAX_PROBLEMS: Final = 20
"""The number of problems that are shown; the others are counted."""
MAX_NAMED: Final = 5
"""The number of jobs named in a problem that several share."""
MAX_TO_SEARCH: Final = 2_000
"""The number of names above which there are no suggestions: the search takes seconds."""
WORDS: Final = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}
"""msgspec's names of JSON's types, and JSON's own."""
FIELDS_OF_OTHER_TOOLS: Final = {
    "label": "name", "cmd": "command", "args": "command", "argv": "command", "depends": "requires",
    "depends_on": "requires", "deps": "requires", "after": "requires", "dir": "cwd", "workdir": "cwd",
    "environment": "env", "inputs": "reads", "outputs": "writes", "retries": "retry", "pools": "pool",
}  # fmt: skip
"""The names of fields in other tools, each with its name here."""


class BadGraph(ValueError):
    """A file is not a valid graph of commands; the text says where, and why."""


class Problem(NamedTuple):
    """A problem in the file."""

    text: str
    place: str
    job: str = ""
    """The path of the job, by names; empty for the graph itself."""

    def __str__(self) -> str:
        """Return the text of this problem alone."""
        text = self.text if len(self.text) <= MAX_LENGTH else f"{self.text[: MAX_LENGTH - 1]}…"
        named = f"{self.job!r}: " if self.job and repr(self.job) not in text else ""
        return f"{named}{text} - at `{self.place}`"


def format_problems(problems: Sequence[Problem]) -> str:
    """Return the text of all problems, each kind once; several are on lines of their own."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        own_name = repr(problem.job.rpartition("/")[2])
        groups.setdefault(problem.text.replace(repr(problem.job), "''").replace(own_name, "''"), []).append(problem)
    lines = [printable(_line(alike)) for alike in groups.values()]
    if len(lines) == 1:
        return lines[0]
    more = [f"and {len(lines) - MAX_PROBLEMS} more"] if len(lines) > MAX_PROBLEMS else []
    return "\n  ".join([f"{len(lines)} things are wrong", *lines[:MAX_PROBLEMS], *more])


def _line(alike: list[Problem]) -> str:
    first, *others = alike
    names = join_names([repr(problem.job) for problem in others], MAX_NAMED)
    return f"{first}; the same of {names}" if others else str(first)


# ---- the text


class DuplicateKeys(dict[str, Any]):
    """A JSON object with duplicate keys."""

    names: list[str]


def parse_json(data: bytes) -> tuple[Any, bool]:
    """Parse a file's JSON, and return whether no object in it has duplicate keys.

    Raises:
        BadGraph: it is not JSON.
        RecursionError: it is nested too deep.

    """
    doubled = False

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal doubled
        mapping = dict(pairs)
        if len(mapping) == len(pairs):
            return mapping
        doubled = True
        mapping = DuplicateKeys(mapping)
        mapping.names = sorted(name for name, number in Counter(name for name, _ in pairs).items() if number > 1)
        return mapping

    try:
        mapping = json.loads(data, object_pairs_hook=made, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise BadGraph(f"it is not UTF-8: {error}") from None
    except json.JSONDecodeError as error:
        raise BadGraph(f"it is not JSON: {error}") from None
    if b"\\u" in data:
        try:
            msgspec.json.decode(data)
        except msgspec.DecodeError:
            raise BadGraph("a text in it has half of a character, by \\u with a surrogate") from None
    return mapping, not doubled


def _refuse_constant(name: str) -> NoReturn:
    raise BadGraph(f"it is not JSON: {name} is not a number there")


# ---- the shape


def wrong_value(value: Any, kind: Any, place: str, job: str) -> Iterator[Problem]:
    """Yield the problems of a value that should have a type that msgspec supports."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, inside = str(error).partition(" - at `$")
        where = place + inside.rstrip("`")
        (own,), parts = msgspec.json.schema_components([kind])
        if text.startswith("Invalid enum value "):
            choices = [value for entry in _values_of_key([own, parts], "enum") for value in entry]
            text = f"{text.removeprefix('Invalid enum value ')} is not one of {_quote_choices(choices)}"
        elif text.startswith("Object contains unknown field "):
            known = [value for entry in _values_of_key([own, parts], "properties") for value in entry]
            text = f"there is no field {text.split('`')[1]!r}; there is {_quote_choices(known)}"
        yield Problem(re.sub(r"`[^`]+`", _replace_types, text), where, job)
    for entry in _nested_values(value):
        if isinstance(entry, DuplicateKeys):
            yield from duplicate_keys(entry, place, job)


def unknown_field(name: str, known: Iterable[str], place: str, job: str) -> Problem:
    """Return the problem of an unknown field."""
    near = FIELDS_OF_OTHER_TOOLS.get(name.lower()) or _nearest_field(name, tuple(known))
    return Problem(f"there is no field {name!r}" + (f"; do you mean {near!r}?" if near else ""), place, job)


@functools.cache  # many jobs often share a mistake
def _nearest_field(name: str, known: tuple[str, ...]) -> str | None:
    return nearest(name, known)


def duplicate_keys(duplicates: DuplicateKeys, place: str, job: str) -> Iterator[Problem]:
    """Yield a problem for each duplicate key."""
    for name in duplicates.names:
        yield Problem(f"the field {name!r} is there twice: leave one out", place, job)


def _replace_types(match: re.Match[str]) -> str:
    return re.sub(r"\w+", lambda word: WORDS.get(word[0], word[0]), match[0])


def _quote_choices(choices: Iterable[Any]) -> str:
    return ", ".join(f'"{choice}"' for choice in choices)


def _values_of_key(schema: Any, key: str) -> Iterator[Any]:
    """Yield all values of a key, at any depth."""
    for one in _nested_values(schema):
        if is_object(one) and key in one:
            yield one[key]


def is_object(value: Any) -> TypeIs[dict[str, Any]]:
    """Return whether a value is a JSON object."""
    return isinstance(value, dict)


def is_list(value: Any) -> TypeIs[list[Any]]:
    """Return whether a value is a JSON list."""
    return isinstance(value, list)


def _nested_values(value: Any) -> Iterator[Any]:
    """Yield a value, and all values nested in it."""
    todo = [value]
    while todo:
        one = todo.pop()
        yield one
        if is_object(one):
            todo += one.values()
        elif is_list(one):
            todo += one


# ---- names


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a suggestion for an unknown name."""
    names = list(names)
    near = nearest(name, names) if len(names) <= MAX_TO_SEARCH else None
    return f"; do you mean {near!r}?" if near else ""
