"""Templates of command lines: replacement strings such as `{}`, their replacement by arguments, and the shell.

The syntax is GNU parallel's: `{}`, `{#}`, `{%}`, `{2}`, `{-1}`. A replacement string for an argument may have a
modifier (`.`, `/`, `//` or `/.`) before the closing brace. The names of resources are replacement strings, too.
"""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import string
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..jobs.command._shell_places import (
    BUILTINS,
    COMMENT,
    MANY,
    PLAIN,
    VALUE,
    UnsafePlaceError,
    check_places,
    quote,
)

REPLACEMENT_STRINGS: Final = """\
  {}    the argument                {.} without its extension
  {/}   its base name               {/.} base name without extension
  {//}  its directory
  {1}   argument of the first :::   {1.} {1/} {1//} {1/.} likewise
  {#}   the number of the job       {%} the number of its slot
  {gpu} the GPUs granted for --needs gpu=N, such as 0,1"""
END_OF_FIRST_WORD_PATTERN: Final = re.compile(r"[ \t\n<>|&;]")
WORD_CHARACTERS: Final = f"{string.ascii_letters}{string.digits}_./:,=@%+-"
"""The characters around a replacement string that belong to its word, and are special to no shell."""
NO_RESOURCES: Final[Mapping[str, str]] = {}
PADDED_NUMBER_PATTERN: Final = re.compile(r"\{0+([#%])\}")


def remove_extension(argument: str) -> str:
    stem, dot, extension = argument.rpartition(".")
    return stem if dot and "/" not in extension else argument


def base_name(argument: str) -> str:
    return argument.rpartition("/")[2]


def directory_name(argument: str) -> str:
    """Return the directory of a path, as dirname(1) does."""
    directory, slash, _ = argument.rstrip("/").rpartition("/")
    if slash or argument.startswith("/"):
        return directory.rstrip("/") or "/"
    return directory.rstrip("/") or "."


