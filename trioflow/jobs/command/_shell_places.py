"""The analysis of a line of a POSIX shell: where a quoted value, put into it, is one word and no code.

`trioflow batch` asks it about the places of arguments, and `CommandJob` and `SshJob` about the values of a t-string.

A quoted value is still code where a shell evaluates what it has unquoted: in arithmetic, in `[[ ... ]]`, and as the
name of a variable, where a subscript such as `a[$(touch x)]` runs a command.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class UnsafePlace(NamedTuple):
    """A place of a command line where a quoted argument is not one word, so that a shell may run parts of it.

    Attributes:
        name: where the place is, such as "inside double quotes".
        remedy: what to write instead.

    """

    name: str
    remedy: str


_LEAVE_OUT_QUOTES: Final = 'leave the quotes out, as arguments are quoted anyway: -m "for "{} in place of -m "for {}"'
_AS_WORD: Final = "make it a word of its own, as in: expr {} + 1"
_QUOTES: Final = {
    '"': UnsafePlace("inside double quotes", _LEAVE_OUT_QUOTES),
    "'": UnsafePlace("inside single quotes", _LEAVE_OUT_QUOTES),
    "$'": UnsafePlace("inside $'...'", _LEAVE_OUT_QUOTES),
}
"""The quotes of a shell. A command substitution inside double quotes has quoting of its own."""
_ARITHMETIC: Final = {opener: UnsafePlace(f"inside {opener} ... {end}", _AS_WORD) for opener, end in (
    ("$((", "))"), ("((", "))"), ("$[", "]"), ("${", "}"))}  # fmt: skip
"""Expressions, which a shell expands once more although they are quoted."""
_OPAQUE: Final = {
    **_ARITHMETIC,
    "`": UnsafePlace("inside backquotes", "write $(...) in place of `...`"),
    "<<": UnsafePlace("after the beginning of a here-document", "pipe it in, as in: printf '%s\\n' {} | COMMAND"),
}
"""Constructs in which no quoting protects, at any depth."""
_PREFIXES: Final = {
    prefix: UnsafePlace(f"after {prefix}", f"leave the {prefix} out, since arguments are quoted anyway")
    for prefix in ("\\", "$")
}
"""Characters that change the meaning of the quote after them."""
_SHELL_TOKEN: Final = re.compile(r"\\.?|\$\(\(|\$[$!?@*#0-9-]|\$[('\"{\[]|\(\(|<<<|<<|.", re.DOTALL)
_TOKENS: Final = {
    "'": re.compile(r"'|[^']+"),
    "#": re.compile(r"\n|[^\n]+"),
    "$'": re.compile(r"\\.|.", re.DOTALL),
    '"': re.compile(r"\\.|\$\(\(|\$[({\[]|.", re.DOTALL),
}
"""Matches a token inside a construct. In all others, `_SHELL_TOKEN` does."""
_CLOSERS: Final = {"'": "'", "$'": "'", '"': '"', "#": "\n", "(": ")", "$(": ")", "${": "}", "$[": "]"}
_WORD_ENDS: Final = frozenset(" \t\n;|&()<>`")


_TEST: Final = UnsafePlace("inside [[ ... ]]", "write [ ... ], which evaluates no argument, as in: [ {} -gt 5 ]")
_IN_LINE: Final = "write the name of the variable into the line"
_LEADING_WORD: Final = re.compile(r"[\w.]+\+?=.*|if|then|elif|else|while|until|do|!|time|\{|command|builtin|exec")
"""Matches a word before the name of a command: an assignment, a reserved word, or a builtin that runs the command."""
_DECLARING: Final = frozenset({"declare", "typeset", "local", "integer", "float", "export", "readonly"})
_NAMING: Final = frozenset({"unset", "read", "getopts", "mapfile", "readarray"})
_SUBSCRIPT: Final = re.compile(r"\w\[[^]\s]*$")


def _unsafe_in_command(text: str) -> UnsafePlace | None:
    """Return why a quoted value is code at the end of a command, although it is one word there; None if it is not.

    Args:
        text: the text of the command before the value, with `_` in place of what is quoted or in parentheses.

    """
    if _SUBSCRIPT.search(text):
        return UnsafePlace("inside a subscript", _IN_LINE)
    words = text.split()
    begins_word = not text or text[-1].isspace()
    while words and _LEADING_WORD.fullmatch(words[0]):
        del words[0]
    if len(words) < 2 - begins_word or (text.rstrip()[-1:] in ("<", ">") and words[0] != "[["):
        return None  # it is the command itself, or a file
    name, *others = words
    if name == "[[" and "]]" not in others:
        return _TEST
    if name == "let":
        return UnsafePlace("after let", _AS_WORD)
    if name in _DECLARING:
        if name in ("integer", "float") or any(re.fullmatch(r"-\w*[iEF]\w*", word) for word in others):
            return UnsafePlace(f"in a number for {name}", _AS_WORD)
        if name not in ("export", "readonly") and (begins_word or "=" not in others[-1]):
            return UnsafePlace(f"in a name for {name}", _IN_LINE)
    if name in _NAMING or (name in ("test", "[", "printf") and begins_word and others[-1:] in (["-v"], ["-R"])):
        return UnsafePlace(f"in a name for {name}", _IN_LINE)
    return None


class QuotingState:
    """The quoting at a place of a POSIX command line, after the text before it has been read.

    Example:
        >>> state = QuotingState()
        >>> state.read("ls -l ")
        >>> state.unsafe_place
        >>> state.read('"$(cat ')  # a command substitution has quoting of its own
        >>> state.unsafe_place
        >>> state.read(") ")
        >>> state.unsafe_place.name
        'inside double quotes'

    """

    def __init__(self) -> None:
        self._openers: Final[list[str]] = []  # of the open constructs, outermost first
        self._commands: Final = [""]  # the text of the simple command outside all of them, and inside each
        self._last_token = " "

    @property
    def is_comment(self) -> bool:
        """Whether the place is in a comment, which ends at a newline, even a quoted one."""
        return self._innermost == "#"

    @property
    def unsafe_place(self) -> UnsafePlace | None:
        """The reason why a quoted argument is not one word here; None if it is."""
        for opener in self._openers:
            if opener in _OPAQUE:
                return _OPAQUE[opener]
        place = _QUOTES.get(self._innermost) or _PREFIXES.get(self._last_token)
        return place or next(filter(None, map(_unsafe_in_command, self._open_commands)), None)

    def read(self, text: str) -> None:
        position = 0
        while position < len(text):
            match = _TOKENS.get(self._innermost, _SHELL_TOKEN).match(text, position)
            assert match is not None
            position = match.end() + self._read_token(match[0], text[match.end() : match.end() + 1])

    def read_argument(self) -> None:
        self._last_token = ""
        self._commands[-1] += "_"

    @property
    def _innermost(self) -> str:
        return self._openers[-1] if self._openers else ""

    @property
    def _open_commands(self) -> list[str]:
        """The commands that the place belongs to: one, and those around its parentheses."""
        depth = len(self._openers)
        while depth and self._openers[depth - 1] == "(":
            depth -= 1
        return self._commands[depth:]

    @property
    def _is_in_test(self) -> bool:
        return any(_unsafe_in_command(command) is _TEST for command in self._open_commands)

    def _open(self, opener: str) -> None:
        self._openers.append(opener)
        self._commands.append("")

    def _close(self, count: int = 1) -> None:
        del self._openers[-count:], self._commands[-count:]
        self._commands[-1] += "_"

    def _read_token(self, token: str, following: str) -> int:
        """Read a token, and return how many further characters belong to it."""
        innermost, last_token, self._last_token = self._innermost, self._last_token, token
        is_arithmetic = not _ARITHMETIC.keys().isdisjoint(self._openers)
        if token == _CLOSERS.get(innermost):
            self._close()
            if token in ("\n", ")") and innermost != "$(" and not self._is_in_test:
                self._commands[-1] = ""
        elif innermost in ("'", "$'", "#"):
            pass
        elif token == "`":
            if "`" in self._openers:
                self._close(len(self._openers) - self._openers.index("`"))
            else:
                self._open("`")
        elif token in ('"', "$(", "$((", "${", "$["):
            self._open(token)
        elif innermost == '"':
            pass
        elif token in ("'", "$'", "(", "(("):
            self._open(token)
        elif token == '$"':
            self._open('"')
        elif token == ")" and innermost in ("((", "$(("):
            self._close()
            if following == ")":
                return 1
            self._open("(")  # these were two subshells
        elif token == "<<" and not is_arithmetic:
            self._open("<<")
        elif token == "#" and last_token[-1:] in _WORD_ENDS and not is_arithmetic:
            self._open("#")
        elif token in (";", "|", "&", "\n", ")") and not (self._is_in_test or last_token + token in ("<&", ">&")):
            self._commands[-1] = ""
        else:
            self._commands[-1] += token
        return 0
