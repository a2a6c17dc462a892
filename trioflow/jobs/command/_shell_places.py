"""Where a value may stand in a line for a shell, and how it is quoted there.

`trioflow batch`, t-strings and `SshJob(values=)` ask. A value is a word of a command, or a part of a word: it is quoted
outside of quotes. In quotes, and in any other place that would read its text like the text around it, only a value
without special characters may stand. What a command does with its words is its own: no shell's builtins are known here,
and `[ {} -gt 5 ]` may evaluate its words as `awk {}` may. But `eval` takes no value, nor does `-c` of a shell, for
which a word is code by its place.

The gate reads only syntax that all of bash, dash, zsh, ksh, mksh and busybox read in the same way. In the texts of
words, a value is one of the marks below.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Final

VALUE: Final = "\0"
PLAIN: Final = "\1"
"""The marks of values: of any value, and of a value without special characters, such as a number."""
MANY: Final = "\0\2"
"""The mark of arguments with blanks between them, which may be several words."""
PLAIN_VALUE: Final = re.compile(r"(?!/dev/(?:tcp|udp)/)[+\-./0-9A-Z_a-z]+")
"""Matches a value that needs no quotes. Shells need fewer, but with these, the job logs of batches equal parallel's."""
COMMENT: Final = "comment"
FILE: Final = "file"
"""The places of values that are no other words: in a comment, and in the name of a file after `<` or `>`."""


class UnsafePlaceError(ValueError):
    """A place of a command line where quoting does not protect a value, so that a shell may run parts of it.

    Attributes:
        number: the number of the value, from 0.
        name: where it is, such as "inside double quotes".
        remedy: the advice for the user.

    """

    def __init__(self, number: int, name: str, remedy: str) -> None:
        super().__init__(f"{name}: {remedy}")
        self.number: Final = number
        self.name: Final = name
        self.remedy: Final = remedy


def mark_of(value: str) -> str:
    """Return the mark of a value that is known."""
    return PLAIN if PLAIN_VALUE.fullmatch(value) else VALUE


def quote(value: str, place: str = "") -> str:
    """Quote a value as a single word for a shell, exactly as GNU parallel does.

    After `<` and `>`, bash and ksh would connect to `/dev/tcp/HOST/PORT`, so `/dev` gets another spelling there.

    Example:
        >>> quote("a b"), quote("a/b.c"), quote(""), quote("/dev/null", FILE)
        ("'a b'", 'a/b.c', "''", '/./dev/null')

    """
    if place == FILE and value and "/dev".startswith(value[:4]):
        # Also a part of it, before another value.
        value = f"/.{value}"
    if not value or PLAIN_VALUE.fullmatch(value):
        return value or "''"
    if "'" not in value:
        return f"'{value}'"
    return ("'" + value.replace("'", "'\"'\"'") + "'").removeprefix("''").removesuffix("''")


def check_places(texts: Sequence[str], marks: Sequence[str]) -> list[str]:
    """Check that each value of a line is where quoting protects it, and return their places: COMMENT, FILE, or "".

    Args:
        texts: the texts around the values. There is one text more than values.
        marks: the marks of the values.

    Raises:
        UnsafePlaceError: a value is somewhere else.

    """
    line = "".join(_MARKS.sub("?", text) + mark for text, mark in zip(texts, [*marks, ""], strict=True))
    reader = _Reader(line)
    places = [found.start() for found in re.finditer(f"[{VALUE}{PLAIN}]", line)]
    special = [number for number, place in enumerate(places) if line[place] == VALUE]
    try:
        reader.read_commands("")
    except _Unknown as error:
        # A line of values without special characters is as if the user had written it.
        if error.changes_value or special:
            number = sum(place < reader.position for place in places)
            if not error.changes_value:
                number = next((each for each in special if each >= number), special[0])
            raise UnsafePlaceError(number, error.name, error.remedy) from None
    return [next((kind for kind, start, end in reader.spans if start <= place < end), "") for place in places]


