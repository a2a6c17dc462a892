"""What the tests of PyExPool's names share: jobs that record their callbacks."""

from __future__ import annotations

import threading
from typing import Any

from trioflow.compat.pyexpool import Job, Task


class Notes(list[tuple[str, str]]):
    """Records which callback was called for which job or task, and in which thread."""

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
        """Return a job that records all of its callbacks; it runs a shell command, or nothing for None."""
        args = None if line is None else ("sh", "-c", line)
        return Job(name, args=args, **{**self.callbacks(), **options})

    def task(self, name: str, **options: Any) -> Task:
        return Task(name, **{**self.callbacks(), **options})

    def of(self, name: str) -> list[str]:
        """Return the callbacks of one job or task."""
        return [what for what, whose in self if whose == name]


def boom(owner: Any) -> None:
    raise OSError("broken")
