"""Functions for worker processes, which import them from here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio

from trioflow import current_job

counter = 0


def add(a: Any, b: Any = 0, *, c: Any = 0) -> Any:
    return a + b + c


def whoami() -> tuple[int, int]:
    return os.getpid(), os.getppid()


def count() -> int:
    global counter
    counter += 1
    return counter


def nap_for_ever(path: str | None = None) -> None:
    """Sleep, and have a child that does."""
    subprocess.Popen(["sleep", "1000"])
    if path is not None:
        Path(path).touch()
    time.sleep(1000)


def touch(path: str) -> None:
    Path(path).touch()


async def touch_and_nap(path: str) -> None:
    touch(path)
    await anyio.sleep(1000)


def place(variable: str) -> tuple[str | None, str]:
    return os.environ.get(variable), os.getcwd()


def meet(path: str, number: int) -> tuple[int, int]:
    """Wait until as many processes are here at once; return the ids of this one and of its parent."""
    Path(path, str(os.getpid())).touch()
    while len(os.listdir(path)) < number:
        time.sleep(0.001)
    return whoami()


def imported_by() -> tuple[int, int]:
    """Return the id of the process that has imported a module, and that of this one's parent."""
    return sys.modules["for_a_server"].process, os.getppid()


def fail(text: str) -> None:
    raise LookupError(text)


class Awkward(Exception):
    """Can be pickled, but not back."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def fail_awkwardly() -> None:
    raise Awkward(1, 2)


def interrupt(error: str) -> None:
    raise {"SystemExit(3)": SystemExit(3), "KeyboardInterrupt()": KeyboardInterrupt()}[error]


def die(how: str) -> None:
    if how == "fork" and not os.fork():
        time.sleep(1000)
    if how in ("exit", "fork"):
        os._exit(5)
    os.kill(os.getpid(), 11)


def returns_nonsense() -> Any:
    return lambda: None


def read_and_print() -> str:
    print("printed", flush=True)
    return sys.stdin.read()


def large(data: bytes) -> bytes:
    return data[::-1]


class Fragile:
    """Can't be loaded in the worker."""

    def __reduce__(self) -> Any:
        return refuse, ()


def refuse() -> None:
    if os.environ.get("TRIOFLOW_RUN"):
        raise OSError("not here")


def use() -> None:
    """Call what the job of a worker process has not."""
    current_job().used(api=1)


def report(values: list[float], pause: float) -> str:
    """Report these fractions, and wait a while after each."""
    for value in values:
        current_job().progress(value)
        time.sleep(pause)
    return "done"


def report_often(times: int) -> None:
    for number in range(times):
        current_job().progress(number / times)
    current_job().progress(1)
