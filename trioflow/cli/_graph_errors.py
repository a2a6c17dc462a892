"""What is wrong with a graph in JSON: each problem with its job and its place, in the words of somebody who wrote JSON.

`parsed` reads the text, and notes names that stand twice in an object. `wrong_value` and `unknown_field` say what does
not fit. `said` puts all problems into one text; problems that are the same for several jobs are told once.
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
from ..view.text._verdict import listed
from ._suggestions import nearest

if TYPE_CHECKING:
    from typing_extensions import TypeIs

LONGEST: Final = 400
"""Characters of a problem's text: a value in it may be as long as the file."""
MOST: Final = 20
"""Problems that are shown; the others are counted."""
NAMED: Final = 5
"""Jobs that are named where several have the same problem."""
MANY: Final = 2_000
"""Among more names than these, none is looked for that is like a wrong one: that takes seconds."""
WORDS: Final = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}
"""msgspec's names for what JSON has, and JSON's own."""
MEANT: Final = {
    "label": "name", "cmd": "command", "args": "command", "argv": "command", "depends": "requires",
    "depends_on": "requires", "deps": "requires", "after": "requires", "dir": "cwd", "workdir": "cwd",
    "environment": "env", "inputs": "reads", "outputs": "writes", "retries": "retry", "pools": "pool",
}  # fmt: skip
"""Fields by the names that they have elsewhere."""
HINTS: Final = (
    (re.compile(r"(?:pool=)?\bPool\((\w+)=([^()]*)\)"), r'pool={"\1": \2}'),
    (re.compile(r"=subprocess\.(PIPE|DEVNULL|STDOUT)\b"), r'={"to": "\1"}'),
    (re.compile(r"\b([a-z_]+)='([\w-]*)'"), r'\1="\2"'),
    (re.compile(r"=True\b"), "=true"),
    (re.compile(r"=False\b"), "=false"),
    (re.compile(r"=None\b"), "=null"),
)
"""How values of Python are written in JSON, in hints that are made for keyword arguments."""


class BadGraph(ValueError):
    """What is in a file is not a graph of commands; the text says where, and why."""


class Problem(NamedTuple):
    """Something that is wrong."""

    text: str
    place: str
    job: str = ""
    """The path of the job, by names; empty for the graph itself."""

    def __str__(self) -> str:
        """Return what is shown of it alone."""
        text = self.text if len(self.text) <= LONGEST else f"{self.text[: LONGEST - 1]}…"
        named = f"{self.job!r}: " if self.job and repr(self.job) not in text else ""
        return f"{named}{text} - at `{self.place}`"


def said(problems: Sequence[Problem]) -> str:
    """Return a text that tells all problems, each kind once, in lines of their own if there are several."""
    groups: dict[str, list[Problem]] = {}
    for one in problems:
        own_name = repr(one.job.rpartition("/")[2])
        groups.setdefault(one.text.replace(repr(one.job), "''").replace(own_name, "''"), []).append(one)
    lines = [printable(_line(alike)) for alike in groups.values()]
    if len(lines) == 1:
        return lines[0]
    more = [f"and {len(lines) - MOST} more"] if len(lines) > MOST else []
    return "\n  ".join([f"{len(lines)} things are wrong", *lines[:MOST], *more])


def _line(alike: list[Problem]) -> str:
    first, *others = alike
    names = listed([repr(one.job) for one in others], NAMED)
    return f"{first}; the same of {names}" if others else str(first)


# ---- the text


class DuplicateKeys(dict[str, Any]):
    """An object in which a name stands twice."""

    names: list[str]


