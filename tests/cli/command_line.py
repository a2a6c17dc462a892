"""Helpers that run the command `trioflow`: in this process, which is fast, or in a separate one, where that matters."""

import contextlib
import os
import pty
import subprocess
import sys
import termios
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from click.testing import CliRunner, Result
from trioflow.cli._commands import command
from ..pythons import Python, python

PROLOGUE = """
import anyio
from trioflow import *

async def work(value=None):
    print("works", flush=True)
    return value

async def fail(*_):
    raise OSError("broken")

"""
WORDS = ["-m", "trioflow"]
"""The command as arguments of Python."""
ENVIRONMENT = {**os.environ, "PYTHONUTF8": "1", "TERM": "xterm", "COLUMNS": "80"}


def written(directory: Path, code: str, name: str = "flow.py") -> str:
    """Write a user's file that begins with the prologue, and return its path."""
    path = directory / name
    path.write_text(PROLOGUE + textwrap.dedent(code), encoding="utf-8")
    return str(path)


def trioflow(*arguments: Any, stdin: str | bytes | None = None) -> Result:
    """Run the command in this process, and undo what it changes there."""
    words = [str(one) for one in arguments]
    with unchanged_process():
        return CliRunner(catch_exceptions=False).invoke(
            command, words, input=stdin, prog_name="trioflow"
        )


def run(*arguments: Any) -> Result:
    return trioflow("run", "--no-monitor", *arguments)


def refused(*arguments: Any) -> str:
    """Run a command that is to be refused, with nothing run, and return its standard error."""
    done = trioflow(*arguments)
    assert done.exit_code == 2
    assert "works" not in done.stdout
    return done.stderr


def process(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return python(*WORDS, *arguments, **{"env": ENVIRONMENT, "text": True, **options})


def on_a_terminal(
    *arguments: Any, columns: int = 80, lines: int = 24, **variables: str
) -> tuple[int, str]:
    """Run the command on a new terminal, and return its exit code, and all that it writes there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (lines, columns))
    environment = {
        name: value
        for name, value in ENVIRONMENT.items()
        if name not in ("COLUMNS", "LINES")
    }
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with Python(
        [*WORDS, *arguments], env={**environment, **variables}, **streams
    ) as started:
        os.close(theirs)
        said = b""
        with contextlib.suppress(
            OSError
        ):  # Linux raises it when the other end is closed
            while piece := os.read(ours, 65536):
                said += piece
    os.close(ours)
    return started.returncode, said.decode(errors="surrogateescape")


def labels(listing: str) -> list[str]:
    return [
        line.partition(" <")[2].partition(" ")[2].partition(">")[0]
        for line in listing.splitlines()
        if " end < " not in line
    ]


@contextlib.contextmanager
def unchanged_process() -> Iterator[None]:
    """Restore what loading a user's file changes."""
    path, argv, modules = list(sys.path), sys.argv, dict(sys.modules)
    try:
        yield
    finally:
        sys.path[:], sys.argv = path, argv
        sys.modules.update(
            (name, modules[name])
            for name in ("__main__", "__mp_main__")
            if name in modules
        )
        for name in set(sys.modules) - set(modules):
            if not name.startswith("trioflow"):
                del sys.modules[name]