_MARKS: Final = re.compile("[\0-\2]")
_EXPANSION: Final = r"""\$(?P<name>[A-Za-z_]\w*|[0-9@*\#?$!-]) | (?P<computed>\$\(\([^()\0\1]*\)\))
    | \$\{(?P<braced>\#?(?:\w+|[@*\#?$!-]))(?::?[-+?](?:[^{}()'"`$\\\0\1]|\$\w+)*|(?:%%?|\#\#?)[^{}()'"`$\\\0\1]*)?\}"""
_TOKEN: Final = re.compile(
    r"""(?P<blank>(?:[ \t]|(?<=[ \t\n&|;])\\\n)+) | (?P<comment>\#[^\n]*) | (?P<duplication>\d*>&\d+(?=[\s;&|)]|\Z))
    | (?P<redirection>\d*(?:>>?(?![&|(>!])|<(?![&<>(]))[ \t]*) | (?P<end>&&|\|\||\|(?!&)|&(?!>)|;(?![;&])|\n)
    | (?P<bracket>\((?!\())""",
    re.VERBOSE | re.ASCII,
)
_PIECE: Final = re.compile(
    rf"""\\(?P<escaped>[^\n\0\1]) | (?P<mark>[\0\1]) | '(?P<single>[^'\0]*)' | (?P<open>"|\$\((?!\()) | {_EXPANSION}
    | (?P<literal>[^\s\\'"`$();&|<>\0\1]+|\$(?=[\s/.,:%]|\]|\Z))""",
    re.VERBOSE | re.ASCII,
)
_QUOTED_PIECE: Final = re.compile(
    rf"""\\(?P<escaped>[^\0\1]) | (?P<mark>[\1]) | (?P<open>\$\((?!\()) | {_EXPANSION}
    | (?P<literal>[^\\"`$\0\1]+|\$(?![{{(\0\1\[]))""",
    re.VERBOSE | re.ASCII,
)
_ZSH_OPERATOR: Final = re.compile(r"(\[)|:[^\s/$\".,;)\d-]", re.ASCII)
"""Matches a subscript or a modifier after `$x`: zsh computes a part of them, as in `$x:F:y:h`."""
_OPENER: Final = re.compile(r"\$?\(\(|\$[\[{]|\$(?=['\"])|<<|[<>][(&]|<>|>\||&>|\|&|.", re.DOTALL)
_CHANGED_AFTER: Final = re.compile(r"(?:[^\w./:,=@%+*?{}\"'\[#\0-\2-]|((?:\A|[=:])[=~][^/:]*))\Z")
"""Matches characters that change a value after them: `~` and `=` expand it, others are unknown outside of quotes."""
_AS_WORD: Final = 'make it a word of its own, or pass it as "$1", as in: sh -c \'x "$1"\' - {}'
_LEAVE_OUT_QUOTES: Final = 'leave the quotes out, as arguments are quoted anyway: -m "for "{} in place of -m "for {}"'
_IS_MANY: Final = ("where it may be several words", "write {1}, {2}, ... in place of {}")
_REMEDIES: Final = {
    '"': ("inside double quotes", _LEAVE_OUT_QUOTES),
    "'": ("inside single quotes", _LEAVE_OUT_QUOTES),
    "`": ("in a line with backquotes", "write $(...) in place of `...`"),
    "<<": ("in a line with a here-document", "pipe it in, as in: printf '%s\\n' {} | COMMAND"),
    "${": ("inside ${ ... }", "let a program change it, as in: $(echo {} | tr a b)"),
    "|&": ("after |&", "write 2>&1 | in place of |&"),
    **{opener: (f"inside {opener} ... {end}", "let a program compute it, as in: $(expr {} + 1)")
       for opener, end in (("$((", "))"), ("((", "))"), ("$[", "]"))},
    **{opener: (f"after {opener}", f"write > FILE 2>&1 in place of {opener} FILE") for opener in ("&>", ">&")},
    **{prefix: (f"after {prefix}", f"leave the {prefix} out, since arguments are quoted anyway") for prefix in "\\$"},
}  # fmt: skip
_RESERVED: Final = frozenset(["if", "then", "elif", "else", "fi", "while", "until", "do", "done", "!", "{", "}"])


