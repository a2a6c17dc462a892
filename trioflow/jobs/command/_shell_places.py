r"""Where a value may stand in a line for a shell, and how it is quoted there.

`trioflow batch`, t-strings and `SshJob(values=)` ask. A value is a word of a command, or a part of a word: it is quoted
outside of quotes. In quotes, and in any other place that would read its text like the text around it, only a value
without special characters may stand. What a program does with its words is its own, as with `awk {}`.

Some builtins run or compute their words, or the variables that these name, whatever the quotes: a line with values has
none of them, or none with a value (`_check_command`). zsh, ksh and mksh compute each word that they take for a number:
there, `[ {} -gt 5 ]`, `exit {}` and `printf %d {}` are refused, too. Any other line gets the value as the `$1` of
`sh -c`.

The gate reads only syntax that all of bash, dash, zsh, ksh, mksh and busybox read in the same way. In the texts of
words, a value is one of the marks below, and what a shell puts in is `\3`, or `\4` in double quotes.
"""

from __future__ import annotations

import bisect
import itertools
import os
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
        # The value may also be the beginning of such a name, in front of another value.
        value = f"/.{value}"
    if not value or PLAIN_VALUE.fullmatch(value):
        return value or "''"
    if "'" not in value:
        return f"'{value}'"
    return (
        ("'" + value.replace("'", "'\"'\"'") + "'")
        .removeprefix("''")
        .removesuffix("''")
    )


def check_places(
    texts: Sequence[str], marks: Sequence[str], shell: str = ""
) -> list[str]:
    """Check that each value of a line is where quoting protects it, and return their places: COMMENT, FILE, or "".

    Args:
        texts: the texts around the values. There is one text more than values.
        marks: the marks of the values.
        shell: the path of the shell that will run the line, or "" if it may be any.

    Raises:
        UnsafePlaceError: a value is somewhere else.

    """
    line = "".join(
        _MARKS.sub("?", text) + mark
        for text, mark in zip(texts, [*marks, ""], strict=True)
    )
    reader = _Reader(
        line, os.path.basename(os.path.realpath(shell)) not in NOT_COMPUTING
    )
    places = [found.start() for found in re.finditer(f"[{VALUE}{PLAIN}]", line)]
    special = [number for number, place in enumerate(places) if line[place] == VALUE]
    try:
        reader.read_commands("")
    except _Unknown as error:
        # A line of values without special characters is as if the user had written it.
        if error.changes_value or special:
            number = bisect.bisect_left(places, reader.position)
            if not error.changes_value:
                number = next((each for each in special if each >= number), special[0])
            raise UnsafePlaceError(number, error.name, error.remedy) from None
    return [
        next((kind for kind, start, end in reader.spans if start <= place < end), "")
        for place in places
    ]


NOT_COMPUTING: Final = frozenset({"bash", "dash", "ash", "busybox"})
"""The shells for whose builtins a text that is no number is an error. Other shells compute it."""
_UNQUOTED: Final = "\3"
_QUOTED: Final = "\4"
"""The marks of what a shell puts into a word: outside of quotes, where it may be several words, and inside."""
_MARKS: Final = re.compile("[\0-\5]")
_COMPUTED: Final = r"\$\(\([^()\0\1]*\)\)"
_NUMBER: Final = rf"(?:\d+|{_COMPUTED})"
_NUMBERS: Final = frozenset(["$#", "$?", "$$", "$!", "${#}", "${?}", "${$}", "${!}"])
_EXPANSION: Final = rf"""\$(?P<name>[A-Za-z_]\w*|[0-9@*\#?$!-]) | (?P<computed>{_COMPUTED})
    | \$\{{(?P<braced>\#?(?:\w+|[@*\#?$!-]))
    (?::?[-+?](?:[^{{}}()'"`$\\\0\1]|\$\w+)*|(?:%%?|\#\#?)[^{{}}()'"`$\\\0\1]*)?\}}"""
