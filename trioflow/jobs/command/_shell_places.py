r"""The gate for every value that becomes a part of a shell's line: where it may stand, and how it is quoted.

`trioflow batch`, t-strings and `SshJob(values=)` ask it. A place is safe because it is known to be: a value is quoted
outside of quotes, in a word of a command whose arguments no shell evaluates. In quotes, and where else its text is as
good as the text around it, only a value without special characters may stand; where a number is computed, a number.

A value reaches other parts of its line, by variables, pipes and functions. So a line with a value that has special
characters must be known as a whole: it computes with names that it gives numbers to, and runs no text as code.

What is read is what all of bash, dash, zsh, ksh, mksh and busybox read in the same way. In the texts of words, a value
is one of the three marks below, and what a shell expands is `\3NAME\5` or, in double quotes, `\4NAME\5`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

VALUE: Final = "\0"
PLAIN: Final = "\1"
NUMBER: Final = "\2"
"""The marks of values: of any value, of one without special characters, and of a number."""
ANY_SHELL: Final = "any"
"""In place of the path of a shell: the line must be safe in each of them."""
PLAIN_VALUE: Final = re.compile(r"[+\-./0-9A-Z_a-z]+")
"""Matches a value that needs no quotes. Shells need fewer, but these make the job logs of batches those of parallel."""
NUMBER_VALUE: Final = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)


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
    return NUMBER if NUMBER_VALUE.fullmatch(value) else PLAIN if PLAIN_VALUE.fullmatch(value) else VALUE


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
        shell: the path of the shell that will run the line; "" for that of a node, where `node_guard` stands before it.

    Raises:
        UnsafePlaceError: a value is somewhere else.

    """
    computes = bool(shell) and os.path.basename(os.path.realpath(shell)) not in NOT_COMPUTING
    lexer = _Lexer("".join(_MARKS.sub("?", text) + mark for text, mark in zip(texts, [*marks, ""], strict=True)))
    try:
        lexer.read()
        _Commands(lexer, computes).check()
    except _Unknown as error:
        # A line of values without special characters is as if the user had written it.
        if error.changes_value or VALUE in marks:
            number = lexer.count
            if not error.changes_value:
                number = marks.index(VALUE, number if VALUE in marks[number:] else 0)
            raise UnsafePlaceError(number, error.name, error.remedy) from None
    return [number in lexer.comments for number in range(len(marks))]


def node_guard(texts: Sequence[str], marks: Sequence[str]) -> str:
    """Return what stands before a line on a node: where its shell must not compute, it ends if the shell does."""
    try:
        check_places(texts, marks, ANY_SHELL)
    except UnsafePlaceError:
        return _GUARD
    return ""


_GUARD: Final = (
    "case ${KSH_VERSION-}${ZSH_VERSION-}${YASH_VERSION-} in ?*) echo 'trioflow: the sh of this node computes values; "
    "pass them as $1' >&2; exit 126;; esac\n"
)
NOT_COMPUTING: Final = frozenset({"bash", "dash", "ash", "busybox"})
"""The shells whose builtins take no argument for an expression: what is no number is an error."""
_UNQUOTED: Final = "\3"
_QUOTED: Final = "\4"
_END: Final = "\5"
_MARKS: Final = re.compile("[\0-\5]")
_UNKNOWN_TEXT: Final = re.compile("[\0\1\3\4]")
"""Matches a part of a word that may be any text."""
_SUM: Final = r"\(\([\w\s+*/%<>=!&|^~?:,.;()$\#{}\2-]*?\)\)"
_EXPANSION: Final = r"""
    \$(?P<name>[A-Za-z_]\w*|[0-9@*\#?$!-])
    | \$\{(?P<braced>\#?(?:\w+|[@*\#?$!-])(?:\[(?:\d+|[@*])\])?)(?::?[-+?](?:[^{}'"`$\\\0-\2]|\$\w+)*
        | (?:%%?|\#\#?|//?|\^\^?|,,?)[^{}'"`$\\\0-\2]* | :\d+(?::\d+)?)?\}"""
