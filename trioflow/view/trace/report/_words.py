"""What the words of a report mean, for readers who have never seen the program."""

from __future__ import annotations

import html as escapes
from collections.abc import Iterator
from typing import Final

from ..._states import CAUSES, LOOKS
from .._record import TraceRecord

WHAT_IF: Final = (
    "the same run, simulated with another number of slots, or another amount of a resource; each job takes as long as "
    "it did. No order of the jobs is below the lowest line: the longest chain takes so long, or the work of all slots"
)


def section(record: TraceRecord, has_what_if: bool = False) -> str:
    """Return the words that the report uses, each with its meaning, folded."""
    words = [*_words(record), *([("what if", WHAT_IF)] if has_what_if else [])]
    meanings = "".join(f"<dt>{word}</dt><dd>{escapes.escape(meaning)}</dd>" for word, meaning in words)
    return f'<details id="words" class="card fold"><summary>What the words mean</summary><dl>{meanings}</dl></details>'


def _words(record: TraceRecord) -> Iterator[tuple[str, str]]:
    spans = record.spans
    states = {span.state for span in spans}
    nested = {run.parent for run in record.runs} - {None}
    yield from ((state.value, look.meaning) for state, look in LOOKS.items() if state in states)
    if any(span.restored for span in spans):
        yield "restored", "its result comes from an earlier run, whose journal had it; it did not run again"
    if len({span.kind for span in spans}) > 1:
        yield "kind", "what does the work: for instance, a Job is a function in Python, a CommandJob another program"
    if any(run.culprit is not None for run in record.roots):
        yield "culprit", "the job because of which the run stopped"
    if nested:
        yield "a / in a path", "the second job is in the group before the slash (a nested Scheduler)"
    yield "start", "when it began, counted from the beginning of the run"
    yield "wait", "how long it could have started, but had to wait for a free slot, or for what it needs"
    yield "time", "how long it took, from its start to its end"
    causes = {wait.cause for span in spans for wait in span.waits}
    yield from ((words.title, words.meaning) for cause, words in CAUSES.items() if cause in causes)
    if any(len(span.attempts) > 1 for span in spans):
        yield "attempts", "how often it was tried"
    if record.commands:
        yield "exit", "the exit code of a command, where 0 means success; or the signal that ended it"
        yield "CPU", "how long a command kept a processor busy"
        yield "memory", "the most memory that a command had at one time"
    if record.chain:
        yield (
            "critical path",
            (
                "the chain of jobs that decided when the run ended, each of which waited for the one before. "
                "To make the run shorter, make these jobs shorter. The table has them in bold"
            ),
        )
    yield "lane", "the row of the timeline: a slot, which one job after the other uses"
    if any(run.window is not None for run in record.runs):
        yield "window", "the number of slots: how many jobs may run at once"
    if any(span.critical for span in spans):
        yield "critical", "if such a job fails, the run stops"
    if any(span.forever for span in spans):
        yield "background", "such a job runs beside the others, and the run ends it when these have settled"
    if any(span.timed_out for span in spans):
        yield "timed out", "it took longer than its timeout allowed"
