"""Functions that worker processes can import."""

import os
import signal
import time
from pathlib import Path
from typing import Any


def add(*numbers: int, extra: int = 0) -> int:
    return sum(numbers) + extra


def pid() -> int:
    return os.getpid()


def fail() -> None:
    raise OSError("in the worker")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_go(directory: str, value: Any = None) -> Any:
    """Create a file at the start, and return when another file exists."""
    Path(directory, "begun").touch()
    while not Path(directory, "go").exists():
        time.sleep(0.01)
    return value


def stop_iteration() -> None:
    raise StopIteration(3)
