"""The texts of jobs, which are recorded to be recognized where they are given to another job.

`repr(job)`, which `str`, f-strings, `join` and logging use, records the text of a job that has not settled. As an
argument, such a text is an error, because no result would replace it. Arguments are searched only while there are such
jobs, so programs that never make a text of a job pay nothing. The texts have no hidden mark: log lines stay as they
are, and a text that only looks similar is accepted.
"""

from __future__ import annotations

import re
import weakref
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

from ._labels import printable

if TYPE_CHECKING:
    from ._job import AbstractJob

_JOBS: Final[weakref.WeakValueDictionary[str, AbstractJob[Any]]] = weakref.WeakValueDictionary()
TEXTS: Final[dict[str, Any]] = cast(Any, _JOBS).data
"""The texts of jobs, to see quickly whether there are any: the length of a weak dictionary takes ten times as long."""
END: Final = re.compile(r", (?:idle|scheduled|running)(?:, \d+ jobs?)?>")
"""The end of the text of a job that has not settled."""
HARMLESS: Final = {ord(character): f"\\x{ord(character):x}" for character in '`$"'}
"""Replacements of characters that end double quotes in a shell, or that it expands there."""
MAX_LENGTH: Final = 300
"""The maximum number of characters of a text that is found; a label may be longer."""
MAX_ENDS: Final = 100
"""How many ends of texts are looked at: a text with more of them is a stranger's, which must not take long."""


def text_of(job: AbstractJob[Any], status: str) -> str:
    r"""Return the `repr` of a job, and record it if the job has not settled.

    A label must not run as a command if the text becomes part of a shell line.

    Example:
        >>> AbstractJob(label="echo `id`")
        <AbstractJob echo \x60id\x60, idle>

    """
    text = f"<{type(job).__name__} {printable(job.label).translate(HARMLESS)}, {status}>"
    if not job.is_settled():
        _JOBS[text] = job
    return text


def job_in(text: str) -> AbstractJob[Any] | None:
    """Return a job that has not settled and whose text is part of this text; None if there is none."""
    for end in (match.end() for match in islice(END.finditer(text), MAX_ENDS)) if "<" in text else ():
        for start in (index for index in range(max(0, end - MAX_LENGTH), end) if text[index] == "<"):
            job = _JOBS.get(text[start:end])
            if job is not None and not job.is_settled():
                return job
    return None