MODIFIERS: Final[dict[str, Callable[[str], str]]] = {
    "": lambda argument: argument,
    ".": remove_extension,
    "/": base_name,
    "//": directory_name,
    "/.": lambda argument: remove_extension(base_name(argument)),
}
INDEXED_PLACEHOLDER_PATTERN: Final = re.compile(
    r"\{(?P<index>-?\d+)(?P<modifier>//|/\.|/|\.)?\}"
)


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A replacement string for a number or for arguments.

    Attributes:
        number_symbol: "#" for the number of the job, "%" for the number of its slot, or None for arguments.
        index: the number of the argument: 1 for the first, -1 for the last, or 0 for all arguments.
        modifier: the modifier to apply to each argument, or "" for none.
        place: where the replacement string is: COMMENT, FILE, or "".
        prefix: the text that is repeated before each argument.
        suffix: the text that is repeated after each argument.

    """

    number_symbol: str | None
    index: int
    modifier: str
    place: str = ""
    prefix: str = ""
    suffix: str = ""

    def fill(
        self, arguments: Sequence[str], sequence: int, slot: int, is_quoted: bool
    ) -> str:
        """Return the number, or the arguments: modified, quoted if `is_quoted`, and joined by blanks."""
        if self.number_symbol is not None:
            return str(sequence if self.number_symbol == "#" else slot)
        words: list[str] = []
        for argument in map(MODIFIERS[self.modifier], self._select(arguments)):
            word = argument
            if is_quoted:
                word = quote(argument, self.place)
            words.append(f"{self.prefix}{word}{self.suffix}")
        text = " ".join(words)
        # A newline would end the comment.
        if self.place == COMMENT:
            return text.replace("\n", " ")
        return text

    def _select(self, arguments: Sequence[str]) -> Sequence[str]:
        if self.index == 0:
            return arguments
        start = self.index - 1
        if self.index < 0:
            start = len(arguments) + self.index
        if start >= 0:
            return arguments[start : start + 1]
        return ()


@dataclass(frozen=True, slots=True)
class ResourcePlaceholder:
    """A placeholder for a resource, such as `{gpu}`. It is replaced by the items or the amount granted to the job.

    Attributes:
        name: the name of the resource.

    """

    name: str


TemplatePiece = str | Placeholder | ResourcePlaceholder


def parse_pieces(text: str, resources: Collection[str]) -> Iterable[TemplatePiece]:
    """Split a text into plain texts and placeholders.

    Raises:
        ValueError: the text contains a replacement string of GNU parallel that is not supported.

    """
    expression, end, _ = text.partition("{=")[2].partition("=}")
    if end:
        raise ValueError(
            f"{{={expression}=}}: Perl expressions work in GNU parallel only; let a shell change the argument: "
            "a={}; echo ${a%.*}"
        )
    if match := PADDED_NUMBER_PATTERN.search(text):
        raise ValueError(
            f"{match[0]}: zero-padded numbers work in GNU parallel only; let a shell pad them: "
            f"$(printf %03d {{{match[1]}}})"
        )
    placeholders = _placeholders(resources)
    patterns = [*map(re.escape, placeholders), INDEXED_PLACEHOLDER_PATTERN.pattern]
    position = 0
    for match in re.finditer("|".join(patterns), text):
        placeholder = placeholders.get(match[0])
        if placeholder is None:
            modifier = match["modifier"] or ""
            placeholder = Placeholder(None, int(match["index"]), modifier)
        if match.start() > position:
            yield text[position : match.start()]
        yield placeholder
        position = match.end()
    if position < len(text):
        yield text[position:]


def _placeholders(
    resources: Collection[str],
) -> dict[str, Placeholder | ResourcePlaceholder]:
    """Return the placeholders without an index, keyed by their replacement strings, longest first."""
    placeholders: dict[str, Placeholder | ResourcePlaceholder] = {}
    for number in "#%":
        placeholders[f"{{{number}}}"] = Placeholder(number, 0, "")
    for modifier in MODIFIERS:
        placeholders[f"{{{modifier}}}"] = Placeholder(None, 0, modifier)
    for name in resources:
        placeholders[f"{{{name}}}"] = ResourcePlaceholder(name)
    return dict(sorted(placeholders.items(), key=lambda item: -len(item[0])))


class CommandTemplate:
    """A command line with replacement strings.

    If it has no replacement string for an argument or a number, all arguments are appended. Arguments are quoted for
    the shell, unless the first word is nothing but arguments, which then are the command. Where quoting does not
    protect, as inside quotes, no argument is accepted.

    Args:
        words: the words of the command.
        resources: the names of the resources that commands need.
        is_command: whether the words are a command line. In other texts, such as the name of a file, arguments are
            neither appended nor quoted.
        repeats_words: whether each argument gets the text around `{}` in its word, as in `dir/{}.txt`.
        shell: the path of the shell that will run the line, or "" for the shell of a node, which may be any.
        has_several: whether a command may get several arguments.

    Raises:
        ValueError: a word contains a replacement string of GNU parallel that is not supported.
        ValueError: an argument is at a place where a shell would not take a quoted argument as a single word.

    Example:
        >>> CommandTemplate(["gzip", "-c", "{}", ">", "{/.}.gz"]).fill(["a/b c.txt"], 1, 1)
        "gzip -c 'a/b c.txt' > 'b c'.gz"
        >>> CommandTemplate(["{2.} {#}"]).fill(["a", "b.c"], 7, 1)
        'b 7'

    """

    def __init__(
        self,
        words: Iterable[str],
        resources: Collection[str] = (),
        *,
        is_command: bool = True,
        repeats_words: bool = False,
        shell: str = "",
        has_several: bool = False,
    ) -> None:
        line = " ".join(words)
        pieces = list(parse_pieces(line, resources))
        has_placeholders = any(isinstance(piece, Placeholder) for piece in pieces)
        if is_command and not has_placeholders:
            if line:
                pieces.append(" ")
            pieces.append(Placeholder(None, 0, ""))
        command = _command_of_arguments(pieces)
        if is_command:
            mark = MANY if has_several else VALUE
            others = _check_places(pieces[len(command) :], line, mark, shell)
            pieces = [*command, *others]
        if repeats_words:
            pieces = _repeat_words(pieces, line)
        self._pieces: Final = pieces
        self._is_quoted: Final = is_command and not command
        self.has_placeholders: Final = is_command or has_placeholders
        """Whether the template has a replacement string for an argument or a number, including an appended string."""

    def fill(
        self,
        arguments: Sequence[str],
        sequence: int,
        slot: int,
        granted: Mapping[str, str] = NO_RESOURCES,
    ) -> str:
        """Return the command line for these arguments.

        Args:
            arguments: an argument from each source.
            sequence: the number of the job, from 1, for `{#}`.
            slot: the number of the job's slot, from 1, for `{%}`.
            granted: the texts of the granted resources, keyed by name. The placeholders of other resources are kept.

        """

        def fill_piece(piece: TemplatePiece) -> str:
            if isinstance(piece, Placeholder):
                return piece.fill(arguments, sequence, slot, self._is_quoted)
            if isinstance(piece, ResourcePlaceholder):
                if piece.name in granted:
                    return quote(granted[piece.name])
                return f"{{{piece.name}}}"
            return piece

        return "".join(map(fill_piece, self._pieces))


def _check_places(
    pieces: Sequence[TemplatePiece], line: str, mark_of_all: str, shell: str
) -> list[TemplatePiece]:
    """Return the pieces of a command line, with the places of those that are in a comment, or name a file.

    Raises:
        ValueError: an argument is at a place where a shell would not take a quoted argument as one word.

    """
    texts = [""]
    marks = list[str]()
    for piece in pieces:
        if isinstance(piece, str):
            texts[-1] += piece
        else:
            if isinstance(piece, Placeholder) and piece.index == 0:
                marks.append(mark_of_all if piece.number_symbol is None else PLAIN)
            else:
                marks.append(VALUE)
            texts.append("")
    try:
        places = iter(check_places(texts, marks, shell))
    except UnsafePlaceError as place:
        raise ValueError(
            f"{line}: an argument {place.name} could run as code, because quoting does not protect it there; "
            f"{place.remedy}"
        ) from None
    placed: list[TemplatePiece] = []
    for piece in pieces:
        if isinstance(piece, str):
            placed.append(piece)
            continue
        found = next(places)
        if isinstance(piece, Placeholder):
            placed.append(replace(piece, place=found))
        else:
            placed.append(piece)
    return placed


def _repeat_words(pieces: Sequence[TemplatePiece], line: str) -> list[TemplatePiece]:
    """Return the pieces of a command line, with the text around each `{}` in its word moved into the placeholder.

    Raises:
        ValueError: a word has two replacement strings.

    """
    parts: list[TemplatePiece] = ["", *pieces, ""]
    for index, piece in enumerate(pieces, 1):
        if not isinstance(piece, Placeholder):
            continue
        if piece.number_symbol is not None or piece.index != 0:
            continue
        before = parts[index - 1]
        after = parts[index + 1]
        is_alone = isinstance(before, str) and isinstance(after, str)
        rest = str(after).lstrip(WORD_CHARACTERS)
        if not is_alone or (not rest and index < len(pieces) - 1):
            raise ValueError(
                f"{line}: with -X, a word may have one replacement string: make two words of it"
            )
        start = str(before).rstrip(WORD_CHARACTERS)
        prefix = str(before).removeprefix(start)
        suffix = str(after).removesuffix(rest)
        parts[index - 1] = start
        parts[index] = replace(piece, prefix=prefix, suffix=suffix)
        parts[index + 1] = rest
    return parts


def _command_of_arguments(pieces: Sequence[TemplatePiece]) -> Sequence[TemplatePiece]:
    """Return the first word if it is nothing but arguments. Then they are the command, and are not quoted."""
    first_word: list[TemplatePiece] = []
    is_command = False
    for piece in pieces:
        if isinstance(piece, str):
            if END_OF_FIRST_WORD_PATTERN.match(piece) is None:
                return []
            break
        first_word.append(piece)
        if isinstance(piece, Placeholder) and piece.number_symbol is None:
            is_command = True
    return first_word if is_command else []


# ---- the shell

PLAIN_LINE: Final = re.compile(
    r"""(?:[ %+,\-./0-9:@A-Z_a-z]++|(?<=[^ ])=|'[^']*+'|"'")*+"""
)
"""Matches a line with no shell syntax except quotes and `=`. A shell would only split it into words and remove the
quotes, unless it begins with an assignment. `Shell.command` rules that out, because no program has such a name."""
POSIX_SHELLS: Final = frozenset(
    {"ash", "bash", "busybox", "dash", "ksh", "mksh", "sh", "zsh"}
)


