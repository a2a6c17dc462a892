"""`describe_work`: the work of a job, with the files of its options."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from .._core.job._job import AbstractJob
from .._core.job._work_spec import Work
from .._core.words import _job_queries
from ._serialization import NotSerializable


def describe_work(job: AbstractJob[Any]) -> Work | None:
    """Return the result of a job's `for_journal`, with the files that its options `reads` and `writes` name.

    Raises:
        NotSerializable: `for_journal` raised an exception.

    """
    describe: Callable[[Any], Work | None] | None = getattr(
        type(job), "for_journal", None
    )
    work: Work | None = None
    if callable(describe):
        try:
            work = describe(job)
        except Exception as error:
            # A user-defined class can raise anything.
            raise NotSerializable(
                "its work, because for_journal() raised", error
            ) from None
    options = _job_queries.options_of(job)
    if not options.has_files:
        return work
    if work is None:
        work = Work(what="")
    return dataclasses.replace(
        work,
        reads=[*options.reads, *work.reads],
        writes=[*options.writes, *work.writes],
    )