_TOKEN: Final = re.compile(
    r"""(?P<blank>(?:[ \t]|(?<=[ \t\n&|;])\\\n)+) | (?P<comment>(?<![^ \t\n;])\#[^\n]*)
    | (?P<duplication>\d*>&\d+(?=[\s;&|)]|\Z)) | (?P<redirection>\d*(?:>>?(?![&|(>!])|<(?![&<>(]))[ \t]*)
    | (?P<end>&&|\|\||\|(?!&)|&(?!>)|;(?![;&])|\n) | (?P<bracket>\((?!\())""",
    re.VERBOSE | re.ASCII,
)
_PIECE: Final = re.compile(
    rf"""\\(?P<escaped>[^\n\0\1]) | (?P<mark>[\0\1]) | '(?P<single>[^'\0]*)' | (?P<open>"|\$\((?!\()) | {_EXPANSION}
    | (?P<literal>[^\s\\'"`$();&|<>\0\1]+|\$(?=[\s/.,:%]|\]|\Z))""",
    re.VERBOSE | re.ASCII,
)
_QUOTED_PIECE: Final = re.compile(
    rf"""\\\n | (?P<mark>[\1]) | (?P<open>\$\((?!\()) | {_EXPANSION}
    | (?P<single>\\[^\n\0\1]|[^\\"`$\0\1]+|\$(?![{{(\0\1\[]))""",
    re.VERBOSE | re.ASCII,
)
_ZSH_OPERATOR: Final = re.compile(r"(\[)|:[^\s/$\".,;)\d-]", re.ASCII)
"""Matches a subscript or a modifier after `$x`: zsh computes a part of them, as in `$x:F:y:h`."""
_OPENER: Final = re.compile(
    r"\$?\(\(|\$[\[{]|\$(?=['\"])|<<|[<>][(&]|<>|>\||&>|\|&|.", re.DOTALL
)
_CHANGED_AFTER: Final = re.compile(
    r"(?:[^\w./:,=@%+*?{}\"'\[#\0-\2-]|((?:\A|[=:])[=~][^/:]*))\Z"
)
"""Matches characters that change a value after them: `~` and `=` expand it, others are unknown outside of quotes."""
_AS_WORD: Final = (
    'make it a word of its own, or pass it as "$1", as in: sh -c \'x "$1"\' - {}'
)
_LEAVE_OUT_QUOTES: Final = 'leave the quotes out, as arguments are quoted anyway: -m "for "{} in place of -m "for {}"'
_IS_MANY: Final = (
    "where it may be several words",
    "write {1}, {2}, ... in place of {}",
)
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
_WORD_OPENERS: Final = tuple("\\'\"`$(")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_RESERVED: Final = _words("! { } always do done elif else fi if then until while")
"""The words before a command: `always` is one in zsh."""


class _Unknown(Exception):
    """Raised for syntax that is not known to be safe in a line with values, or that changes the value there."""

    def __init__(
        self, name: str, remedy: str = _AS_WORD, *, changes_value: bool = False
    ) -> None:
        self.name, self.remedy = _REMEDIES.get(name, (name, remedy))
        self.changes_value: Final = changes_value


