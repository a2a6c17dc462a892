"""Child processes that start quickly: forks of a server that has imported the libraries."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

import pytest

from .places import PATIENCE

forks = multiprocessing.get_context("forkserver")
# pytest, too, because each process imports the main module of its parent.
LIBRARIES = ["pytest", "anyio._backends._asyncio", "anyio._backends._trio", "trioflow.abc", __name__]


@pytest.fixture(scope="module", autouse=True)
def fork_server() -> None:
    """Start the server before a test sets variables in its environment, by which it finds its own processes."""
    ensure_running()
    resource_tracker.ensure_running()


def ensure_running() -> None:
    """Start the server, which imports the libraries; the servers of ProcessJobs would import whatever stays named."""
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    before = server._preload_modules
    forks.set_forkserver_preload(LIBRARIES)
    try:
        forkserver.ensure_running()
    finally:
        server._preload_modules = before


def child(code: str, *sends: tuple[str, signal.Signals]) -> list[str]:
    """Run `code` in a new process, send it each signal as soon as it prints the line for it, and return its lines."""
    lines: list[str] = []
    left = list(sends)
    reader, writer = forks.Pipe(duplex=False)
    with reader, forked(code, writer) as process, open(reader.fileno(), closefd=False) as output:
        writer.close()
        for line in output:
            lines.append(line.rstrip("\n"))
            while left and left[0][0] == lines[-1]:
                assert process.pid is not None
                os.kill(process.pid, left.pop(0)[1])
    assert not left, lines
    return lines


@contextmanager
def forked(code: str, writer: Connection[Any, Any]) -> Iterator[ForkServerProcess]:
    """Run `code` in a process, which has ended when the block is left; it is killed if it takes too long."""
    process = forks.Process(target=_run, args=(code, writer))
    ensure_running()
    process.start()
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    try:
        yield process
        process.join()
    finally:
        timer.cancel()
        timer.join()
        process.close()


def _run(code: str, writer: Connection[Any, Any]) -> None:
    sys.stdout = open(writer.fileno(), "w", closefd=False)  # noqa: SIM115 - open as long as the process
    exec(code, {"__name__": "__main__"})