_TOKEN: Final = re.compile(
    rf"""(?P<blank>[ \t]+) | (?P<continuation>\\\n) | \\(?P<escaped>[^\0-\2]) | (?P<mark>[\0-\2])
    | (?P<sum>\$?{_SUM}) | (?P<unknown>\$?\(\(|\$\[)
    | (?P<open>\$\(|[<>]\(|`|\$?") | \$?'(?P<single>[^']*)' | \$'(?P<ansi>(?:[^'\\]|\\[^'])*)'
    | (?P<redirection>(?:\d+|\{{\w+\}})?(?:<<<|<<-?|<>|>>|>\||[<>]&|[<>])|&>>?)
    | (?P<end>;;&|;&|;;|&&|\|\||\|&|[;|&\n]) | {_EXPANSION}
    | (?P<bracket>[()]) | (?P<literal>[^\s\\'"`$();&|<>\0-\2]+|[\r\f\v]|\$(?=[\s/.,:%+]|\]|\Z))""",
    re.VERBOSE | re.ASCII,
)
_QUOTED_TOKEN: Final = re.compile(
    rf"""\\(?P<escaped>[^\0-\2]) | (?P<mark>[\0-\2]) | (?P<sum>\${_SUM}) | (?P<unknown>\$\(\(|\$\[)
    | (?P<open>\$\(|`|") | {_EXPANSION} | (?P<literal>[^\\"`$\0-\2]+|\$(?![{{(\0-\2]))""",
    re.VERBOSE | re.ASCII,
)
_CHANGED_AFTER: Final = re.compile(r"(?:[^\w./:,=@%+*?{}\"'\[#\0-\5-]|\A=)\Z")
"""Matches what changes a value after it: `~` and `=` expand it, and what else is not known."""
_AS_WORD: Final = 'make it a word of its own, or pass it as "$1", as in: sh -c \'x "$1"\' - {}'
_LEAVE_OUT_QUOTES: Final = 'leave the quotes out, as arguments are quoted anyway: -m "for "{} in place of -m "for {}"'
_REMEDIES: Final = {
    '"': ("inside double quotes", _LEAVE_OUT_QUOTES),
    "'": ("inside single quotes", _LEAVE_OUT_QUOTES),
    "`": ("inside backquotes", "write $(...) in place of `...`"),
    "<<": ("after the beginning of a here-document", "pipe it in, as in: printf '%s\\n' {} | COMMAND"),
    **{opener: (f"inside {opener} ... {end}", "make it a word of its own, as in: expr {} + 1")
       for opener, end in (("$((", "))"), ("((", "))"), ("$[", "]"), ("${", "}"))},
    **{prefix: (f"after {prefix}", f"leave the {prefix} out, since arguments are quoted anyway") for prefix in "\\$"},
}  # fmt: skip
_SUBSCRIPT: Final = re.compile(r"\w\[[^\]]*\Z")
_PRINTS_NUMBER: Final = re.compile(r"wc( -\w+)*|nproc|grep -c \S+ \S+")
_CLOSERS: Final = {"$(": ")", "<(": ")", ">(": ")", "(": ")", "`": "`", '"': '"', '$"': '"'}
_RESERVED: Final = frozenset(["if", "then", "elif", "else", "fi", "while", "until", "do", "done", "!", "{", "}"])


class _Unknown(Exception):
    """Raised for what is not known to be safe in a line with values; or changes the value there."""

    def __init__(self, name: str, remedy: str = _AS_WORD, *, changes_value: bool = False) -> None:
        self.name, self.remedy = _REMEDIES.get(name, (name, remedy))
        self.changes_value: Final = changes_value


@dataclass(slots=True)
class _Context:
    """What a bracket or a quote has opened."""

    opener: str
    words: list[str] = field(default_factory=list[str])  # of the command
    word: str | None = None  # what its last word has so far; None between words
    redirection: str = ""  # the operator before the last word
    cases: int = 0  # how many `case` are open, in which a `)` ends a pattern


