"""`EndNotes`: what a run with a journal says of it at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from .._core.base._logger import warn
from .._core.base._text_forms import MAX_NAMED_JOBS, join_names, plural
from .._core.job._job import AbstractJob

MAX_NOTED_JOBS: Final = 1000
"""How many jobs are counted of each note."""


class EndNotes:
    """Jobs that users should know of: each is noted as it is found, and the end of the run names the first of them."""

    def __init__(self) -> None:
        self._unstorable_reasons_by_label: Final[dict[str, str]] = {}
        self.changed_code: Final[dict[str, str]] = {}
        """The restored jobs whose functions have changed since, or constants that these read, in words, by path."""
        self.changed_arguments: Final[dict[str, None]] = {}
        """The labels of the first jobs that have changed their arguments in place."""

    def add_unstorable(self, job: AbstractJob[Any], reason: str) -> None:
        """Note a job that cannot be stored."""
        if len(self._unstorable_reasons_by_label) < MAX_NOTED_JOBS:
            self._unstorable_reasons_by_label[job.label] = reason

    def report(
        self,
        report: Callable[[str], object],
        journal: Path,
        by_name_only: Sequence[str],
    ) -> None:
        """Report jobs whose results could not be stored, and log the other notes.

        Args:
            report: called with a message if results could not be stored.
            journal: the path of the journal.
            by_name_only: the labels of jobs whose functions are identified by name only.

        """
        if self._unstorable_reasons_by_label:
            report(self._describe_unstorable())
        if self.changed_arguments:
            changed = join_names([*map(repr, self.changed_arguments)], MAX_NAMED_JOBS)
            warn(
                f"jobs have changed their arguments in place, {changed}: a run that restores them gives others to "
                f"the jobs after them; let each return what is new instead"
            )
        if self.changed_code:
            changed = join_names([*self.changed_code.values()], MAX_NAMED_JOBS)
            warn(
                f"the code of {plural(len(self.changed_code), 'restored job')} has changed since, {changed}: that "
                f"counts only with version=, or after trioflow journal {journal} forget NAME"
            )
        if by_name_only:
            warn(
                f"the journal knows the functions of {_count(by_name_only)} by name only, because looking up the "
                f"name does not give them (lambdas, closures, functions in functions, results of decorators, methods "
                f"of objects): {join_names([*map(repr, by_name_only)], MAX_NAMED_JOBS)}; give them key= or version= "
                f"if what the functions do, or capture, may change"
            )

    def _describe_unstorable(self) -> str:
        labels = [*self._unstorable_reasons_by_label]
        first_reason = self._unstorable_reasons_by_label[labels[0]]
        return (
            f"the journal cannot store {_count(labels)}, which will run again: "
            f"{join_names([*map(repr, labels)], MAX_NAMED_JOBS)}; reason for the first: {first_reason}; for a "
            "result, give save='pickle', save=(dump, load) or save=None; for an argument, give key="
        )


def _count(labels: Sequence[str]) -> str:
    number = plural(len(labels), "job")
    if len(labels) < MAX_NOTED_JOBS:
        return number
    return f"at least {number}"