class _Unknown(Exception):
    """Raised for syntax that is not known to be safe in a line with values, or that changes the value there."""

    def __init__(self, name: str, remedy: str = _AS_WORD, *, changes_value: bool = False) -> None:
        self.name, self.remedy = _REMEDIES.get(name, (name, remedy))
        self.changes_value: Final = changes_value


class _Reader:
    """Reads a line with marks, and checks each of its commands.

    Args:
        line: the line.

    Attributes:
        position: where it is in the line.
        spans: the kind, the begin and the end of each comment and of each name of a file after `<` or `>`.

    """

    def __init__(self, line: str) -> None:
        self.position = 0
        self.spans: Final[list[tuple[str, int, int]]] = []
        self._line: Final = line

    def read_commands(self, closer: str) -> None:
        """Read the commands up to the bracket that closes them, or to the end of the line if `closer` is "".

        Raises:
            _Unknown: the line has something that not all shells read alike, or a value where they evaluate it.

        """
        words: list[str] = []
        while self.position < len(self._line) and not (closer and self._line.startswith(closer, self.position)):
            if (found := _TOKEN.match(self._line, self.position)) is None:
                start = self.position
                words.append(self._read_word())
                if self._line[start : self.position] == "}" and len(words) > 1:
                    # zsh ends a group there.
                    raise _Unknown("beside a }", "write ; before the }, or quotes around it")
                if len(words) == 1 and words[0] in _RESERVED:
                    words.clear()
                continue
            before = self._line[: self.position][-1:]
            kind = found.lastgroup
            if kind == "comment" and before not in ("", " ", "\t", "\n", ";"):
                raise _Unknown("beside a #")
            if kind == "bracket" and words:
                raise _Unknown("after (")
            self.position = found.end()
            match kind:  # pyright: ignore[reportMatchNotExhaustive]
                case "comment":
                    self.spans.append((COMMENT, *found.span()))
                case "bracket":
                    self.read_commands(")")
                case "redirection":
                    if MANY in self._read_word():
                        raise _Unknown(*_IS_MANY)
                    self.spans.append((FILE, found.end(), self.position))
                case "end":
                    _check_command(words)
                    words = []
                # The other kinds are blanks and duplications of descriptors.
        if self.position == len(self._line) and closer:
            raise _Unknown("after (")
        self.position += len(closer)
        _check_command(words)

    def _read_word(self) -> str:
        """Read a word that is not empty, and return it without its quotes."""
        word, start = "", self.position
        if self._line.startswith("#", start):
            raise _Unknown("beside a #")
        while found := _PIECE.match(self._line, self.position):
            if (kind := str(found.lastgroup)) == "mark":
                self._check_mark(word)
                word += found[0]
            self.position = found.end()
            match kind:  # pyright: ignore[reportMatchNotExhaustive]
                case "open" if found[0] == '"':
                    word += self._read_quoted()
                case "open":
                    self.read_commands(")")
                case "name" | "braced":
                    self._check_expansion(found[0])
                case "literal":
                    word += found[0]
                    if found[0].endswith("}") and (after := self._line[self.position :][:1]) in ("<", ">"):
                        # bash sets a variable, as in: x {a[1]}>f.
                        raise _Unknown(f"directly before {after}", f"put a blank before {after}")
                case "escaped" | "single":
                    word += found[kind]
                # The other kind is a mark.
        if self.position == start or self._line[self.position :][:1] in ("\\", "'", '"', "`", "$", "("):
            self._refuse()
        return word

    def _read_quoted(self) -> str:
        """Read the text in double quotes, and return it."""
        text = ""
        while found := _QUOTED_PIECE.match(self._line, self.position):
            if found.lastgroup == "mark":
                self._check_name()
            self.position = found.end()
            if found.lastgroup == "open":
                self.read_commands(")")
            elif found.lastgroup in ("name", "braced"):
                self._check_expansion(found[0])
            else:
                text += found[0]
        if not self._line.startswith('"', self.position):
            self._check_name()
            if self._line[self.position :][:1] in ("", VALUE):
                raise _Unknown('"')
            self._refuse()
        self.position += 1
        return text

    def _check_expansion(self, text: str) -> None:
        if not text.endswith("}") and (found := _ZSH_OPERATOR.match(self._line, self.position)) is not None:
            name = "in a line with a subscript" if found[1] else "in a line with a modifier of zsh"
            raise _Unknown(name, "write ${x} in place of $x", changes_value=found[0][-1] in (VALUE, PLAIN))

    def _check_mark(self, word: str) -> None:
        self._check_name()
        found = _CHANGED_AFTER.search(word)
        if found is not None and (found[1] or self._line[self.position - 1] not in ("'", '"')):
            raise _Unknown(f"after {word[-1]}", changes_value=True)
        following = re.match(r"[\2]?\d*([<>(])", self._line[self.position + 1 :].replace("\\\n", ""), re.ASCII)
        if following is not None and (following[0] == "(" or re.fullmatch(r"[\d\0\1]*", word)):
            name = f"directly before {following[1]}"
            raise _Unknown(name, f"put a blank before {following[0]}", changes_value=True)

    def _check_name(self) -> None:
        """Check that a value that stands here is not read as a part of a name before it."""
        is_value = self._line[self.position :][:1] in (VALUE, PLAIN)
        if is_value and re.search(r"\$(?:\w+|[@*#?$!-]):?\Z", self._line[: self.position], re.ASCII):
            raise _Unknown("after the name of a variable", "write ${x} in place of $x", changes_value=True)

    def _refuse(self) -> None:
        """Raise the error for a text that no pattern knows."""
        found = _OPENER.match(self._line, self.position)
        opener = "" if found is None else found[0]
        after = self._line[self.position + len(opener) :][:1]
        if opener == "$" and after in ("'", '"'):
            opener = after
        name = opener if opener in _REMEDIES else f"after {opener}"
        raise _Unknown(name, changes_value=opener in ("\\", "$") and after in (VALUE, PLAIN))


