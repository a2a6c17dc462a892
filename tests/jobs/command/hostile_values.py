"""Values that would run a command if a shell took a part of them for code, and whether a line lets one do so."""

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
    "a[$(touch pwned)] -gt 1", "([$(touch pwned)]=1)", "*(e:'touch pwned':)", "-Stouch\\_pwned",
]  # fmt: skip
SHELLS = {
    os.path.realpath(shell)
    for shell in map(
        shutil.which, ("bash", "dash", "zsh", "ksh", "ksh93", "mksh", "busybox")
    )
    if shell
}


def shells_that_run_a_value(
    directory: Path, *lines: str, shells: Iterable[str] = SHELLS
) -> list[str]:
    """Return those of the shells that run a part of a hostile value in these lines. Of programs, a value finds
    and `env` alone, and a line none that takes time and runs nothing of it."""
    found: list[str] = []
    script = 'for line; do (eval "$line"); done'
    programs = directory.with_name(f"{directory.name}-programs")
    programs.mkdir(exist_ok=True)
    for program in ("touch",):
        if not (programs / program).exists():
            (programs / program).symlink_to(str(shutil.which(program)))
    for shell in shells:
        applet = ["sh"] if shell.endswith("busybox") else []
        command = [shell, *applet, "-c", script, "sh", *lines]
        subprocess.run(
            command, cwd=directory, env={**os.environ, "PATH": str(programs)}, check=False, capture_output=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if (pwned := directory / "pwned").exists():
            pwned.unlink()
            found.append(shell)
    return found