def parsed(data: bytes) -> tuple[Any, bool]:
    """Return what JSON stands in a file, and whether no name stands twice in any object of it.

    Raises:
        BadGraph: it is not JSON.
        RecursionError: it is nested too deep.

    """
    doubled = False

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal doubled
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        doubled = True
        found = DuplicateKeys(found)
        found.names = sorted(name for name, number in Counter(name for name, _ in pairs).items() if number > 1)
        return found

    try:
        found = json.loads(data, object_pairs_hook=made, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise BadGraph(f"it is not UTF-8: {error}") from None
    except json.JSONDecodeError as error:
        raise BadGraph(f"it is not JSON: {error}") from None
    if b"\\u" in data:
        try:
            msgspec.json.decode(data)
        except msgspec.DecodeError:
            raise BadGraph("a text in it has half of a character, by \\u with a surrogate") from None
    return found, not doubled


def _refuse_constant(name: str) -> NoReturn:
    raise BadGraph(f"it is not JSON: {name} is not a number there")


# ---- the shape


def wrong_value(value: Any, kind: Any, place: str, job: str) -> Iterator[Problem]:
    """Yield what is wrong with a value that should be of a type that msgspec knows."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, inside = str(error).partition(" - at `$")
        where = place + inside.rstrip("`")
        (own,), parts = msgspec.json.schema_components([kind])
        if text.startswith("Invalid enum value "):
            choices = [one for found in _all([own, parts], "enum") for one in found]
            text = f"{text.removeprefix('Invalid enum value ')} is not one of {_quoted(choices)}"
        elif text.startswith("Object contains unknown field "):
            known = [one for found in _all([own, parts], "properties") for one in found]
            text = f"there is no field {text.split('`')[1]!r}; there is {_quoted(known)}"
        yield Problem(re.sub(r"`[^`]+`", _in_words, text), where, job)
    for found in _inside(value):
        if isinstance(found, DuplicateKeys):
            yield from twice(found, place, job)


def unknown_field(name: str, known: Iterable[str], place: str, job: str) -> Problem:
    """Return the problem of a field that nobody knows."""
    near = MEANT.get(name.lower()) or _nearest_field(name, tuple(known))
    return Problem(f"there is no field {name!r}" + (f"; do you mean {near!r}?" if near else ""), place, job)


@functools.cache  # one mistake is often that of many jobs
def _nearest_field(name: str, known: tuple[str, ...]) -> str | None:
    return nearest(name, known)


def twice(found: DuplicateKeys, place: str, job: str) -> Iterator[Problem]:
    """Yield a problem for each name that stands twice."""
    for name in found.names:
        yield Problem(f"the field {name!r} is there twice: leave one out", place, job)


def _in_words(found: re.Match[str]) -> str:
    return re.sub(r"\w+", lambda word: WORDS.get(word[0], word[0]), found[0])


def _quoted(choices: Iterable[Any]) -> str:
    return ", ".join(f'"{one}"' for one in choices)


def _all(schema: Any, key: str) -> Iterator[Any]:
    """Yield all values of a key, however deep."""
    for one in _inside(schema):
        if is_object(one) and key in one:
            yield one[key]


def is_object(value: Any) -> TypeIs[dict[str, Any]]:
    """Return whether a value is an object of JSON."""
    return isinstance(value, dict)


def is_list(value: Any) -> TypeIs[list[Any]]:
    """Return whether a value is a list of JSON."""
    return isinstance(value, list)


def _inside(value: Any) -> Iterator[Any]:
    """Yield a value, and all that is in its lists and objects."""
    todo = [value]
    while todo:
        one = todo.pop()
        yield one
        if is_object(one):
            todo += one.values()
        elif is_list(one):
            todo += one


# ---- names, and hints


def like(name: str, names: Iterable[str]) -> str:
    """Return what to ask about a name that is not there: whether one like it is meant."""
    names = list(names)
    near = nearest(name, names) if len(names) <= MANY else None
    return f"; do you mean {near!r}?" if near else ""


def in_json(text: str, fields: Iterable[str]) -> str:
    """Return an error of trioflow with its hints, which are in Python, in JSON.

    Example:
        >>> in_json("nothing is restarted; give on_timeout='restart'; or no restarts=", ["on_timeout", "restarts"])
        'nothing is restarted; give "on_timeout": "restart"; or no "restarts"'

    """
    for pattern, instead in HINTS:
        text = pattern.sub(instead, text)
    return re.sub(rf"\b({'|'.join(fields)})=(\S?)", lambda found: f'"{found[1]}"{_then(found[2])}', text)


def _then(first: str) -> str:
    """Return what stands between a field's name and the first character of its value, if that is one."""
    return f": {first}" if re.match(r"[\w\"{\[(-]", first) else first
