"""Problems in graphs in JSON, each with its job and its JSON path.

`parse_json` parses the file, and marks objects with duplicate keys. `find_type_problems` and `unknown_field_problem`
describe values that do not fit the schema, and use JSON's names of types. `format_problems` merges the problems of
several jobs if their texts are equal except for the names of the jobs.
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
from ._suggestions import join_choices, nearest_name

if TYPE_CHECKING:
    from typing_extensions import TypeIs

MAX_PROBLEM_LENGTH: Final = 400
"""The maximum number of characters of a problem's text, which may contain a long value of the file."""
MAX_PROBLEMS: Final = 20
"""The maximum number of problems to show. Any further problems are only counted."""
MAX_NAMED_JOBS: Final = 5
"""The maximum number of jobs to name in a problem that several jobs share."""
MAX_SUGGESTION_NAMES: Final = 2_000
"""The maximum number of names to search for a suggestion. Searching more names would take seconds."""
TYPE_NOUNS: Final = {
    "int": "an integer", "float": "a number", "str": "a string", "bool": "a boolean", "array": "a list",
    "object": "an object",
}  # fmt: skip
"""Maps msgspec's name of each JSON type to a noun for messages."""
FOREIGN_FIELD_NAMES: Final = {
    "label": "name", "cmd": "command", "args": "command", "argv": "command", "depends": "requires",
    "depends_on": "requires", "deps": "requires", "after": "requires", "dir": "cwd", "workdir": "cwd",
    "environment": "env", "inputs": "reads", "outputs": "writes", "retries": "retry", "pools": "pool",
}  # fmt: skip
"""Maps names of fields in other tools to the names of the same fields in trioflow."""


class BadGraph(ValueError):
    """The file is not a valid graph of commands. The message lists the problems with their JSON paths."""


class Problem(NamedTuple):
    """A problem in the file.

    Attributes:
        text: the description of the problem.
        json_path: the place of the value in the file, e.g. `$.jobs[0].command`.

    """

    text: str
    json_path: str
    job_path: str = ""
    """The path of the job, e.g. `build/link`; "" if the problem is in the graph itself."""

    def __str__(self) -> str:
        """Return the job, the text and the JSON path."""
        text = self.text if len(self.text) <= MAX_PROBLEM_LENGTH else f"{self.text[: MAX_PROBLEM_LENGTH - 1]}…"
        named = f"{self.job_path!r}: " if self.job_path and repr(self.job_path) not in text else ""
        return f"{named}{text} - at `{self.json_path}`"


def format_problems(problems: Sequence[Problem]) -> str:
    """Return a text that lists the problems, one per line. Problems that differ only in the names of jobs share a line.

    If there are more than `MAX_PROBLEMS` lines, only the number of further lines is given.
    """
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        own_name = repr(problem.job_path.rpartition("/")[2])
        groups.setdefault(problem.text.replace(repr(problem.job_path), "''").replace(own_name, "''"), []).append(
            problem
        )
    lines = [printable(_format_group(group)) for group in groups.values()]
    if len(lines) == 1:
        return lines[0]
    more = [f"and {len(lines) - MAX_PROBLEMS} more"] if len(lines) > MAX_PROBLEMS else []
    return "\n  ".join([f"{len(lines)} problems", *lines[:MAX_PROBLEMS], *more])


def _format_group(group: list[Problem]) -> str:
    first, *others = group
    names = join_names([repr(problem.job_path) for problem in others], MAX_NAMED_JOBS)
    return f"{first}; the same for {names}" if others else str(first)


# ---- the text


class ObjectWithDuplicateKeys(dict[str, Any]):
    """A JSON object with duplicate keys."""

    duplicate_names: list[str]


def parse_json(data: bytes) -> tuple[Any, bool]:
    """Parse JSON. Return the value, and True if no object in it has duplicate keys.

    Raises:
        BadGraph: the data is not JSON.
        RecursionError: the values are nested too deeply.

    """
    has_duplicates = False

    def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal has_duplicates
        mapping = dict(pairs)
        if len(mapping) == len(pairs):
            return mapping
        has_duplicates = True
        mapping = ObjectWithDuplicateKeys(mapping)
        mapping.duplicate_names = sorted(
            name for name, number in Counter(name for name, _ in pairs).items() if number > 1
        )
        return mapping

    try:
        mapping = json.loads(data, object_pairs_hook=make_object, parse_constant=_reject_constant)
    except UnicodeDecodeError as error:
        raise BadGraph(f"it is not UTF-8: {error}") from None
    except json.JSONDecodeError as error:
        raise BadGraph(f"it is not JSON: {error}") from None
    if b"\\u" in data:
        try:
            msgspec.json.decode(data)
        except msgspec.DecodeError:
            raise BadGraph("a string contains an unpaired surrogate (a \\u escape)") from None
    return mapping, not has_duplicates


