"""What the tests of PyExPool's names share: jobs that note what becomes of them."""

from __future__ import annotations

import threading
from typing import Any

from trioflow.compat.pyexpool import Job, Task


class Notes(list[tuple[str, str]]):
    """Notes which callback was called of which job or task, and in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[threading.Thread] = set()

    def on(self, what: str) -> Any:
        def call(owner: Job | Task) -> None:
            self.threads.add(threading.current_thread())
            self.append((what, owner.name))

        return call

    def callbacks(self) -> dict[str, Any]:
        return {"onstart": self.on("start"), "ondone": self.on("done"), "onfinish": self.on("finish")}

    def job(self, name: str, line: str | None = "exit 0", **options: Any) -> Job:
        """A job that notes all of its callbacks; of a shell's line, or None for a stub."""
        args = None if line is None else ("sh", "-c", line)
        return Job(name, args=args, **{**self.callbacks(), **options})

    def task(self, name: str, **options: Any) -> Task:
        return Task(name, **{**self.callbacks(), **options})

    def of(self, name: str) -> list[str]:
        """What was called of one."""
        return [what for what, whose in self if whose == name]


def boom(owner: Any) -> None:
    raise OSError("broken")
