"""Functions that engines call in other processes: they note in a folder what becomes of them."""

import os
import signal
import time
from pathlib import Path
from typing import Any
from ...places import PATIENCE


def wait_for_go(folder: str, name: str) -> str:
    """Write a file with the process id, and another one as soon as there is a third."""
    begun = Path(folder, f"{name}.begun")
    begun.with_suffix(".part").write_text(str(os.getpid()), encoding="utf-8")
    begun.with_suffix(".part").rename(begun)
    end = time.monotonic() + PATIENCE
    while not Path(folder, "go").exists() and time.monotonic() < end:
        time.sleep(0.01)
    Path(folder, f"{name}.ended").touch()
    return name


def die_once(folder: str) -> None:
    """Kill this process, unless that has happened before."""
    try:
        Path(folder, "died").touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


class Traveller:
    """A value that notes in which processes it arrives."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return arrive, (self.folder,)


def arrive(folder: str) -> Traveller:
    Path(folder, f"arrived-{os.getpid()}").touch()
    return Traveller(folder)


def use(traveller: Traveller) -> int:
    return len(traveller.folder)