class _Lexer:
    """Reads a line with marks into simple commands, which are lists of words without their quotes.

    Attributes:
        count: how many values have been read.
        comments: the numbers of those in comments.
        commands: the commands that have ended.
        sums: the texts of what is computed.

    """

    def __init__(self, line: str) -> None:
        self.count = 0
        self.comments: Final[set[int]] = set()
        self.commands: Final[list[list[str]]] = []
        self.sums: Final[list[str]] = []
        self._line: Final = line
        self._position = 0
        self._stack: Final = [_Context("")]
        self._here_ends: Final[list[str]] = []
        self._last_kind = ""

    def read(self) -> None:
        """Read the line.

        Raises:
            _Unknown: it has something that not all shells read alike, or a value where they evaluate it.

        """
        while self._position < len(self._line):
            if not self._is_quoted and self._top.word is None and self._line[self._position] == "#":
                self._read_comment()
                continue
            found = (_QUOTED_TOKEN if self._is_quoted else _TOKEN).match(self._line, self._position)
            if found is None:
                rest = self._line[self._position :]
                raise _Unknown(
                    "${" if rest.startswith("${") else rest[0], changes_value=rest[1:2] < "\3" and len(rest) > 1
                )
            kind = found.lastgroup or ""
            self._position = found.end()
            if self._is_in_backquotes and (kind == "escaped" or found[0] == '"'):
                raise _Unknown("`")  # shells differ in what such a character means there
            match kind:
                case "literal" | "escaped":
                    self._add(found[kind])
                case "single" | "ansi":
                    self._read_text(found[kind])
                case "name":
                    self._add_expansion(found[kind])
                case "blank":
                    self._end_word()
                case "continuation":
                    pass  # a shell removes it
                case "unknown":
                    raise _Unknown(found[0])
                case _:
                    getattr(self, f"_read_{kind}")(found)
            self._last_kind = kind
        if len(self._stack) > 1:
            raise _Unknown(self._top.opener)
        self._end_command()

    @property
    def _top(self) -> _Context:
        return self._stack[-1]

    @property
    def _is_quoted(self) -> bool:
        return self._top.opener.endswith('"')

    @property
    def _is_in_backquotes(self) -> bool:
        return any(context.opener == "`" for context in self._stack)

    def _read_comment(self) -> None:
        if self._position and self._line[self._position - 1] not in " \t\n;":
            raise _Unknown("beside a #")
        end = self._line.find("\n", self._position)
        end = len(self._line) if end < 0 else end
        numbers = range(self.count, self.count + len(_MARKS.findall(self._line, self._position, end)))
        self.comments.update(numbers)
        self.count, self._position = self.count + len(numbers), end

    # ---- parts of words

    def _add(self, text: str) -> None:
        self._top.word = (self._top.word or "") + text

    def _add_expansion(self, name: str) -> None:
        self._add(
            NUMBER if name in ("#", "?", "$", "!") else f"{_QUOTED if self._is_quoted else _UNQUOTED}{name}{_END}"
        )

    def _read_mark(self, match: re.Match[str]) -> None:
        mark, word = match[0], self._top.word or ""
        following = self._line[self._position :].replace("\\\n", "")[:1]
        if self._last_kind == "name":
            raise _Unknown("after the name of a variable", "write ${x} in place of $x", changes_value=True)
        if not self._is_quoted:
            if word and _CHANGED_AFTER.search(word):
                raise _Unknown(f"after {word[-1]}", changes_value=True)
            if following == "(" or (following in ("<", ">") and re.fullmatch(r"[\d\0-\2]*", word)):
                raise _Unknown(f"directly before {following}", f"put a blank before {following}", changes_value=True)
        if mark == VALUE and (self._is_quoted or self._is_in_backquotes or _SUBSCRIPT.search(word)):
            raise _Unknown('"' if self._is_quoted else "`" if self._is_in_backquotes else "inside a subscript")
        self.count += 1
        self._add(mark)

    def _read_text(self, text: str) -> None:
        if VALUE in text or ("\n" in text and self._here_ends):
            raise _Unknown("'")
        self.count += len(_MARKS.findall(text))
        self._add(text)

    def _read_braced(self, match: re.Match[str]) -> None:
        is_length = match["braced"].startswith("#")
        self._add_expansion("#" if is_length else match["braced"] if match[0] == f"${{{match['braced']}}}" else "")

    def _read_sum(self, match: re.Match[str]) -> None:
        if match[0][0] == "(" and self._top.word is not None:
            raise _Unknown("((")
        self.count += match[0].count(NUMBER)
        self.sums.append(match[0])
        self._add(NUMBER)

    def _read_open(self, match: re.Match[str]) -> None:
        if match[0] == _CLOSERS.get(self._top.opener):
            self._close()
        else:
            self._add("")
            self._stack.append(_Context(match[0]))

    def _close(self) -> None:
        text = self._top.word or ""
        if self._is_quoted:
            self._stack.pop()
            self._add(text)
            return
        self._end_command()
        opener = self._stack.pop().opener
        if opener == "(":
            self._top.words.clear()
        elif self.commands and _PRINTS_NUMBER.fullmatch(" ".join(self.commands[-1])):
            self._add(NUMBER)
        else:
            self._add_expansion("")

    # ---- commands

    def _read_redirection(self, match: re.Match[str]) -> None:
        self._end_word()
        self._top.redirection = match[0]

    def _read_bracket(self, match: re.Match[str]) -> None:
        top = self._top
        if match[0] == ")":
            if top.cases:
                self._end_word()
                top.words.clear()
            elif _CLOSERS.get(top.opener) == ")":
                self._close()
            else:
                raise _Unknown("after )")
        elif not top.words and top.word is None:
            self._stack.append(_Context("("))
        elif len([*top.words, *[top.word] * (top.word is not None)]) == 1 and self._line[self._position] == ")":
            self._position += 1  # a function
            top.words, top.word = [], None
        else:
            raise _Unknown("after (")

    def _read_end(self, match: re.Match[str]) -> None:
        self._end_command()
        while match[0] == "\n" and self._here_ends:
            body_pattern = re.compile(rf"(?:.*\n)*?\t*{re.escape(self._here_ends.pop(0))}(?:\n|\Z)")
            body = body_pattern.match(self._line, self._position)
            text = self._line[self._position :] if body is None else body[0]
            if re.search("[\0`]|\\$[({[]", text):
                raise _Unknown("<<")
            self.count, self._position = self.count + len(_MARKS.findall(text)), self._position + len(text)

    def _end_word(self) -> None:
        top, word = self._top, self._top.word
        if word is None:
            return
        operator, top.redirection, top.word = top.redirection.lstrip("0123456789"), "", None
        if operator:
            if operator not in ("<", ">", ">>", "<<<") and _UNKNOWN_TEXT.search(word):
                raise _Unknown(f"after {operator}", "write > {} 2>&1 in place of >& {}")
            if operator.startswith("<<") and operator != "<<<":
                self._here_ends.append(word)
            return
        top.words.append(word)
        if len(top.words) == 1 and word == "esac":
            top.cases -= 1
        if (len(top.words) == 1 and word in _RESERVED | {"esac"}) or (top.words[0], top.words[2:]) == ("case", ["in"]):
            top.cases += word == "in"
            top.words.clear()

    def _end_command(self) -> None:
        self._end_word()
        if self._top.words:
            self.commands.append(self._top.words)
        self._top.words = []


