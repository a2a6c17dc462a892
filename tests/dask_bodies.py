"""Functions that run on the workers of a cluster."""

import os
import random
import time
from pathlib import Path
from typing import Any
from .jobs.process.executor_bodies import add as add


def where(*_: Any) -> str:
    from distributed import get_worker

    return str(get_worker().address)


def fail() -> None:
    raise OSError("on the worker")


def draw() -> float:
    return random.random()


def until_told(directory: str, value: Any = None) -> Any:
    """Report where it runs, and continue on request."""
    with Path(directory, f"pid-{os.getpid()}").open("a") as file:
        file.write("begun\n")
    while not Path(directory, "go").exists():
        time.sleep(0.01)
    return value


def note(path: str, name: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(name + "\n")


def noted(path: str, value: Any) -> Any:
    note(path, "noted")
    return value


def fail_once(flag: str, value: Any) -> Any:
    if not Path(flag).exists():
        Path(flag).touch()
        raise OSError("the first time")
    return value


def make_worker_only() -> Any:
    return WorkerOnly(5)


def size(value: Any) -> int:
    return int(value.size)


class WorkerOnly:
    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self) -> Any:
        return unpickle_on_worker, (self.size, os.getpid())


def unpickle_on_worker(size: int, _: int) -> WorkerOnly:
    assert is_worker(), "this was unpickled by the conductor"
    return WorkerOnly(size)


def is_worker() -> bool:
    from distributed.worker import _global_workers  # type: ignore[attr-defined]

    return bool(_global_workers)
