"""What a journal finds changed between two jobs, without a run."""

from pathlib import Path
from typing import Any
from trioflow import AbstractJob
from trioflow._core.words._job_queries import options_of
from trioflow.journal._file_stamps import FileStamper
from trioflow.journal._fingerprint import (
    FingerprintBuilder,
    describe_difference,
    describe_work,
)


def fingerprint(job: AbstractJob[Any], directory: Path) -> str:
    """Return the fingerprint of a job for a journal in this directory. The result of any other job is its label."""
    builder = FingerprintBuilder(
        lambda other: f"result of {other.label}", FileStamper(False, ()), str(directory)
    )
    return builder.compute(job, describe_work(job), options_of(job))[0]


def difference(
    before: AbstractJob[Any], now: AbstractJob[Any], directory: Path
) -> str | None:
    """Return what has changed, as users read it, or None if the second job would be restored."""
    return describe_difference(
        fingerprint(before, directory), fingerprint(now, directory), now
    )
