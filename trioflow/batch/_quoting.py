"""Quoting for a shell, the choice of the shell, and the lines that need one."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from typing import Final

UNSAFE: Final = re.compile(r"[^+\-./0-9A-Z_a-z]")
"""Characters that GNU parallel quotes. A shell needs fewer; these keep the commands equal in both job logs."""
PLAIN: Final = re.compile(r"""(?:[ %+,\-./0-9:@A-Z_a-z]++|(?<=[^ ])=|'[^']*+'|"'")*+""")
"""A line that a shell would only split into words."""
SHELLS: Final = frozenset({"ash", "bash", "busybox", "dash", "ksh", "mksh", "sh", "zsh"})
"""Shells with POSIX quoting."""
BUILTINS: Final = frozenset(
    """
    . : [ [[ alias bg bind break builtin caller case cd command compgen complete continue coproc declare dirs disown
    do done echo elif else emulate enable esac eval exec exit export false fc fg fi for function getopts hash help
    history if in jobs kill let local logout mapfile noglob popd print printf pushd pwd read readarray readonly
    return select set setopt shift shopt source suspend test then time times trap true type typeset ulimit umask
    unalias unset until wait whence where which while
    """.split()  # noqa: SIM905 - eighty lines otherwise
)
"""Shell builtins, and programs that some shells have built in."""
INTEGER: Final = r"-?\d{1,9}"
EQUIVALENT_PROGRAMS: Final = {
    "true": re.compile(r"(?!--(?:help|version)\0$)(?:.*\0)*", re.DOTALL),
    "echo": re.compile(r"(?!-)[^\\]*"),
    "printf": re.compile(
        r"(?!-)(?:[^%\\\0]|\\[nt])*\0|(?!-)(?:[^%\\\0]|\\[nt]|%s)*%s(?:[^%\\\0]|\\[nt]|%s)*\0(?:[^\0]*\0)+"
    ),
    "test": re.compile(rf"-[defhLnsz]\0[^\0]*\0|{INTEGER}\0-(?:eq|ne|lt|le|gt|ge)\0{INTEGER}\0"),
}
"""For some builtins, a pattern of the arguments, each followed by a NUL, with which the program does the same.

There are no options, no backslashes for echo, no numbers for printf, and nothing that either would reject.

Without this, starting bash costs `true` and `echo` 21 to 25 % more CPU per command; dash, which runs its builtins
itself, costs 5 to 10 % less. (1,000 commands, two at a time, the best of 5 interleaved runs.)
"""


def quote(argument: str) -> str:
    """Return an argument as one word of a shell's line, quoted exactly as by GNU parallel.

    Example:
        >>> quote("a b"), quote("a/b.c"), quote("")
        ("'a b'", 'a/b.c', "''")

    """
    if not argument:
        return "''"
    if UNSAFE.search(argument) is None:
        return argument
    if "'" not in argument:
        return f"'{argument}'"
    return ("'" + argument.replace("'", "'\"'\"'") + "'").removeprefix("''").removesuffix("''")


class Shell:
    """The runner of lines. A plain line is run directly; a line with shell syntax or a builtin needs the shell.

    Args:
        environment: the variables of this process. `PARALLEL_SHELL` names the shell; else it is the one that started
        this process, else `SHELL`, else /bin/sh.

    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.path: Final = environment.get("PARALLEL_SHELL") or _usual_shell(environment)
        self._functions: Final = frozenset(
            name.removeprefix("BASH_FUNC_").removesuffix("%%") for name in environment if name.startswith("BASH_FUNC_")
        )
        self._is_program: Final = functools.cache(self._found)

    def command(self, line: str) -> list[str]:
        """Return the program and the arguments that run a line."""
        if PLAIN.fullmatch(line):
            words = shlex.split(line) if "'" in line else line.split()
            if (
                words
                and (words[0] not in BUILTINS or self._has_equivalent_program(words))
                and self._is_program(words[0])
            ):
                return words
        return [self.path, "-c", line]

    @staticmethod
    def _has_equivalent_program(words: list[str]) -> bool:
        same = EQUIVALENT_PROGRAMS.get(words[0])
        return same is not None and same.fullmatch("".join(f"{word}\0" for word in words[1:])) is not None

    def _found(self, word: str) -> bool:
        if "=" in word or word in self._functions:
            return False
        return shutil.which(word) is not None


def _usual_shell(environment: Mapping[str, str]) -> str:
    for path in (_parent_program(), environment.get("SHELL", "")):
        if os.path.basename(path) in SHELLS and os.access(path, os.X_OK):
            return path
    return "/bin/sh"


def _parent_program() -> str:
    """Return the program that started this one, according to /proc; empty without it."""
    try:
        return os.readlink(f"/proc/{os.getppid()}/exe")
    except OSError:
        return ""
