r"""The gate for every value that becomes a part of a shell's line: where it may stand, and how it is quoted.

`trioflow batch`, t-strings and `SshJob(values=)` ask it. A place is safe because it is known to be: a value is quoted
outside of quotes, in a word of a command whose arguments no shell evaluates. In quotes, and where else its text is as
good as the text around it, only a value without special characters may stand; where a number is computed, a number.

A value reaches other parts of its line, by variables, pipes and functions. So a line with a value that has special
characters must be known as a whole: it computes with names that have numbers alone in it, and calls builtins of shells
in the forms of `_FORMS`. Backquotes and here-documents are not among what is known.

What is read is what all of bash, dash, zsh, ksh, mksh and busybox read in the same way. In the texts of words, a value
is one of the three marks below, and what a shell expands is `\3` or, in double quotes, `\4`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Iterable, Sequence
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
    line = "".join(_MARKS.sub("?", text) + mark for text, mark in zip(texts, [*marks, ""], strict=True))
    bare = re.sub(r"\\\n|[\"'\\]", "", line)  # in which a name that quotes divide is whole
    lexer = _Lexer(line, _texts_in(line) | _texts_in(bare), computes)
    try:
        _check_sums(line + "\n" + bare, lexer.texts)
        lexer.read()
        for words in lexer.commands:  # and those that are found in them
            _check_command(words, lexer, computes)
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
_MARKS: Final = re.compile("[\0-\5]")
_SUM: Final = (
    r"\(\([\w\s+*/%<>=!&|^~?:,.;$\#{}\2-]*?(?:\([\w\s+*/%<>=!&|^~?:$\#{}\2-]*\)[\w\s+*/%<>=!&|^~?:$\#{}\2-]*?)*\)\)"
)
_EXPANSION: Final = r"""
    \$(?P<name>[A-Za-z_]\w*|[0-9@*\#?$!-])
    | \$\{(?P<braced>\#?(?:\w+|[@*\#?$!-]))(?::?[-+?](?:[^{}'"`$\\\0-\2]|\$\w+)*|(?:%%?|\#\#?)[^{}'"`$\\\0-\2]*)?\}"""
_TOKEN: Final = re.compile(
    rf"""(?P<blank>[ \t]+) | (?P<continuation>(?<=[ \t])\\\n|\\\n(?=[ \t])) | \\(?P<escaped>[^\n\0-\2])
    | (?P<mark>[\0-\2]) | (?P<sum>\$?{_SUM}) | (?P<unknown>\$?\(\(|\$\[|<<-?(?!<)|\$'[^']*\\')
    | (?P<open>\$\(|[<>]\(|\$?") | \$?'(?P<single>[^']*)'
    | (?P<redirection>(?:\d+|\{{\w+\}})?(?:<<<|<>|>>|>\||[<>]&|[<>])|&>>?)
    | (?P<end>;;&|;&|;;|&&|\|\||\|&|[;|&\n]) | {_EXPANSION}
    | (?P<bracket>[()]) | (?P<literal>[^\s\\'"`$();&|<>\0-\2]+|[\r\f\v]|\$(?=[\s/.,:%]|\]|\Z))""",
    re.VERBOSE | re.ASCII,
)
_QUOTED_TOKEN: Final = re.compile(
    rf"""(?P<continuation>\\\n) | \\(?P<escaped>[^\0-\2]) | (?P<mark>[\0-\2]) | (?P<sum>\${_SUM})
    | (?P<unknown>\$\(\(|\$\[) | (?P<open>\$\(|") | {_EXPANSION} | (?P<literal>[^\\"`$\0-\2]+|\$(?![{{(\0-\2]))""",
    re.VERBOSE | re.ASCII,
)
_CHANGED_AFTER: Final = re.compile(r"(?:[^\w./:,=@%+*?{}\"'\[#\0-\4-]|\A=|(?:\A=|(?:\A|[=:])~)[^/:]*)\Z")
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
_CLOSERS: Final = {"$(": ")", "<(": ")", ">(": ")", "(": ")", '"': '"', '$"': '"'}
_RESERVED: Final = frozenset(["if", "then", "elif", "else", "fi", "while", "until", "do", "done", "!", "{", "}"])
_SET_BY_SHELLS: Final = frozenset(
    ["_", "argv", "BASH_ARGV", "BASH_COMMAND", "DIRSTACK", "dirstack", "OLDPWD", "OPTARG", "PWD", "REPLY", "reply"]
)


class _Unknown(Exception):
    """Raised for what is not known to be safe in a line with values; or changes the value there."""

    def __init__(self, name: str, remedy: str = _AS_WORD, *, changes_value: bool = False) -> None:
        self.name, self.remedy = _REMEDIES.get(name, (name, remedy))
        self.changes_value: Final = changes_value


def _texts_in(line: str) -> frozenset[str]:
    """Return the names that may stand for a variable with a text in a line: all but those that get numbers in it."""
    rest = re.sub(
        r"\b[A-Za-z_]\w*\+?=[\d\2]+(?=[\s;)&|]|\Z)|\$\{?#?\w+",
        "",
        re.sub(rf"\$?{_SUM}", NUMBER, line.replace("\\\n", "")),
    )
    return _SET_BY_SHELLS | set(re.findall(r"[A-Za-z_]\w*", rest))


def _check_sums(line: str, texts: Collection[str]) -> None:
    for text in re.findall(_SUM, line):
        names = set(re.findall(r"(?<![\w#])[A-Za-z_]\w*", text))
        if re.search(r"\$(?:\(|\{?[\d@*]|\{[^\w#])", text) or not names.isdisjoint(texts):
            raise _Unknown("in a line that computes", "compute only with names that the line gives nothing but numbers")


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
        texts: the names of variables that may have any text.
        count: how many values have been read.
        comments: the numbers of those in comments.
        commands: the commands that have ended.

    """

    def __init__(self, line: str, texts: Collection[str], computes: bool) -> None:
        self.texts: Final = texts
        self._computes: Final = computes
        self.count = 0
        self.comments: Final[set[int]] = set()
        self.commands: Final[list[list[str]]] = []
        self._line: Final = line
        self._position = 0
        self._stack: Final = [_Context("")]
        self._top = self._stack[0]
        self._last_kind = ""

    def read(self) -> None:
        """Read the line.

        Raises:
            _Unknown: it has something that not all shells read alike, or a value where they evaluate it.

        """
        while self._position < len(self._line):
            is_quoted = self._top.opener.endswith('"')
            if not is_quoted and self._top.word is None and self._line[self._position] == "#":
                self._read_comment()
                continue
            found = (_QUOTED_TOKEN if is_quoted else _TOKEN).match(self._line, self._position)
            if found is None:
                rest = self._line[self._position :]
                opener = "${" if rest.startswith("${") else rest[0]
                raise _Unknown(opener, changes_value=rest[1:2] < "\3" and len(rest) > 1)
            self._position = found.end()
            kind = found.lastgroup or ""
            self._read_token(kind, found[0], found[kind], is_quoted)
            if not (self._computes and found[0] == ":" and self._last_kind == "name"):
                self._last_kind = kind  # zsh takes what follows $x: for a modifier
        if len(self._stack) > 1:
            raise _Unknown(self._top.opener)
        self._end_command()

    def _read_token(self, kind: str, token: str, text: str, is_quoted: bool) -> None:
        top = self._top
        match kind:
            case "literal" if self._last_kind == "name" and text[0] == "[":
                raise _Unknown("in a line with a subscript", "write ${x}[ in place of $x[")  # zsh computes it
            case "literal" | "escaped":
                is_word = text in ("{", "{}") and top.word is None and self._line[self._position :][:1] <= " "
                is_plain = is_quoted or is_word or kind == "escaped" or "{" not in text
                self._add(text if is_plain else text + _UNQUOTED)  # braces may become several words
            case "mark":
                self._read_mark(text, is_quoted)
            case "single":
                if VALUE in text:
                    raise _Unknown("'")
                self.count += len(_MARKS.findall(text))
                self._add(_QUOTED if token[0] == "$" and re.search(r"\\[^nrt]", text) else text)
            case "name" | "braced":
                is_number = text in "#?$!" or text[0] == "#" or (text.isidentifier() and text not in self.texts)
                self._add(
                    NUMBER if is_number and token[1:].strip("{}") == text else _QUOTED if is_quoted else _UNQUOTED
                )
            case "sum":
                if token[0] == "(" and top.word is not None:
                    raise _Unknown("((")
                self.count += token.count(NUMBER)
                self._add(NUMBER)
            case "open" if token == _CLOSERS.get(top.opener):
                self._close()
                self._add(top.word or "")
            case "open":
                self._add("")
                self._open(token)
            case "blank":
                self._end_word()
            case "redirection":
                self._end_word()
                top.redirection = token
            case "end":
                self._end_command()
            case "bracket":
                self._read_bracket(token)
            case "unknown":
                raise _Unknown("'" if token[1] == "'" else "<<" if token[0] == "<" else token)
            case _:
                pass  # a shell removes the end of a line that is continued

    def _open(self, opener: str) -> None:
        self._top = _Context(opener)
        self._stack.append(self._top)

    def _close(self) -> None:
        self._stack.pop()
        self._top = self._stack[-1]

    def _read_comment(self) -> None:
        if self._position and self._line[self._position - 1] not in " \t\n;":
            raise _Unknown("beside a #")
        end = self._line.find("\n", self._position)
        end = len(self._line) if end < 0 else end
        numbers = range(self.count, self.count + len(_MARKS.findall(self._line, self._position, end)))
        self.comments.update(numbers)
        self.count, self._position = self.count + len(numbers), end

    def _add(self, text: str) -> None:
        self._top.word = (self._top.word or "") + text

    def _read_mark(self, mark: str, is_quoted: bool) -> None:
        word = self._top.word or ""
        following = self._line[self._position :].replace("\\\n", "")[:1]
        if self._last_kind == "name":
            raise _Unknown("after the name of a variable", "write ${x} in place of $x", changes_value=True)
        if is_quoted and mark == VALUE:
            raise _Unknown('"')
        if not is_quoted and word and _CHANGED_AFTER.search(word):
            raise _Unknown(f"after {word[-1]}", changes_value=True)
        if not is_quoted and (following == "(" or (following in ("<", ">") and re.fullmatch(r"[\d\0-\2]*", word))):
            raise _Unknown(f"directly before {following}", f"put a blank before {following}", changes_value=True)
        self.count += 1
        self._add(mark)

    def _read_bracket(self, bracket: str) -> None:
        top = self._top
        is_first = not top.words and top.word is None
        if bracket == ")" and top.cases:
            self._end_word()
            top.words.clear()
        elif bracket == ")" and _CLOSERS.get(top.opener) == ")":
            self._end_command()
            self._close()
            if top.opener == "(":
                self._top.words.clear()
            else:
                self._add(_QUOTED if self._top.opener.endswith('"') else _UNQUOTED)
        elif bracket == "(" and is_first:
            self._open("(")
        elif (
            bracket == "("
            and len(top.words) + (top.word is not None) == 1
            and self._line.startswith(")", self._position)
            and "=" not in (top.word or "")
        ):
            self._position += 1  # a function
            top.words, top.word = [], None
        else:
            raise _Unknown(f"after {bracket}")

    def _end_word(self) -> None:
        top, word = self._top, self._top.word
        if word is None:
            return
        operator, top.redirection, top.word = top.redirection.lstrip("0123456789"), "", None
        if operator:
            if operator not in ("<", ">", ">>", "<<<") and re.search(_ANY, word):
                raise _Unknown(f"after {operator}", "write > {} 2>&1 in place of >& {}")
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
_RUNNING: Final = frozenset(["command", "builtin", "exec", "time", "nocorrect", "noglob", "-", ""])
_NAME: Final = re.compile(r"[-\w.:@%+,~ \0-\2]*|[-\w.:@%+,~ \0-\2\4]*/[-\w./:@%+,~*? \0-\2\4]*|\[\[?")
"""Matches the name of a command that is a builtin only if it looks like one."""
EVALUATED: Final = re.compile(
    r"(?:BASH|KSH|EPOCH)\w+|[RS]?PROMPT\w*|R?PS\d|(?:READ)?NULLCMD|E?[GU]ID|PPID|PGRP|USER_ID|ENV|HIST(?:CMD|SIZE)|SAVEHIST"
    r"|COLUMNS|LIN(?:ES|ENO)|S?RANDOM|SECONDS|OPTIND|TMOUT|KEYTIMEOUT|ERRNO|PIPESTATUS|DIRSTACK|FUNCNAME|GROUPS"
    r"|(?i:FPATH|MODULE_PATH)"
)
"""The variables whose texts a shell computes or expands."""
_ASSIGNMENT: Final = re.compile(r"([\w\0-\2]+)(\[[^]]*\])?\+?=", re.ASCII)
# In a form, the words of a command are joined by \5: any words; a part of a word that may be any text; a word that no
# shell divides, one that is known, and a number.
_ANY: Final = "[\0\1\3\4]"
_WORDS: Final = ".*"
_SET_OPTION: Final = "(?:allexport|errexit|errtrace|noclobber|noglob|nounset|pipefail|verbose|xtrace)"
_WORD: Final = "[^\3\5]*"
_KNOWN: Final = "[^\0\1\3\4\5]*"
_NUMBER: Final = "-?[\\d\2]+"
_FORMAT_ALONE: Final = "[^\0-\5-][^\3\5]*"  # no option, and without arguments it computes nothing
_TEST: Final = (
    f"(?:!\5)*(?:{_WORD}|-[bcdefghkLnpOrsSuwxzGN]\5{_WORD}|{_WORD}\5(?:==?|!=|-nt|-ot|-ef)\5{_WORD}"
    f"|NUMBER\5-(?:eq|ne|lt|le|gt|ge)\5NUMBER)"
)
_TEST_OF_NUMBERS: Final = _TEST.replace("NUMBER", _NUMBER)
_TEST_OF_WORDS: Final = _TEST.replace("NUMBER", _WORD)
_FORMS: Final = {
    **dict.fromkeys([".", ":", "cd", "echo", "false", "kill", "pwd", "source", "true", "type", "which"], _WORDS),
    **dict.fromkeys(["break", "continue", "exit", "return", "shift"], f"(?:{_NUMBER})?"),
    **dict.fromkeys(["ulimit", "umask"], f"(?:-\\w+\5?)*(?:{_NUMBER}|unlimited)?"),
    **dict.fromkeys(["shopt", "wait", "trap", "hash", "jobs"], f"{_KNOWN}(?:\5{_KNOWN})*"),
    "read": "(?:(?:-[rs]*(?:[dnNptu]\5?[^\0-\5]*)?|[A-Za-z_]\\w*)(?:\5|\\Z))*",
    "unset": "[^\0-\4\\[]*",
    **dict.fromkeys(
        ["export", "readonly", "local", "declare", "typeset"],
        "(?:\5?(?:-[xrg]+|[A-Za-z_]\\w*(?:=[^\5]*)?)(?=\5|\\Z))*",
    ),
    "set": f"(?:[-+][aCeEfhmTuvx]*(?:o\5{_SET_OPTION})?(?:\5|\\Z))*(?:--(?:\5{_WORDS})?)?",
    "for": f"\2|\\w+(?:\5in(?:\5{_WORDS})?)?",
    "printf": f"{_FORMAT_ALONE}|(?:--\5)?(?!-)(?:{_KNOWN}(?:\5{_NUMBER})*"
    f"|(?:[^%\0\1\3\4\5]|%[-0-9.]*[%bcqs])*\5{_WORDS})",
    "test": _TEST_OF_NUMBERS,
    "[": f"{_TEST_OF_NUMBERS}\5\\]",
    "[[": f"{_TEST_OF_NUMBERS}\5\\]\\]",
}
"""The forms of the arguments with which a builtin of any shell evaluates nothing of what values may be."""
_FORMS_WITHOUT_COMPUTING: Final = {
    **_FORMS,
    **dict.fromkeys(["break", "continue", "exit", "return", "shift", "ulimit", "umask"], _WORDS),
    "printf": f"{_FORMAT_ALONE}|(?:--\5)?(?!-){_KNOWN}(?:\5{_WORDS})?",
    "test": _TEST_OF_WORDS,
    "[": f"{_TEST_OF_WORDS}\5\\]",
}


def _check_variables(words: Iterable[str]) -> None:
    for word in words:
        name, equals, value = word.partition("=")
        if EVALUATED.fullmatch(name.rstrip("+")) and not (equals and re.fullmatch(_NUMBER, value)):
            raise _Unknown("in a line that sets a variable which shells evaluate", f"write env {name}={{}} COMMAND")


def _check_command(words: list[str], lexer: _Lexer, computes: bool) -> None:
    """Check that a command evaluates nothing of what values may be.

    Raises:
        _Unknown: it may do so.

    """
    words = words.copy()
    _check_variables(words if words[0] in BUILTINS else itertools.takewhile(_ASSIGNMENT.match, words))
    while words and (match := _ASSIGNMENT.match(words[0])):
        if _MARKS.search(match[1]):
            raise _Unknown("in the name of a variable")
        if match[2]:
            raise _Unknown("in a line with a subscript")
        del words[0]
    while words and (name := words[0].replace(NUMBER, "")) in _RUNNING:  # a variable may be empty
        del words[0]
        while words and words[0].startswith("-"):
            del words[: 2 if (name, words[0]) == ("exec", "-a") else 1]
    name, arguments = (words or [""])[0].replace(NUMBER, ""), "\5".join(words[1:])
    if _NAME.fullmatch(name) is None:
        raise _Unknown("in a line whose command is not known", 'write its name or path, or: env "$x" {}')
    form = (_FORMS if computes else _FORMS_WITHOUT_COMPUTING).get(name)
    if name in BUILTINS and (form is None or re.fullmatch(form, arguments, re.DOTALL | re.ASCII) is None):
        raise _Unknown(f"after {name}", _QUOTE_EXPANSIONS if _UNQUOTED in arguments else _AS_WORD)
    if name == "trap":  # its text is a part of the line
        inner = _Lexer(" ".join(word for word in words[1:] if word != "--"), lexer.texts, computes)
        inner.read()
        lexer.commands.extend(inner.commands)
