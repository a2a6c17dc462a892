r"""The gate for every value that becomes a part of a shell's line: where it may stand, and how it is quoted.

`trioflow batch`, t-strings and `SshJob(values=)` ask it. A place is safe because it is known to be: a value is quoted
outside of quotes, in a word of a command whose arguments no shell evaluates. In quotes, and where else its text is as
good as the text around it, only a value without special characters may stand.

A value reaches other parts of its line, by variables and pipes. So a line with a value that has special characters must
be known as a whole: commands with their redirections, in lists, pipes, brackets, `$(...)`, loops and `if`. It computes
nothing, and calls the builtins of shells in the forms of `_FORMS`. Any other line gets the value as its `$1`.

What is read is what all of bash, dash, zsh, ksh, mksh and busybox read in the same way. In the texts of words, a value
is one of the two marks below, and what a shell expands is `\3` or, in double quotes, `\4`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from typing import Final

VALUE: Final = "\0"
PLAIN: Final = "\1"
"""The marks of values: of any value, and of one without special characters."""
PLAIN_VALUE: Final = re.compile(r"[+\-./0-9A-Z_a-z]+")
"""Matches a value that needs no quotes. Shells need fewer, but these make the job logs of batches those of parallel."""


class UnsafePlaceError(ValueError):
    """A place of a command line where quoting does not protect a value, so that a shell may run parts of it.

    Attributes:
        number: the number of the value, from 0.
        name: where it is, such as "inside double quotes".
        remedy: what to write instead.

    """

    def __init__(self, number: int, name: str, remedy: str) -> None:
        super().__init__(f"{name}: {remedy}")
        self.number: Final = number
        self.name: Final = name
        self.remedy: Final = remedy


def mark_of(value: str) -> str:
    """Return the mark of a value that is known."""
    return PLAIN if PLAIN_VALUE.fullmatch(value) else VALUE


def quote(value: str) -> str:
    """Quote a value as one word for a shell, exactly as GNU parallel does.

    Example:
        >>> quote("a b"), quote("a/b.c"), quote("")
        ("'a b'", 'a/b.c', "''")

    """
    if not value or PLAIN_VALUE.fullmatch(value):
        return value or "''"
    if "'" not in value:
        return f"'{value}'"
    return ("'" + value.replace("'", "'\"'\"'") + "'").removeprefix("''").removesuffix("''")


def check_places(texts: Sequence[str], marks: Sequence[str], shell: str = "") -> list[bool]:
    """Check that each value of a line is where quoting protects it, and return which ones are in comments.

    Args:
        texts: the texts around the values, one more than these.
        marks: the marks of the values.
        shell: the path of the shell that will run the line; "" if it may be any.

    Raises:
        UnsafePlaceError: a value is somewhere else.

    """
    line = "".join(_MARKS.sub("?", text) + mark for text, mark in zip(texts, [*marks, ""], strict=True))
    reader = _Reader(line, _NUMBER if os.path.basename(os.path.realpath(shell)) not in NOT_COMPUTING else _WORD)
    try:
        reader.read_commands("")
    except _Unknown as error:
        # A line of values without special characters is as if the user had written it.
        if error.changes_value or VALUE in marks:
            number = len(_MARKS.findall(line, 0, reader.position))
            if not error.changes_value:
                number = marks.index(VALUE, number if VALUE in marks[number:] else 0)
            raise UnsafePlaceError(number, error.name, error.remedy) from None
    places = [found.start() for found in re.finditer(f"[{VALUE}{PLAIN}]", line)]
    return [any(start < place < end for start, end in reader.comments) for place in places]


NOT_COMPUTING: Final = frozenset({"bash", "dash", "ash", "busybox"})
"""The shells whose builtins take no argument for an expression: what is no number is an error."""
_UNQUOTED: Final = "\3"
_QUOTED: Final = "\4"
_MARKS: Final = re.compile("[\0-\5]")
_EXPANSION: Final = r"""\$(?P<name>[A-Za-z_]\w*|[0-9@*\#?$!-])
    | \$\{(?P<braced>\#?(?:\w+|[@*\#?$!-]))(?::?[-+?](?:[^{}'"`$\\\0\1]|\$\w+)*|(?:%%?|\#\#?)[^{}'"`$\\\0\1]*)?\}"""
_TOKEN: Final = re.compile(
    r"""(?P<blank>(?:[ \t]|(?<=[ \t\n&|;])\\\n)+) | (?P<comment>\#[^\n]*) | (?P<duplication>\d*>&\d+(?=[\s;&|)]|\Z))
    | (?P<redirection>\d*(?:>>|>(?![&|(>])|<(?![&<>(]))[ \t]*) | (?P<end>&&|\|\||\|(?!&)|&(?!>)|;(?![;&])|\n)
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
_OPENER: Final = re.compile(r"\$?\(\(|\$[\[{]|\$(?=['\"])|<<|[<>][(&]|<>|>\||&>|\|&|.", re.DOTALL)
_CHANGED_AFTER: Final = re.compile(r"(?:[^\w./:,=@%+*?{}\"'\[#\0\1\3\4-]|\A=|(?:\A=|(?:\A|[=:])~)[^/:]*)\Z")
"""Matches what changes a value after it: `~` and `=` expand it, and what else is not known."""
_AS_WORD: Final = 'make it a word of its own, or pass it as "$1", as in: sh -c \'x "$1"\' - {}'
_QUOTE_EXPANSIONS: Final = 'put what the shell expands there in double quotes, as in: test "$(wc -l < x)" = 2'
_LEAVE_OUT_QUOTES: Final = 'leave the quotes out, as arguments are quoted anyway: -m "for "{} in place of -m "for {}"'
_REMEDIES: Final = {
    '"': ("inside double quotes", _LEAVE_OUT_QUOTES),
    "'": ("inside single quotes", _LEAVE_OUT_QUOTES),
    "`": ("in a line with backquotes", "write $(...) in place of `...`"),
    "<<": ("in a line with a here-document", "pipe it in, as in: printf '%s\\n' {} | COMMAND"),
    **{opener: (f"inside {opener} ... {end}", "make it a word of its own, as in: expr {} + 1")
       for opener, end in (("$((", "))"), ("((", "))"), ("$[", "]"), ("${", "}"))},
    **{prefix: (f"after {prefix}", f"leave the {prefix} out, since arguments are quoted anyway") for prefix in "\\$"},
}  # fmt: skip
_RESERVED: Final = frozenset(["if", "then", "elif", "else", "fi", "while", "until", "do", "done", "!", "{", "}"])


class _Unknown(Exception):
    """Raised for what is not known to be safe in a line with values; or changes the value there."""

    def __init__(self, name: str, remedy: str = _AS_WORD, *, changes_value: bool = False) -> None:
        self.name, self.remedy = _REMEDIES.get(name, (name, remedy))
        self.changes_value: Final = changes_value


class _Reader:
    """Reads a line with marks, and checks each of its commands.

    Args:
        line: the line.
        number: matches what may stand where a builtin expects a number.

    Attributes:
        position: where it is in the line.
        comments: the begin and the end of each comment.

    """

    def __init__(self, line: str, number: str) -> None:
        self.position = 0
        self._number: Final = number
        self.comments: Final[list[tuple[int, int]]] = []
        self._line: Final = line

    def read_commands(self, closer: str) -> None:
        """Read the commands up to the bracket that closes them, or to the end of the line if `closer` is "".

        Raises:
            _Unknown: the line has something that not all shells read alike, or a value where they evaluate it.

        """
        words: list[str] = []
        while self.position < len(self._line) and not (closer and self._line.startswith(closer, self.position)):
            found = _TOKEN.match(self._line, self.position)
            if found is None:
                words.append(self._read_word())
                if len(words) == 1 and words[0] in _RESERVED:
                    words.clear()
                continue
            kind, before = found.lastgroup, self._line[: self.position][-1:]
            if kind == "comment" and before not in ("", " ", "\t", "\n", ";"):
                raise _Unknown("beside a #")
            if kind == "bracket" and words:
                raise _Unknown("after (")
            self.position = found.end()
            match kind:
                case "comment":
                    self.comments.append(found.span())
                case "bracket":
                    self.read_commands(")")
                case "redirection":
                    self._read_word()
                case "end":
                    _check_command(words, self._number)
                    words = []
                case _:
                    pass
        if self.position == len(self._line) and closer:
            raise _Unknown("after (")
        self.position += len(closer)
        _check_command(words, self._number)

    def _read_word(self) -> str:
        """Read a word, of which there is at least one character, and return it without its quotes."""
        word, start = "", self.position
        if self._line.startswith("#", start):
            raise _Unknown("beside a #")
        while found := _PIECE.match(self._line, self.position):
            kind = str(found.lastgroup)
            if kind == "mark":
                self._check_mark(word)
                word += found[0]
            self.position = found.end()
            match kind:
                case "open" if found[0] == '"':
                    word += self._read_quoted()
                case "open":
                    self.read_commands(")")
                    word += _UNQUOTED
                case "name" | "braced":
                    word += self._expansion(found[kind], _UNQUOTED)
                case "literal":  # braces may become several words
                    is_word = found[0] in ("{", "{}", "}") and not word and self._line[self.position :][:1] <= " "
                    word += found[0] + _UNQUOTED * ("{" in found[0] and not is_word)
                case "escaped" | "single":
                    word += found[kind]
                case _:
                    pass
        if self.position == start or self._line[self.position :][:1] in ("\\", "'", '"', "`", "$"):
            self._refuse()
        return word

    def _read_quoted(self) -> str:
        """Read what double quotes have opened, and return it."""
        text = ""
        while found := _QUOTED_PIECE.match(self._line, self.position):
            if found.lastgroup == "mark":
                self._check_name()
            self.position = found.end()
            if found.lastgroup == "open":
                self.read_commands(")")
                text += _QUOTED
            elif found.lastgroup in ("name", "braced"):
                text += self._expansion(found[found.lastgroup], _QUOTED)
            else:
                text += found[0]
        if not self._line.startswith('"', self.position):
            self._check_name()
            if self._line[self.position :][:1] in ("", VALUE):
                raise _Unknown('"')
            self._refuse()
        self.position += 1
        return text

    def _expansion(self, name: str, mark: str) -> str:
        """Return what stands for a variable, and for one that is always a number, a number."""
        if self._line[self.position - 1] != "}" and self._line.startswith("[", self.position):
            raise _Unknown("in a line with a subscript", "write ${x}[ in place of $x[")  # zsh computes it
        return "0" if name in ("#", "?", "$", "!") else mark

    def _check_mark(self, word: str) -> None:
        self._check_name()
        if word and _CHANGED_AFTER.search(word):
            raise _Unknown(f"after {word[-1]}", changes_value=True)
        following = re.match(r"\d*([<>(])", self._line[self.position + 1 :].replace("\\\n", ""), re.ASCII)
        if following is not None and (following[0] == "(" or re.fullmatch(r"[\d\0\1]*", word)):
            name = f"directly before {following[1]}"
            raise _Unknown(name, f"put a blank before {following[0]}", changes_value=True)

    def _check_name(self) -> None:
        """Check that what stands here, if it is a value, is not read as a part of a name before it."""
        is_value = self._line[self.position :][:1] in (VALUE, PLAIN)
        if is_value and re.search(r"\$(?:\w+|[@*#?$!-]):?\Z", self._line[: self.position], re.ASCII):
            raise _Unknown("after the name of a variable", "write ${x} in place of $x", changes_value=True)

    def _refuse(self) -> None:
        """Raise the error for what no pattern knows."""
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
    end esac eval exec exit export false fc fg fi float for foreach function functions getln getopts global hash help
    history if in integer jobs kill let limit local log logout mapfile nameref nocorrect noglob popd print printf
    private pushd pushln pwd r read readarray readonly redirect rehash repeat return sched select set setopt shift shopt
    source stat suspend test then time times trap true ttyctl type typeset ulimit umask unalias unfunction unhash
    unlimit unset unsetopt until vared wait whence where which while zcompile zformat zle zmodload zparseopts
    zregexparse zstyle
    """.split()  # noqa: SIM905 - eighty lines otherwise
)
"""The builtins and reserved words of shells. What has another name is a program or a function of the line."""
_NAME: Final = re.compile(r"(?!-)[-\w.:@%+,~ \0\1]*|[-\w.:@%+,~ \0\1\4]*/[-\w./:@%+,~*? \0\1\4]*|\[\[?")
"""Matches the name of a command that is a builtin only if it looks like one."""
EVALUATED: Final = re.compile(
    r"(?:BASH|KSH|EPOCH)\w+|[RS]?PROMPT\w*|R?PS\d|(?:READ)?NULLCMD|E?[GU]ID|PPID|PGRP|USER_ID|ENV|HIST(?:CMD|SIZE)|SAVEHIST"
    r"|COLUMNS|LIN(?:ES|ENO)|S?RANDOM|SECONDS|OPTIND|TMOUT|KEYTIMEOUT|ERRNO|PIPESTATUS|DIRSTACK|FUNCNAME|GROUPS"
    r"|(?i:FPATH|MODULE_PATH)"
)
"""The variables whose texts a shell computes or expands."""
_ASSIGNMENT: Final = re.compile(r"([\w\0\1]+)(\[[^]]*\])?\+?=", re.ASCII)
# In a form, the words of a command are joined by \5: any words, a word that no shell divides, and a number.
_WORDS: Final = ".*"
_WORD: Final = "[^\3\5]*"
_NUMBER: Final = "-?\\d*"
_TEST: Final = (
    f"(?:!\5)*(?:{_WORD}|-[bcdefghkLnpOrsSuwxzGN]\5{_WORD}|{_WORD}\5(?:==?|!=|-nt|-ot|-ef)\5{_WORD}"
    "|NUMBER\5-(?:eq|ne|lt|le|gt|ge)\5NUMBER)"
)
_FORMS: Final = {
    **dict.fromkeys([".", ":", "cd", "echo", "false", "kill", "pwd", "source", "true", "type", "which"], _WORDS),
    **dict.fromkeys(["break", "continue", "exit", "return", "shift", "umask"], "NUMBER"),
    **dict.fromkeys(["ulimit", "wait"], "(?:-\\w+(?:\5|\\Z))*\\d*"),
    "export": "(?:\5?[A-Za-z_]\\w*(?:=[^\3\5]*)?(?=\5|\\Z))*",
    "read": "(?:(?:-[rs]+|[A-Za-z_]\\w*)(?:\5|\\Z))+",
    "set": "(?:[-+][aCeEfhmTuvx]*(?:o\5(?:errexit|nounset|pipefail|xtrace))?(?:\5|\\Z))*",
    "for": "\\w+\5in(?:\5.*)?",
    # A format of words, a format of numbers, and a format alone, which computes nothing whatever it is.
    "printf": "(?:--\5)?(?!-)(?:(?:[^%\0-\5]|%[-0-9.]*[%bcqs])*(?:\5.*)?|[^\0-\5]*(?:\5NUMBER)*|[^\0-\5][^\3\5]*)",
    "test": _TEST,
    "[": f"{_TEST}\5\\]",
    "[[": f"{_TEST}\5\\]\\]",
}
"""The forms of the arguments with which a builtin of any shell evaluates nothing of what values may be."""


def _check_command(words: Sequence[str], number: str) -> None:
    """Check that a command evaluates nothing of what values may be; `number` matches what is a number for it.

    Raises:
        _Unknown: it may do so.

    """
    is_builtin = bool(words) and words[0] in BUILTINS
    for word in words if is_builtin else itertools.takewhile(_ASSIGNMENT.match, words):
        name, _, value = word.partition("=")
        if EVALUATED.fullmatch(name.rstrip("+")) and not value.isdecimal():
            raise _Unknown("in a line that sets a variable which shells evaluate", f"write env {name}={{}} COMMAND")
    while words and (match := _ASSIGNMENT.match(words[0])):
        if match[2] or _MARKS.search(match[1]):
            raise _Unknown("in the name of a variable" if match[2] is None else "in a line with a subscript")
        words = words[1:]
    while words and words[0] in ("command", "exec", "time"):
        words = words[1:]
    if not words:
        return
    name, arguments = words[0], "\5".join(words[1:])
    if _NAME.fullmatch(name) is None:
        raise _Unknown("in a line whose command is not known", 'write its name or path, or: env "$x" {}')
    form = _FORMS.get(name, "(?!)").replace("NUMBER", _NUMBER if name == "[[" else number)
    if name in BUILTINS and re.fullmatch(form, arguments, re.DOTALL | re.ASCII) is None:
        raise _Unknown(f"after {name}", _QUOTE_EXPANSIONS if _UNQUOTED in arguments else _AS_WORD)
