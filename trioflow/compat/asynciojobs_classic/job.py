"""Jobs that are not critical by default."""

from __future__ import annotations

from typing import Any

from .. import asynciojobs


class AbstractJob(asynciojobs.AbstractJob):
    """A job whose `co_run` a subclass defines, and `co_shutdown` too where there is something to shut down.

    Args:
        forever: the run does not wait for it, and cancels it at its end.
        label: its label in listings.
        critical: an exception of it ends the run; one of its scheduler's counts as well.
        required: its requirements.
        scheduler: a scheduler to add it to.
        requires: the same as `required`, by the name of the method.

    """

    def __init__(
        self,
        forever: bool = False,
        label: str | None = None,
        critical: bool | None = False,
        required: Any = None,
        scheduler: Any = None,
        *,
        requires: Any = None,
    ) -> None:
        both = [required, requires]
        super().__init__(forever=forever, label=label, critical=critical, required=both, scheduler=scheduler)

    def is_critical(self) -> bool:
        """Return whether an exception of it ends the run: by its own setting, or by its scheduler's in the last run."""
        host = self._trioflow.host
        return bool(self.critical) or (host is not None and host.is_critical())


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
    """A job that prints its messages, and may then sleep.

    Args:
        messages: printed in one line.
        requires: the same as `required`.
        kwds: those of `PrintJob` in `trioflow.compat.asynciojobs`.

    """

    def __init__(self, *messages: Any, requires: Any = None, required: Any = None, **kwds: Any) -> None:
        super().__init__(*messages, required=[required, requires], **kwds)


class Sequence(asynciojobs.Sequence):
    """A chain of jobs: each requires the one before it.

    Args:
        sequences_or_jobs: jobs and Sequences, in this order.
        requires: the same as `required`.
        kwds: those of `Sequence` in `trioflow.compat.asynciojobs`.

    Raises:
        TypeError: something that is neither a job nor a Sequence.

    Example:
        >>> from trioflow.compat.asynciojobs_classic import PrintJob, Scheduler, Sequence
        >>> first = PrintJob("one")
        >>> Scheduler(first, Sequence(PrintJob("two"), PrintJob("three"), requires=first)).run()
        one
        two
        three
        True

    """

    def __init__(self, *sequences_or_jobs: Any, requires: Any = None, required: Any = None, **kwds: Any) -> None:
        super().__init__(*sequences_or_jobs, required=[required, requires], **kwds)