BUILTINS: Final = frozenset(
    """
    . : [ [[ alias autoload bg bind bindkey break builtin bye caller case cd chdir command compadd comparguments
    compcall compctl compdescribe compfiles compgen compgroups complete compopt compquote compset comptags comptry
    compvalues continue coproc declare dirs disable disown do done echo echotc echoti elif else emulate enable end
    esac eval exec exit export false fc fg fi float for foreach function functions getln getopts global hash help
    history if in integer jobs kill let limit local log logout mapfile nocorrect noglob popd print printf private
    pushd pushln pwd r read readarray readonly rehash repeat return sched select set setopt shift shopt source stat
    suspend test then time times trap true ttyctl type typeset ulimit umask unalias unfunction unhash unlimit unset
    unsetopt until vared wait whence where which while zcompile zformat zle zmodload zparseopts zregexparse zstyle
    """.split()  # noqa: SIM905 - eighty lines otherwise
)
"""The builtins and reserved words of shells. What has another name is a program or a function of the line."""
_TEXT_BUILTINS: Final = frozenset([".", ":", "cd", "echo", "false", "kill", "pwd", "source", "true", "type", "which"])
"""Those that evaluate none of their arguments."""
_NAMING: Final = frozenset(["read", "unset", "getopts", "mapfile", "readarray"])
_SETTING_NOTHING: Final = frozenset(["[", "[[", "eval", "exit", "let", "printf", "set", "test", "trap"])
_DECLARING: Final = frozenset(["export", "readonly", "local", "declare", "typeset"])
_RUNNING: Final = frozenset(["command", "builtin", "exec", "time", "nocorrect", "noglob"])
_UNARY: Final = re.compile(r"-[bcdefghkLnpOrsSuwxzGN]")
_BINARY: Final = frozenset({"=", "==", "!=", "-nt", "-ot", "-ef"})
_NUMERIC: Final = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge"})
_TEXT_FORMAT: Final = re.compile(r"(?:[^%]|%[-0-9.]*[%bcqs])*")
_SET_BY_SHELLS: Final = frozenset(
    ["_", "argv", "BASH_ARGV", "BASH_COMMAND", "MAPFILE", "OLDPWD", "OPTARG", "PWD", "REPLY"]
)
_EXPANDED: Final = re.compile(f"[{_UNQUOTED}{_QUOTED}]([^{_END}]*){_END}")
_ASSIGNMENT: Final = re.compile(r"([\w\0-\2]+)(\[[^]]*\])?\+?=(.*)", re.DOTALL | re.ASCII)


