"""Replacement strings: a command line with placeholders, and its text for given arguments.

The grammar is GNU parallel's: `{}`, `{#}`, `{%}`, `{2}`, `{-1}`. Those for an argument may have `.`, `/`, `//` or `/.`
before the closing brace. `Strings` adds others: other spellings, names of columns, names of resources.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ._quoting import quote

REPLACEMENT_STRINGS: Final = """\
  {}    the argument                {.} without its extension
  {/}   its base name               {/.} base name without extension
  {//}  its directory
  {1}   that of the first :::       {1.} {1/} {1//} {1/.} likewise
  {#}   the number of the job       {%} the number of its slot
  {name} with --header :            {name.} {name/} likewise
  {gpu} what it has of --needs gpu=1, such as 0 or 0,1"""
"""The replacement strings and their meanings, for the help of the command."""
END_OF_NAME: Final = re.compile(r"[ \t\n=]")
"""The end of the command's name; a "=" before it shows a variable that is set for the command."""
NOTHING: Final[Mapping[str, str]] = {}
UNKNOWN: Final = re.compile(r"\{=.*?=\}", re.DOTALL)
PADDED: Final = re.compile(r"\{0+([#%])\}")


def without_extension(argument: str) -> str:
    """Remove the last `.` and what follows, unless a `/` follows."""
    stem, dot, extension = argument.rpartition(".")
    return stem if dot and "/" not in extension else argument


def base_name(argument: str) -> str:
    """Return the part after the last `/`."""
    return argument.rpartition("/")[2]


def directory_name(argument: str) -> str:
    """Return the directory of a path, like dirname(1)."""
    directory, slash, _ = argument.rstrip("/").rpartition("/")
    is_at_root = slash or argument.startswith("/")
    return directory.rstrip("/") or ("/" if is_at_root else ".")


PARTS: Final[dict[str, Callable[[str], str]]] = {
    "": lambda argument: argument,
    ".": without_extension,
    "/": base_name,
    "//": directory_name,
    "/.": lambda argument: without_extension(base_name(argument)),
}
"""The modifiers before the closing brace, and their effects on an argument."""
INDEXED: Final = re.compile(r"\{(?P<index>-?\d+)(?P<part>//|/\.|/|\.)?\}")


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One replacement string."""

    number: str | None  # "#" or "%"; None if it is for arguments
    index: int  # the number of the argument: 1 for the first, -1 for the last; 0 for all
    part: str

    def fill(
        self, arguments: Sequence[str], sequence: int, slot: int, quote: Callable[[str], str], between: str = " "
    ) -> str:
        """Return the replacement of the string, with `between` between several arguments."""
        if self.number is not None:
            return str(sequence if self.number == "#" else slot)
        modified = PARTS[self.part]
        return between.join(quote(modified(argument)) for argument in self._chosen(arguments))

    def _chosen(self, arguments: Sequence[str]) -> Sequence[str]:
        if self.index == 0:
            return arguments
        start = self.index - 1 if self.index > 0 else len(arguments) + self.index
        return arguments[start : start + 1] if start >= 0 else ()


@dataclass(frozen=True, slots=True)
class Granted:
    """A placeholder, `{name}`, for what the job is granted of that resource."""

    name: str


Piece = str | Placeholder | Granted


@dataclass(frozen=True, slots=True, kw_only=True)
class Strings:
    """The replacement strings besides `{2}` and the like.

    Attributes:
        resources: the names of needed resources.
        columns: the names of the arguments, in order.
        argument: the placeholder for the argument in place of `{}`; then `{2}` is plain text too.

    Example:
        >>> strings = Strings(columns=["file", "to"], argument=",,")
        >>> LineTemplate(["cp", "{file}", "{to}", ",,"], strings).fill(["a", "b"], 1, 1)
        'cp a b a b'

    """

    resources: Collection[str] = ()
    columns: Sequence[str] = ()
    argument: str = "{}"

    def name(self, text: str) -> LineTemplate:
        """Return a template in which arguments are replaced without quoting, as for the name of a file.

        Raises:
            ValueError: it contains a replacement string of GNU parallel that is not supported.

        """
        return LineTemplate([text], self, is_line=False)

    def find(self, line: str) -> Iterable[Piece]:
        """Split a line into texts and placeholders.

        Raises:
            ValueError: it contains a replacement string of GNU parallel that is not supported.

        """
        if match := UNKNOWN.search(line):
            raise ValueError(
                f"{match[0]}: Perl expressions work in GNU parallel only; let a shell change the argument: "
                "a={}; echo ${a%.*}"
            )
        if match := PADDED.search(line):
            raise ValueError(
                f"{match[0]}: numbers with zeros before them work in GNU parallel only; let a shell write them: "
                f"$(printf %03d {{{match[1]}}})"
            )
        known = self._placeholders()
        position = 0
        for match in re.finditer("|".join([re.escape(text) for text in known] + [INDEXED.pattern]), line):
            place = known.get(match[0]) or self._indexed(match)
            if place is None:
                continue
            if match.start() > position:
                yield line[position : match.start()]
            yield place
            position = match.end()
        if position < len(line):
            yield line[position:]

    def _placeholders(self) -> dict[str, Placeholder | Granted]:
        """Return all replacement strings except those with an index."""
        known: dict[str, Placeholder | Granted] = {f"{{{number}}}": Placeholder(number, 0, "") for number in "#%"}
        known.update({f"{{{part}}}" if part else self.argument: Placeholder(None, 0, part) for part in PARTS})
        for index, name in enumerate(self.columns, 1):
            known.update({f"{{{name}{part}}}": Placeholder(None, index, part) for part in PARTS})
        known.update({f"{{{name}}}": Granted(name) for name in self.resources})
        return dict(sorted(known.items(), key=lambda item: -len(item[0])))

    def _indexed(self, match: re.Match[str]) -> Placeholder | None:
        if self.argument != "{}" and not match["part"]:
            return None
        return Placeholder(None, int(match["index"]), match["part"] or "")


class LineTemplate:
    """A command line with replacement strings.

    Without any for arguments, all arguments are appended. In the first word an argument is not quoted, because it is
    the command itself; elsewhere it is quoted. The value of a variable before the command (`A={} run`) is quoted. With
    `quotes_words`, arguments are not quoted separately.

    Args:
        words: the command's words, joined by spaces.
        strings: the replacement strings.
        is_line: whether it is a command line; otherwise, as for a file's name, nothing is appended, and nothing is
            quoted.
        quotes_words: whether each word is quoted, so that its characters have no meaning to a shell.

    Raises:
        ValueError: it contains a replacement string of GNU parallel that is not supported.

    Example:
        >>> LineTemplate(["gzip", "-c", "{}", ">", "{/.}.gz"]).fill(["a/b c.txt"], 1, 1)
        "gzip -c 'a/b c.txt' > 'b c'.gz"
        >>> LineTemplate(["{2.} {#}"]).fill(["a", "b.c"], 7, 1)
        'b 7'

    """

    __slots__ = ("_pieces_of_words", "_quote", "_quotes_words")

    def __init__(
        self,
        words: Iterable[str],
        strings: Strings = Strings(),
        *,
        is_line: bool = True,
        quotes_words: bool = False,
    ) -> None:
        lines = list(words) if quotes_words else [" ".join(words)]
        parsed = [list(strings.find(line)) for line in lines]
        if is_line and not any(isinstance(piece, Placeholder) for pieces in parsed for piece in pieces):
            parsed = _with_arguments(parsed, apart=quotes_words)
        self._pieces_of_words: Final = parsed
        self._quote: Final[Callable[[str], str]] = (
            str if quotes_words or not is_line or _is_in_first_word(parsed[0]) else quote
        )
        self._quotes_words: Final = quotes_words

    @property
    def has_placeholders(self) -> bool:
        """Whether it contains a replacement string for arguments or numbers."""
        return any(isinstance(piece, Placeholder) for pieces in self._pieces_of_words for piece in pieces)

    def fill(self, arguments: Sequence[str], sequence: int, slot: int, granted: Mapping[str, str] = NOTHING) -> str:
        """Return the command line for some arguments.

        Args:
            arguments: one from each source.
            sequence: the number of the job, from 1, for `{#}`.
            slot: the number of its slot, from 1, for `{%}`.
            granted: its resources by name; placeholders of others are kept.

        """
        between = BETWEEN_WORDS if self._quotes_words else " "

        def filled(piece: Piece) -> str:
            match piece:
                case Placeholder():
                    return piece.fill(arguments, sequence, slot, self._quote, between)
                case Granted(name):
                    has = granted.get(name, f"{{{name}}}")
                    return quote(has) if name in granted and not self._quotes_words else has
                case _:
                    return piece

        words = ["".join(map(filled, pieces)) for pieces in self._pieces_of_words]
        if not self._quotes_words:
            return words[0]
        return " ".join(quote(part) for word in words for part in word.split(BETWEEN_WORDS))


BETWEEN_WORDS: Final = "\0"
"""Separates arguments that become words; no argument contains it."""


def _with_arguments(words: list[list[Piece]], *, apart: bool) -> list[list[Piece]]:
    """Append a placeholder for all arguments, as a separate word if `apart`."""
    everything: Piece = Placeholder(None, 0, "")
    if apart:
        return [*words, [everything]]
    return [[*words[0], *[" "] * bool(words[0]), everything]]


def _is_in_first_word(pieces: Iterable[Piece]) -> bool:
    before = itertools.takewhile(lambda piece: not isinstance(piece, str) or not END_OF_NAME.search(piece), pieces)
    return any(isinstance(piece, Placeholder) for piece in before)