def _reject_constant(name: str) -> NoReturn:
    raise BadGraph(f"it is not JSON: {name} is not a JSON number")


# ---- types and fields


def find_type_problems(value: Any, expected_type: Any, json_path: str, job_path: str) -> Iterator[Problem]:
    """Yield a problem if a value does not have the required type, and one for each duplicate key in it."""
    try:
        msgspec.convert(value, expected_type)
    except msgspec.ValidationError as error:
        text, _, relative_json_path = str(error).partition(" - at `$")
        full_json_path = json_path + relative_json_path.rstrip("`")
        (schema,), components = msgspec.json.schema_components([expected_type])
        if text.startswith("Invalid enum value "):
            choices = [value for member in _values_under_key([schema, components], "enum") for value in member]
            text = f"{text.removeprefix('Invalid enum value ')} is not one of {_format_choices(choices)}"
        elif text.startswith("Object contains unknown field "):
            known = [value for member in _values_under_key([schema, components], "properties") for value in member]
            text = f"unknown field {text.split('`')[1]!r}; known fields: {_format_choices(known)}"
        yield Problem(_type_advice(text), full_json_path, job_path)
    for member in _nested_values(value):
        if isinstance(member, ObjectWithDuplicateKeys):
            yield from find_duplicate_keys(member, json_path, job_path)


def unknown_field_problem(name: str, known: Iterable[str], json_path: str, job_path: str) -> Problem:
    """Describe an unknown field, with a suggestion if a known field has a similar name."""
    near = FOREIGN_FIELD_NAMES.get(name.lower()) or _nearest_field(name, tuple(known))
    return Problem(f"unknown field {name!r}" + (f"; do you mean {near!r}?" if near else ""), json_path, job_path)


@functools.cache  # because many jobs often have the same mistake
def _nearest_field(name: str, known: tuple[str, ...]) -> str | None:
    return nearest_name(name, known)


def find_duplicate_keys(duplicates: ObjectWithDuplicateKeys, json_path: str, job_path: str) -> Iterator[Problem]:
    """Yield a problem for each duplicate key."""
    for name in duplicates.duplicate_names:
        yield Problem(f"the field {name!r} occurs more than once: keep one", json_path, job_path)


def _type_advice(text: str) -> str:
    """Return msgspec's text about a wrong type as advice, such as "give a number, not a string"."""
    match = re.fullmatch(r"Expected `([^`]+)`(?:, got `(\w+)`)?( >= \d+)?(?:\.0)?", text)
    if match is None:
        return text
    expected, given, bound = match.groups("")
    names = [*dict.fromkeys(TYPE_NOUNS.get(name, name) for name in expected.split(" | "))]
    if "a number" in names and "an integer" in names:
        names.remove("an integer")
    return f"give {join_choices(names)}{bound}" + (f", not {TYPE_NOUNS.get(given, given)}" if given else "")


def in_json_syntax(text: str, fields: Iterable[str]) -> str:
    """Return an error of the engine with its fields as in JSON: `"restarts": 2` instead of `restarts=2`."""
    return re.sub(
        rf"\b({'|'.join(fields)})=(?:'(\w+)'|(\d+)\b|(?= ))",
        lambda match: f'"{match[1]}"' + (f': "{match[2]}"' if match[2] else f": {match[3]}" if match[3] else ""),
        text,
    )


def _format_choices(choices: Iterable[Any]) -> str:
    return ", ".join(f'"{choice}"' for choice in choices)


def _values_under_key(schema: Any, key: str) -> Iterator[Any]:
    """Yield the values of this key in all objects of a JSON schema, at any depth."""
    for nested_value in _nested_values(schema):
        if is_object(nested_value) and key in nested_value:
            yield nested_value[key]


def is_object(value: Any) -> TypeIs[dict[str, Any]]:
    """Return whether a value is a JSON object."""
    return isinstance(value, dict)


def is_list(value: Any) -> TypeIs[list[Any]]:
    """Return whether a value is a JSON list."""
    return isinstance(value, list)


def _nested_values(value: Any) -> Iterator[Any]:
    """Yield a value, then all values nested in it."""
    todo = [value]
    while todo:
        nested_value = todo.pop()
        yield nested_value
        if is_object(nested_value):
            todo += nested_value.values()
        elif is_list(nested_value):
            todo += nested_value


# ---- names


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the hint "; do you mean ...?" for an unknown name; "" if no name is similar, or if there are too many."""
    names = list(names)
    near = nearest_name(name, names) if len(names) <= MAX_SUGGESTION_NAMES else None
    return f"; do you mean {near!r}?" if near else ""