BUILTINS: Final = frozenset(
    """
    . : [ [[ alias always autoload bg bind bindkey break builtin bye caller case cd chdir command compadd comparguments
    compcall compctl compdescribe compfiles compgen compgroups complete compopt compound compquote compset comptags
    comptry compvalues continue coproc declare dirs disable disown do done echo echotc echoti elif else emulate enable
    end enum esac eval exec exit export false fc fg fi float for foreach function functions getln getopts global hash
    help hist history if in integer jobs kill let limit local log logout mapfile nameref namespace nocorrect noglob popd
    print printf private pushd pushln pwd r read readarray readonly redirect rehash repeat return sched select set
    setopt shift shopt source stop suspend test then time times trap true ttyctl type typeset ulimit umask unalias
    unfunction unhash unlimit unset unsetopt until vared wait whence where which while zcompile zformat zle zmodload
    zparseopts zregexparse zstyle
    """.split()  # noqa: SIM905 - eighty lines otherwise
)
"""The builtins and reserved words of shells. Any other name is a program or a function of the line."""
_ASSIGNMENT: Final = re.compile(r"([\w\0\1]+)(\[[^]]*\])?\+?=", re.ASCII)
_SHELL: Final = re.compile(r"(?:.*/)?(?:r?ba|da|a|z|[lmop]?k|t?c|fi|hu|po|ya)?sh[-.\d]*", re.DOTALL)
"""Matches the name of a program that is a shell."""


def _check_command(words: Sequence[str]) -> None:
    """Check that no value is code by its place, and that several arguments are no part of an assignment.

    Raises:
        _Unknown: one is.

    """
    if any(MANY in word and _ASSIGNMENT.match(word) for word in words):
        raise _Unknown(*_IS_MANY)
    called = [
        each for each in words if each not in ("command", "builtin", "exec", "time") and not _ASSIGNMENT.match(each)
    ]
    for number in (number for number, word in enumerate(called) if VALUE in word):
        options = [
            *itertools.takewhile(lambda word: word[:1] in ("-", "+"), called[number - 1 :: -1] if number else ())
        ]
        program = called[number - len(options) - 1] if number > len(options) else ""
        if called[0] == "eval" or (any("c" in word for word in options) and _SHELL.fullmatch(program)):
            raise _Unknown(f"after {'eval' if called[0] == 'eval' else f'{program} -c'}")
