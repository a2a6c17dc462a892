"""The choice of the shell, and whether a command line needs a shell."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from typing import Final

from ..jobs.command._shell_places import BUILTINS

PLAIN_LINE: Final = re.compile(r"""(?:[ %+,\-./0-9:@A-Z_a-z]++|(?<=[^ ])=|'[^']*+'|"'")*+""")
"""Matches a line with no shell syntax except quotes and `=`. A shell would only split it into words and remove the
quotes, unless it begins with an assignment; `Shell.command` rules that out, because no program has such a name."""
POSIX_SHELLS: Final = frozenset({"ash", "bash", "busybox", "dash", "ksh", "mksh", "sh", "zsh"})
INTEGER: Final = r"-?\d{1,9}"
EQUIVALENT_PROGRAM_ARGUMENTS: Final = {
    "true": re.compile(r"(?!--(?:help|version)\0$).*", re.DOTALL),
    "echo": re.compile(r"(?!-)[^\\]*"),
    "printf": re.compile(r"(?!-)(?:(?:[^%\\\0]|\\[nt])*+\0|(?=[^\0]*%s)(?:[^%\\\0]|\\[nt]|%s)*+\0(?:[^\0]*+\0)++)"),
    "test": re.compile(rf"-[defhLnsz]\0[^\0]*\0|{INTEGER}\0-(?:eq|ne|lt|le|gt|ge)\0{INTEGER}\0"),
}
"""Maps builtins to the arguments with which the program of the same name behaves like the builtin.

A pattern is matched against all arguments, each followed by a NUL. It excludes options, backslashes of echo, numeric
conversions of printf, and all arguments that the program or the builtin would reject.

If a shell ran these builtins, `true` and `echo` would take 21 to 25 % more CPU with bash, and 5 to 10 % less with dash.
(Measured with 1,000 commands, two at a time, as the best of 5 interleaved runs.)
"""


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
        self.path: Final = environment.get("PARALLEL_SHELL") or _default_shell(environment)
        if os.path.basename(self.path) not in POSIX_SHELLS:
            raise ValueError(
                f"PARALLEL_SHELL is {self.path!r}, which quotes otherwise than {sorted(POSIX_SHELLS)}: use one of these"
            )
        self._functions: Final = frozenset(
            name.removeprefix("BASH_FUNC_").removesuffix("%%") for name in environment if name.startswith("BASH_FUNC_")
        )
        self._is_program: Final = functools.cache(self._is_in_path)

    def command(self, line: str) -> list[str]:
        if PLAIN_LINE.fullmatch(line):
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
        pattern = EQUIVALENT_PROGRAM_ARGUMENTS.get(words[0])
        return pattern is not None and pattern.fullmatch("".join(f"{word}\0" for word in words[1:])) is not None

    def _is_in_path(self, word: str) -> bool:
        if "=" in word or word in self._functions:
            return False
        return shutil.which(word) is not None


def _default_shell(environment: Mapping[str, str]) -> str:
    for path in (_parent_program(), environment.get("SHELL", "")):
        if os.path.basename(path) in POSIX_SHELLS and os.access(path, os.X_OK):
            return path
    return "/bin/sh"


def _parent_program() -> str:
    """Return the path of the parent process's program; "" if the system has no /proc."""
    try:
        return os.readlink(f"/proc/{os.getppid()}/exe")
    except OSError:
        return ""
