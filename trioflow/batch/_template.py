"""Replacement strings: a command line with places in it, and what is put there for given arguments.

The grammar is GNU parallel's: `{}`, `{#}`, `{%}`, `{2}`, `{-1}`. Those for an argument may have `.`, `/`, `//` or `/.`
before the closing brace.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ._quoting import quoted

PLACE: Final = re.compile(r"\{(?:(?P<number>[#%])|(?P<index>-?\d+)?(?P<part>//|/\.|/|\.)?)\}")
EXPLAINED: Final = """\
  {}    the argument                {.} without its extension
  {/}   its base name               {/.} base name without extension
  {//}  its directory
  {1}   that of the first :::       {1.} {1/} {1//} {1/.} likewise
  {#}   the number of the job       {%} the number of its slot
  {gpu} what it has of --needs gpu=1, such as 0 or 0,1"""
"""All of them, for the help of the command."""
END_OF_NAME: Final = re.compile(r"[ \t\n=]")
"""What ends the command's name, or shows that the first word is not a command: a variable is set before it."""
NOTHING: Final[Mapping[str, str]] = {}
UNKNOWN: Final = re.compile(r"\{=.*?=\}", re.DOTALL)


def without_extension(argument: str) -> str:
    """Return the argument without its last `.` and what follows, unless a `/` follows."""
    stem, dot, extension = argument.rpartition(".")
    return stem if dot and "/" not in extension else argument


def base_name(argument: str) -> str:
    """Return what follows the last `/`."""
    return argument.rpartition("/")[2]


def directory_name(argument: str) -> str:
    """Return the directory that a path is in, as dirname(1) does."""
    directory, slash, _ = argument.rstrip("/").rpartition("/")
    is_at_root = slash or argument.startswith("/")
    return directory.rstrip("/") or ("/" if is_at_root else ".")


PARTS: Final[dict[str | None, Callable[[str], str]]] = {
    None: lambda argument: argument,
    ".": without_extension,
    "/": base_name,
    "//": directory_name,
    "/.": lambda argument: without_extension(base_name(argument)),
}


@dataclass(frozen=True, slots=True)
class Place:
    """One replacement string."""

    number: str | None  # "#" or "%"; None if it is for arguments
    index: int  # which argument, 1 for the first, -1 for the last; 0 for all
    part: str | None

    def fill(self, arguments: Sequence[str], sequence: int, slot: int, quote: Callable[[str], str]) -> str:
        """Return what is put there."""
        if self.number is not None:
            return str(sequence if self.number == "#" else slot)
        of = PARTS[self.part]
        return " ".join(quote(of(argument)) for argument in self._chosen(arguments))

    def _chosen(self, arguments: Sequence[str]) -> Sequence[str]:
        if self.index == 0:
            return arguments
        start = self.index - 1 if self.index > 0 else len(arguments) + self.index
        return arguments[start : start + 1] if start >= 0 else ()


@dataclass(frozen=True, slots=True)
class Granted:
    """A name in braces, for what a command is granted of a resource."""

    name: str


class Template:
    """A command line with places in it.

    Without any place, the arguments are appended. Arguments are quoted for a shell, unless the first word has a place:
    then they are the command, or a part of its name. A place after a `=` there is the value of a variable, and quoted.
    A template without words is the arguments alone.

    Args:
        words: the words of the command, not quoted: joined by blanks, they are a shell's line.
        is_line: whether it is a command line; otherwise it is the name of a file, where nothing is appended or quoted.
        resources: names that stand in braces for what a command is granted, and not for an argument.

    Raises:
        ValueError: a Perl expression, which only GNU parallel supports.

    Example:
        >>> Template(["gzip", "-c", "{}", ">", "{/.}.gz"]).fill(["a/b c.txt"], 1, 1)
        "gzip -c 'a/b c.txt' > 'b c'.gz"
        >>> Template(["{2.} {#}"]).fill(["a", "b.c"], 7, 1)
        'b 7'

    """

    __slots__ = ("_pieces", "_quote")

    def __init__(self, words: Iterable[str], *, is_line: bool = True, resources: Collection[str] = ()) -> None:
        line = " ".join(words)
        if found := UNKNOWN.search(line):
            raise ValueError(f"{found[0]}: Perl expressions work in GNU parallel only")
        pieces = list(_cut(line, resources))
        if is_line and not any(isinstance(piece, Place) for piece in pieces):
            pieces += [" "] * bool(line) + [Place(None, 0, None)]
        self._pieces: Final = pieces
        self._quote: Final[Callable[[str], str]] = str if not is_line or _is_in_first_word(pieces) else quoted

    def fill(self, arguments: Sequence[str], sequence: int, slot: int, granted: Mapping[str, str] = NOTHING) -> str:
        """Return the command line for some arguments.

        Args:
            arguments: one from each source.
            sequence: the number of the job, from 1, for `{#}`.
            slot: the number of its slot, from 1, for `{%}`.
            granted: what it is granted, by the names of resources; the places of others stay as they are.

        """
        filled: list[str] = []
        for piece in self._pieces:
            match piece:
                case Place():
                    filled.append(piece.fill(arguments, sequence, slot, self._quote))
                case Granted(name):
                    filled.append(quoted(granted[name]) if name in granted else f"{{{name}}}")
                case _:
                    filled.append(piece)
        return "".join(filled)


def _cut(line: str, resources: Collection[str]) -> Iterable[str | Place | Granted]:
    places = re.compile("|".join([PLACE.pattern, *(rf"\{{(?:{re.escape(name)})\}}" for name in resources)]))
    position = 0
    for found in places.finditer(line):
        if found.start() > position:
            yield line[position : found.start()]
        name = found[0][1:-1]
        yield Granted(name) if name in resources else Place(found["number"], int(found["index"] or 0), found["part"])
        position = found.end()
    if position < len(line):
        yield line[position:]


def _is_in_first_word(pieces: Iterable[str | Place | Granted]) -> bool:
    before = itertools.takewhile(lambda piece: not isinstance(piece, str) or not END_OF_NAME.search(piece), pieces)
    return any(isinstance(piece, Place) for piece in before)