class _Reader:
    """Reads a line with marks, and checks each of its commands.

    Args:
        line: the line.
        computes: whether the shell computes words that are no numbers.

    Attributes:
        position: where it is in the line.
        spans: the kind, the begin and the end of each comment and of each name of a file after `<` or `>`.

    """

    def __init__(self, line: str, computes: bool) -> None:
        self.position = 0
        self.spans: Final = list[tuple[str, int, int]]()
        self._line: Final = line
        self._computes: Final = computes
        # Whether a pipe is to the left.
        self._is_fed = False

    @property
    def _next(self) -> str:
        """The next character, or "" at the end of the line."""
        return self._line[self.position : self.position + 1]

    def read_commands(self, closer: str) -> None:
        """Read the commands up to the bracket that closes them, or to the end of the line if `closer` is "".

        Raises:
            _Unknown: the line has something that not all shells read alike, or a value where they evaluate it.

        """
        words: list[str] = []
        while self._next not in ("", closer):
            if (found := _TOKEN.match(self._line, self.position)) is None:
                start = self.position
                words.append(self._read_word())
                if self._line[start : self.position] == "}" and len(words) > 1:
                    # zsh ends a group there.
                    raise _Unknown(
                        "beside a }", "write ; before the }, or quotes around it"
                    )
                if len(words) == 1 and words[0] in _RESERVED:
                    words.clear()
                continue
            self.position = found.end()
            match found.lastgroup:  # pyright: ignore[reportMatchNotExhaustive]
                case "comment":
                    self.spans.append((COMMENT, *found.span()))
                case "bracket":
                    if words:
                        raise _Unknown("after (")
                    self.read_commands(")")
                case "redirection":
                    if MANY in self._read_word():
                        raise _Unknown(*_IS_MANY)
                    self.spans.append((FILE, found.end(), self.position))
                case "end":
                    _check_command(words, self._computes, self._is_fed)
                    words = []
                    self._is_fed |= found[0] == "|"
                # The other kinds are blanks and duplications of descriptors.
        if self._next != closer:
            raise _Unknown("after (")
        self.position += len(closer)
        _check_command(words, self._computes, self._is_fed)

    def _read_word(self) -> str:
        """Read a word that is not empty, and return it without its quotes, with marks of what the shell puts in."""
        start = self.position
        if self._line.startswith("#", start):
            raise _Unknown("beside a #")
        word = self._read_pieces(_PIECE, _UNQUOTED)
        if self.position == start or self._next in _WORD_OPENERS:
            self._refuse()
        return word

    def _read_quoted(self) -> str:
        """Read the text in double quotes, and return it."""
        text = self._read_pieces(_QUOTED_PIECE, _QUOTED)
        if not self._line.startswith('"', self.position):
            self._check_name()
            if self._next in ("", VALUE):
                raise _Unknown('"')
            self._refuse()
        self.position += 1
        return text

    def _read_pieces(self, pattern: re.Pattern[str], inserted: str) -> str:
        """Read the pieces of a word, or of quoted text, and return their text, with `inserted` for expansions."""
        text = ""
        while found := pattern.match(self._line, self.position):
            kind = found.lastgroup
            if kind == "mark" and pattern is _PIECE:
                self._check_mark(text)
            elif kind == "mark":
                self._check_name()
            self.position = found.end()
            match kind:
                case "open" if found[0] == '"':
                    text += self._read_quoted()
                case "open":
                    self.read_commands(")")
                    text += inserted
                case "name" | "braced" | "computed":
                    self._check_expansion(found)
                    if found[0] not in _NUMBERS:
                        text += inserted
                case "literal":
                    # A pattern may become the names of files.
                    text += re.sub(r"[*?]", rf"\g<0>{_UNQUOTED}", found[0])
                    after = self._next
                    if found[0].endswith("}") and after in ("<", ">"):
                        # bash sets a variable, as in: x {a[1]}>f.
                        raise _Unknown(
                            f"directly before {after}", f"put a blank before {after}"
                        )
                case "mark" | "escaped" | "single":
                    text += found[kind]
                case _:
                    # A line that goes on.
                    pass
        return text

    def _check_expansion(self, expansion: re.Match[str]) -> None:
        computed = expansion["computed"] or ""
        for name in re.findall(r"[^\W\d]\w*", computed, re.ASCII):
            self._check_computed_name(name)
        if re.search(r"[$\[]", computed[3:]):
            raise _Unknown("$((")
        operator = _ZSH_OPERATOR.match(self._line, self.position)
        if operator is None or expansion["braced"]:
            return
        name = "in a line with a modifier of zsh"
        if operator[1]:
            name = "in a line with a subscript"
        raise _Unknown(
            name,
            "write ${x} in place of $x",
            changes_value=operator[0][-1] in (VALUE, PLAIN),
        )

    def _check_computed_name(self, name: str) -> None:
        """Check that a variable that is computed has only numbers in this line, so that no value comes to be in it."""
        assignment = rf"(?<![^\s;&|(]){name}={_NUMBER}(?=[\s;&|)]|\Z)"
        harmless = rf"{assignment}|\$(?:{name}\b|\{{{name}\}})|{_COMPUTED}"
        others = re.sub(harmless, "", self._line, flags=re.ASCII)
        if re.search(assignment, self._line, re.ASCII) is None or re.search(
            rf"\b{name}\b", others, re.ASCII
        ):
            raise _Unknown("$((")

    def _check_mark(self, word: str) -> None:
        self._check_name()
        found = _CHANGED_AFTER.search(word)
        if found is not None and (
            found[1] or self._line[self.position - 1] not in ("'", '"')
        ):
            raise _Unknown(f"after {word[-1]}", changes_value=True)
        following = re.match(
            r"[\2]?\d*([<>(])",
            self._line[self.position + 1 :].replace("\\\n", ""),
            re.ASCII,
        )
        if following is not None and (
            following[0] == "(" or re.fullmatch(r"[\d\0\1]*", word)
        ):
            name = f"directly before {following[1]}"
            raise _Unknown(
                name, f"put a blank before {following[0]}", changes_value=True
            )

    def _check_name(self) -> None:
        """Check that a value that stands here is not read as a part of a name before it."""
        before = self._line[: self.position]
        if self._next in (VALUE, PLAIN) and re.search(
            r"\$(?:\w+|[@*#?$!-]):?\Z", before, re.ASCII
        ):
            raise _Unknown(
                "after the name of a variable",
                "write ${x} in place of $x",
                changes_value=True,
            )

    def _refuse(self) -> None:
        """Raise the error for a text that no pattern knows."""
        found = _OPENER.match(self._line, self.position)
        opener = "" if found is None else found[0]
        after = self._line[self.position + len(opener) :][:1]
        if opener == "$" and after in ("'", '"'):
            opener = after
        name = opener if opener in _REMEDIES else f"after {opener}"
        raise _Unknown(
            name, changes_value=opener in ("\\", "$") and after in (VALUE, PLAIN)
        )


