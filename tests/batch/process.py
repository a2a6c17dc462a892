"""Helpers that run `trioflow batch`, in this process or in a separate one, and GNU parallel."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from click.testing import Result
from ..cli.command_line import ENVIRONMENT, WORDS, trioflow
from ..places import PATIENCE
from ..pythons import Python


def batch(*words: Any) -> Result:
    return trioflow("batch", *words)


def refusal(*words: Any) -> str:
    """Run a batch that cannot run, and return its message in one line."""
    done = batch(*words)
    assert done.exit_code == 255
    return " ".join(done.stderr.split())


def meanwhile(stderr: str) -> str:
    """Return the messages of a batch while it ran, without the summary of failures at its end."""
    return stderr.partition("batch  ✗ ")[0]


def gnu(*words: Any, **options: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PARALLEL_SHELL": "/bin/sh"}
    command = [os.fsencode(str(word)) for word in ("parallel", "--will-cite", *words)]
    options = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "stdin": subprocess.DEVNULL,
        **options,
    }
    return subprocess.run(
        command, env=environment, check=False, timeout=PATIENCE, **options
    )


def columns(log: Path) -> list[str]:
    lines = [line.split(b"\t") for line in log.read_bytes().splitlines()]
    return [os.fsdecode(b"\t".join([*line[:2], *line[4:]])) for line in lines]


@contextmanager
def running(
    *words: str, first: str = "", **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a batch in a separate process, which may execute a line first, and kill it at the end of the block."""
    environment = {**os.environ, **ENVIRONMENT, "PARALLEL_SHELL": "/bin/sh"}
    options = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        **options,
    }
    code = f"import os, resource, signal, sys; {first}; from trioflow.cli import main; main()"
    with Python(
        [*(["-c", code] if first else WORDS), "batch", *words],
        env=environment,
        **options,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
