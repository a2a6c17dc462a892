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
            if words and words[0] not in BUILTINS and self._is_program(words[0]):
                return words
        return [self.path, "-c", line]

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
