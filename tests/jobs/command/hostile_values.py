"""Values that would run a command if a shell took a part of them for code, and whether a line lets one do so."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

# A file `pwned$q` is none that a command has made: it has the name of a value.
HOSTILE = [
    "$(touch pwned)", "`touch pwned`", "';touch pwned;'", '";touch pwned;"', "\\';touch pwned;#", "\ntouch pwned$q\n",
    "a[$(touch pwned)]", "a[$(touch pwned)]=1", ")\ntouch pwned$q\n", "EOF\ntouch pwned$q\n", "-va[$(touch pwned)]",
    "[$(touch pwned)]=x", "x[$(touch pwned)0]", "touch pwned$q", "-v a[$(touch pwned)]", "1+a[`touch pwned`]",
    "a[$(touch pwned)] -gt 1", "([$(touch pwned)]=1)", "*(e:'touch pwned':)",
]  # fmt: skip
SHELLS = {
    os.path.realpath(shell)
    for shell in map(shutil.which, ("bash", "dash", "zsh", "ksh", "ksh93", "mksh", "busybox"))
    if shell
}


def runs_nothing(directory: Path, *lines: str, shells: Iterable[str] = SHELLS) -> None:
    """Assert that none of the shells runs a part of a hostile value in these lines."""
    script = 'for line; do (eval "$line"); done'
    for shell in shells:
        applet = ["sh"] if shell.endswith("busybox") else []
        command = [shell, *applet, "-c", script, "sh", *lines]
        subprocess.run(command, cwd=directory, check=False, capture_output=True, stdin=subprocess.DEVNULL)
        assert not (directory / "pwned").exists(), (shell, lines)
