"""Jobs that are not critical unless they say so."""

from __future__ import annotations

from typing import Any

from .. import asynciojobs


class AbstractJob(asynciojobs.AbstractJob):
    """A job whose `co_run` a subclass defines, and `co_shutdown` too where there is something to shut down.

    Args:
        forever: the run does not wait for it, and cancels it at its end.
        label: how it is shown.
        critical: an exception of it ends the run; one of its scheduler's counts as well.
        required: what must be done before.
        scheduler: is told to `add` it.

    """

    def __init__(
        self,
        forever: bool = False,
        label: str | None = None,
        critical: bool | None = False,
        required: Any = None,
        scheduler: Any = None,
    ) -> None:
        super().__init__(forever=forever, label=label, critical=critical, required=required, scheduler=scheduler)

    def is_critical(self) -> bool:
        """Return whether an exception of it ends the run: it says so, or its scheduler did in the last run."""
        host = self._trioflow.host
        return bool(self.critical) or (host is not None and bool(host.critical))


class Job(asynciojobs.Job, AbstractJob):
    """A coroutine object as a job: it is awaited once.

    Args:
        corun: the coroutine object, which is the job's work.
        coshutdown: a coroutine object that is awaited when the job is shut down.
        kwds: those of `AbstractJob`.

    Raises:
        TypeError: `corun` or `coshutdown` is not a coroutine object.

    """

    def __init__(self, corun: Any, coshutdown: Any = None, **kwds: Any) -> None:
        super().__init__(corun, coshutdown=coshutdown, **kwds)


class PrintJob(asynciojobs.PrintJob, AbstractJob):
    """Prints its messages, and may sleep then."""