class Shell:
    """The shell that runs command lines with shell syntax or builtins. Other lines run without a shell.

    If the variable `PARALLEL_SHELL` is set, it names the shell. Otherwise, the shell is the program of the parent
    process or the value of the variable `SHELL`, whichever is the first with POSIX quoting, or else /bin/sh.

    Args:
        environment: the environment variables of this process.

    Attributes:
        path: the path of the shell.

    Raises:
        ValueError: the variable names a shell with another quoting.

    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        given = environment.get("PARALLEL_SHELL")
        self.path: Final = given or _default_shell(environment)
        if os.path.basename(self.path) not in POSIX_SHELLS:
            raise ValueError(
                f"PARALLEL_SHELL is {self.path!r}, which quotes otherwise than {sorted(POSIX_SHELLS)}: use one of these"
            )

        @functools.cache
        def is_program(word: str) -> bool:
            if "=" in word or f"BASH_FUNC_{word}%%" in environment:
                return False
            return shutil.which(word) is not None

        self._is_program: Final = is_program

    def command(self, line: str) -> list[str]:
        if PLAIN_LINE.fullmatch(line):
            words = line.split()
            if "'" in line:
                words = shlex.split(line)
            if words and words[0] not in BUILTINS and self._is_program(words[0]):
                return words
        return [self.path, "-c", line]


def _default_shell(environment: Mapping[str, str]) -> str:
    for path in (_parent_program(), environment.get("SHELL", "")):
        if os.path.basename(path) in POSIX_SHELLS and os.access(path, os.X_OK):
            return path
    return "/bin/sh"


def _parent_program() -> str:
    """Return the path of the parent process's program, or "" if the system has no /proc."""
    try:
        return os.readlink(f"/proc/{os.getppid()}/exe")
    except OSError:
        return ""
