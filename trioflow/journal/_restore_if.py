"""The answers of `restore_if=`, a user's function of a stored result that says whether this still holds.

A look-up is one step, and calls no function of the user that may take time. So the functions are asked before it:

```
files are read ──► look-up, in advance ──► it comes to a function that has not been asked ──► the function is asked
                        ▲                                                                        │
                        └──────────────── the verdict is in the entry of its job ◄───────────────┘
                   it comes to none: the look-up itself can be made
```

Rules:
1. A function is asked once for a record, when all else would let the job be restored.
2. A look-up that comes to a function without a verdict lets the job run: a doubt is a reason to run.
3. A result against which there is a verdict counts no more, from the begin of the attempt on, which may make again what
   the function looks for: a kill must not leave the older result. `Recorder.begin_attempt` sees to it.
"""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable
from typing import Any, Final

from .._core.base import _user_code
from .._core.base._text_forms import short_repr
from .._core.job._job import AbstractJob
from .._core.run._journaling import NotStored
from ..jobs.posix._files import call_in_thread
from ._run_facts import RunFacts, UnaskedFunction, Verdict
from ._store import StoredJob

NOT_ASKED: Final = NotStored("its restore_if= has not been asked")


def reason_against(
    facts: RunFacts,
    job: AbstractJob[Any],
    function: Callable[[Any], Any],
    record: StoredJob,
    value: object,
) -> NotStored | None:
    """Return why a stored result does not hold any more, or None if it does.

    Args:
        facts: the facts about the run.
        job: the job.
        function: its `restore_if=`.
        record: its record, which would let it be restored.
        value: the result in the record.

    """
    verdict = facts.entries[job].verdict
    about = record.path, record.run, record.settled
    if verdict is not None and verdict.about == about:
        return verdict.against
    if facts.unasked is None:
        facts.unasked = UnaskedFunction(job, record, value, function)
    return NOT_ASKED


async def ask(facts: RunFacts, unasked: UnaskedFunction) -> None:
    """Call a function, and keep its verdict in the entry of its job."""
    job = unasked.job
    name = f"restore_if= of {job.label!r}"
    against: NotStored | None = None
    try:
        answer = await _call(unasked.function, unasked.value)
        if not answer:
            shown = "a false value"
            if not job.redact:
                shown = short_repr(answer)
            against = NotStored(
                f"its stored result does not hold any more: restore_if= has returned {shown}",
                f"{name} has returned {shown}",
            )
    except Exception as error:
        # Raised by user code.
        shown = type(error).__name__
        text = shown
        if not job.redact:
            text = short_repr(error)
        against = NotStored(
            f"its restore_if= has raised {text}", f"{name} has raised {shown}"
        )
    record = unasked.record
    about = record.path, record.run, record.settled
    facts.entries[job].verdict = Verdict(about, against)


async def _call(function: Callable[[Any], Any], value: object) -> Any:
    """Call a function in a thread, with the context of the caller, or await an async function."""
    if _user_code.is_async(function):
        return await function(value)
    answer = await call_in_thread(contextvars.copy_context().run, function, value)
    if inspect.isawaitable(answer):
        return await answer
    return answer
