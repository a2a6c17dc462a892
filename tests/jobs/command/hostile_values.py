"""Values that would run a command if a shell took a part of them for code, and whether a line lets one do so."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

HOSTILE = [
    "$(touch pwned)", "`touch pwned`", "';touch pwned;'", '";touch pwned;"', "\\';touch pwned;#", "\ntouch pwned\n",
    "a[$(touch pwned)]", "a[$(touch pwned)]=1", ")\ntouch pwned\n", "EOF\ntouch pwned\n",
]  # fmt: skip
SHELLS = {os.path.realpath(shell) for shell in map(shutil.which, ("sh", "bash", "dash", "zsh", "ksh")) if shell}


def runs_nothing(directory: Path, *lines: str) -> None:
    """Assert that no shell runs a part of a hostile value in these lines."""
    script = 'for line; do (eval "$line"); done'
    for shell in SHELLS:
        command = [shell, "-c", script, "sh", *lines]
        subprocess.run(command, cwd=directory, check=False, capture_output=True, stdin=subprocess.DEVNULL)
        assert not (directory / "pwned").exists(), (shell, lines)