class _Commands:
    """The simple commands of a line with values, and what reaches the variables of its shell."""

    def __init__(self, lexer: _Lexer, computes: bool) -> None:
        self._commands: Final = lexer.commands
        self._sums: Final = lexer.sums
        self._computes: Final = computes
        self._any_texts: Final = set(_SET_BY_SHELLS)

    def check(self) -> None:
        """Check that no command evaluates what a value may be.

        Raises:
            _Unknown: one may do so.

        """
        for words in self._commands:  # and those that are found in them
            name, *arguments = words
            if name in ("eval", "trap") and arguments and not _UNKNOWN_TEXT.search("".join(arguments)):
                inner = _Lexer(" ".join(arguments))
                inner.read()
                self._commands.extend(inner.commands)
                self._sums.extend(inner.sums)
            self._note_assignments(name, arguments, words)
        if any(re.search(r"\$\{?[\d@*]", text) or self._names(text) & self._any_texts for text in self._sums):
            raise _Unknown("in a line that computes", "compute only with names that the line gives no values to")
        for words in self._commands:
            self._check_command([_EXPANDED.sub(self._known_or_not, word) for word in words])

    @staticmethod
    def _names(*texts: str) -> set[str]:
        return set(re.findall(r"(?<![\w#])[A-Za-z_]\w*", " ".join(texts)))

    def _note_assignments(self, name: str, arguments: Sequence[str], words: Sequence[str]) -> None:
        assigned = [match[1] for match in map(_ASSIGNMENT.match, words) if match and _UNKNOWN_TEXT.search(match[3])]
        if name == "for" and (len(arguments) == 1 or _UNKNOWN_TEXT.search("".join(arguments))):
            assigned.append(arguments[0])
        elif name in BUILTINS and name not in _TEXT_BUILTINS | _DECLARING | _SETTING_NOTHING:
            assigned += self._names(*arguments)
        self._any_texts.update(assigned)

    def _known_or_not(self, match: re.Match[str]) -> str:
        """Return a number in place of a variable that no value has reached, since it is as good as one."""
        return match[0] if match[1] in self._any_texts or not match[1].isidentifier() else NUMBER

    def _check_command(self, words: list[str]) -> None:
        while words and (match := _ASSIGNMENT.match(words[0])):
            if re.search("[\0\1]", match[1]):
                raise _Unknown("in the name of a variable")
            if match[2] and not re.fullmatch(r"\[\d+\]", match[2]):
                raise _Unknown("in a line with a subscript", _AS_WORD)
            del words[0]
        while words and words[0] in _RUNNING:
            del words[0]
            while words and words[0].startswith("-"):
                del words[0]
        if not words:
            return
        name, *arguments = words
        if re.search("[\3\4]", name) and ("/" not in name or _UNQUOTED in name):
            raise _Unknown("in a line whose command is the value of a variable")
        if name in BUILTINS and name not in _TEXT_BUILTINS and not self._is_text(name, arguments):
            raise _Unknown(f"after {name}")

    def _is_text(self, name: str, arguments: list[str]) -> bool:
        """Return whether a builtin evaluates nothing of what values may be."""
        match name:
            case "[" | "[[" | "test":
                if name != "test" and arguments[-1:] != [{"[": "]", "[[": "]]"}[name]]:
                    return False
                arguments = arguments if name == "test" else arguments[:-1]
                is_text = _is_text_test(arguments, set() if self._computes or name == "[[" else _NUMERIC)
            case "printf":
                if len(arguments) == 1:
                    return not re.match("[-\0-\5]", arguments[0])
                formats = arguments[arguments[:1] == ["--"] :][:1]
                is_text = not _UNKNOWN_TEXT.search("".join(formats)) and not "".join(formats).startswith("-")
                is_text = is_text and (not self._computes or bool(_TEXT_FORMAT.fullmatch("".join(formats))))
            case "for":
                is_text = arguments == [NUMBER] or bool(
                    re.fullmatch(r"\w+", "".join(arguments[:1])) and arguments[1:2] in ([], ["in"])
                )
            case "break" | "continue" | "exit" | "return" | "shift" | "ulimit" | "umask":
                is_text = not self._computes
            case "set":
                is_text = arguments[:1] == ["--"]
            case _:
                is_text = name in _DECLARING and all(re.match(r"[A-Za-z_]\w*(?:=|\Z)", text) for text in arguments)
        if is_text or _UNKNOWN_TEXT.search("".join(arguments)):
            return is_text
        if name in ("eval", "trap"):
            return True  # its text is a part of the line
        if name in _NAMING:
            return "[" not in "".join(arguments)
        return self._any_texts.isdisjoint(self._names(*arguments))


def _is_text_test(arguments: list[str], numeric: Collection[str]) -> bool:
    match arguments:
        case ["!", _, *_]:
            return _is_text_test(arguments[1:], numeric)
        case [_]:
            pass
        case [operator, _] if _UNARY.fullmatch(operator):
            pass
        case [_, operator, _] if operator in _BINARY or operator in numeric:
            pass
        case _:
            return False
    return "\3" not in "".join(arguments)