BUILTINS: Final = _words(
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
    """
)
"""The builtins and reserved words of shells. Any other name is a program or a function of the line."""
_ASSIGNMENT: Final = re.compile(r"([\w\0\1]+)(\[[^]]*\])?\+?=", re.ASCII)
_SHELL: Final = re.compile(
    r"(?:.*/)?(?:r?ba|da|a|z|[lmop]?k|t?c|fi|hu|po|ya)?sh[-.\d]*", re.DOTALL
)
"""Matches the name of a program that is a shell."""
_SHELL_OPTIONS: Final = r"(?:(?:[-+](?!\w*[cs])\w*[oO]\x05\w+|--(?:login|no\w+|posix)|[-+](?!\w*[csoO])\w+)\x05)*"
_SHELL_CODE: Final = re.compile(
    rf"{_SHELL_OPTIONS}(-(?=\w*c)\w++\x05{_SHELL_OPTIONS})?([^\x05]*)", re.ASCII
)
_SHELL_FILE: Final = re.compile(r"(?![-+]|/dev/|/proc/)[^\0-\3]+")
_REPLACED: Final = re.compile(r"\x05-\w*I\x05?([^\x05]+)")
"""Matches texts that `xargs` replaces by its input, beside `{}`."""
_PREFIXES: Final = _words("command builtin exec time - noglob nocorrect")
"""The words whose next word is a command, too."""
_CODE: Final = _words(
    "[[ alias declare emulate eval float integer let local nameref private setopt typeset unsetopt zmodload"
)
"""The builtins that run or compute their words, or let the shell compute variables: in no line with values."""
_EVALUATED: Final = (
    r"(?:(?:BASH|KSH|EPOCH)\w+|[RS]?PROMPT\w*|R?PS\d|(?:READ)?NULLCMD|E?[GU]ID|PPID|PGRP|USER_ID|ENV|HIST(?:CMD|SIZE)|SAVEHIST"
    r"|ARGC|FUNCNEST|LISTMAX|LOGCHECK|MAILCHECK|SHLVL|TRY_BLOCK_\w+|TTYIDLE|ZSH_SUBSHELL|status"
    r"|COLUMNS|LIN(?:ES|ENO)|S?RANDOM|SECONDS|OPTIND|TMOUT|KEYTIMEOUT|ERRNO|PIPESTATUS|DIRSTACK|FUNCNAME|GROUPS"
    r"|(?i:FPATH|MODULE_PATH))"
)
"""Matches the variables whose texts a shell computes or expands."""
_COMPARISON: Final = r"\x05-(?:eq|ne|lt|le|gt|ge|t)\x05"
_PLAIN_FORMAT: Final = r"""(?:[^%\\\0-\5]|\\[nt\\'"0]|%[-0-9.]*[%bcqs])*\x05"""
"""Matches a format of `printf` that takes no argument for a number."""
_SET_OPTION: Final = (
    "(?:[-+][aCeEfhmTuvxo]*|errexit|nounset|pipefail|noglob|noclobber|xtrace|verbose)"
)
_REFUSED: Final = (
    # Names of variables, of which a shell computes a part.
    ("getln getopts mapfile print read readarray repeat unset vared", False, r"[\0-\4]", _AS_WORD),
    ("read for", False, rf"\x05{_EVALUATED}\x05", "take a variable that no shell computes"),
    ("export readonly", False, r"\x05-|\x05[^=\0-\5]*[\0-\4][^=\5]*\x05", _AS_WORD),
    ("trap", False, r"[\0-\4]", _AS_WORD),
    ("set", False, rf"\A(?!(?:\x05{_SET_OPTION})*\x05(?:--\x05|\Z))", "write set -- before it"),
    # An expansion may be several words, and a value an operator. The name of a variable after -v is computed.
    ("test [", False, r"\x03", "put quotes around the expansion"),
    ("test [", False, r"\x05-v\x05|[\0-\4][^\0-\5]*\x05[^\0-\5]*[\0-\4]", _AS_WORD),
    ("test [", True, rf"\A(?=.*[\0-\4]).*{_COMPARISON}",
     "let expr compare them, or give the line to bash: PARALLEL_SHELL=bash"),
    ("printf", False, r"\x05-v\x05|\A\x05[^\5]*[\3{]", _AS_WORD),
    ("printf", True, rf"\A\x05(?!{_PLAIN_FORMAT})[^\5]*\x05(?!\Z)", _AS_WORD),
    ("break continue exit return shift ulimit umask wait", True, r"[\0-\4]", _AS_WORD),
)  # fmt: skip
"""For builtins, whether a row is only about shells that compute words, what it refuses among the words, and advice.

Each word stands between two `\5`. The names of `_EVALUATED` are those that `_check_assignment` refuses."""


def _check_command(words: Sequence[str], computes: bool, is_fed: bool) -> None:
    """Check that no value is code by its place or by its command, and that several values are no part of an assignment.

    Args:
        words: the words of the command.
        computes: whether the shell computes words that are no numbers.
        is_fed: whether a pipe is to the left of the command.

    Raises:
        _Unknown: one is.

    """
    for word in words:
        if MANY in word and _ASSIGNMENT.match(word):
            raise _Unknown(*_IS_MANY)
    assignments = [*itertools.takewhile(_ASSIGNMENT.match, words)]
    for word in assignments:
        _check_assignment(word)
    words = words[len(assignments) :]
    if not words:
        return
    while len(words) > 1 and words[0] in _PREFIXES:
        words = words[1:]
    name = words[0]
    if _UNQUOTED in name:
        raise _Unknown("after an expansion", 'write "$x" in place of $x')
    if "[" in name and name not in ("[", "[["):
        raise _Unknown("in a line with a subscript")
    if re.search(r"\{[^{]*,", name):
        raise _Unknown("beside a {")
    if name.startswith("-") or _MARKS.search(name):
        # The word may be empty, an option before a command, or a word that calls the next one.
        name = next((word for word in words if word in _CODE), name)
    if name in _CODE:
        raise _Unknown(f"in a line with {name}")
    _check_shell(words, is_fed)
    _check_builtin(name, words[1:], computes)


def _check_assignment(word: str) -> None:
    variable, _, value = word.partition("=")
    if "[" in variable:
        raise _Unknown("in a line with a subscript")
    if _MARKS.search(variable):
        raise _Unknown("in the name of a variable")
    is_evaluated = re.fullmatch(_EVALUATED, variable.rstrip("+"))
    if is_evaluated and not value.isdecimal():
        raise _Unknown(
            "in a line that sets a variable which shells compute",
            f"write env {variable}={{}} COMMAND",
        )


def _check_builtin(name: str, words: Sequence[str], computes: bool) -> None:
    """Check that a builtin computes and runs none of its words that a value may be in."""
    text = "\x05" + "".join(f"{word}\x05" for word in words)
    for names, is_computed, refused, remedy in _REFUSED:
        is_asked = name in names.split() and (computes or not is_computed)
        if is_asked and re.search(refused, text, re.DOTALL):
            raise _Unknown(f"after {name}", remedy)
    for word in words:
        if name == "trap":
            _Reader(word, computes).read_commands("")
        elif name in ("export", "readonly"):
            _check_assignment(word)


def _check_shell(words: Sequence[str], is_fed: bool) -> None:
    """Check that a shell, which a command is or calls, reads no value as its code, neither after `-c` nor by a pipe.

    Raises:
        _Unknown: it may do so.

    """
    name = os.path.basename(words[0])
    sources = name in (".", "source")
    if not sources and (name in BUILTINS or name == "grep"):
        return
    start = 0
    while not sources and not _SHELL.fullmatch(words[start]):
        start += 1
        if start == len(words):
            return
    option, code = _SHELL_CODE.findall("\x05".join(words[start + 1 :]))[0]
    if not (is_fed or option or sources):
        return
    replaced = []
    if start:
        replaced = ["{}", *_REPLACED.findall("\x05".join(words[:start]))]
    is_known = not _MARKS.search(code) and not any(text in code for text in replaced)
    if is_known and (option or _SHELL_FILE.fullmatch(code)):
        return
    shell = os.path.basename(words[start])
    where = f"in a line whose {shell} may read it"
    if option:
        where = f"after {shell} -c"
    raise _Unknown(where, 'pass it as "$1", as in: sh -c \'x "$1"\' - {}')
