"""`Summary`: a run in Markdown, and as annotations of GitHub Actions."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Iterator
from typing import Final, final

from ..._core.api.views import JobState, duration_text, printable
from ..text import _verdict
from ..text._symbols import Symbols
from ._junit import plain
from ._test_cases import CiReport, CiRun, headline_of, why_not

MAX_FAILURES: Final = 20
MAX_LINES: Final = 60
"""Lines at the end of a traceback or an output; GitHub takes 1 MiB for a step."""
SLOWEST: Final = 10
MAX_NAMES: Final = 3
"""Number of jobs with equal failures that are named; the others are counted."""
MAX_ANNOTATIONS: Final = 10
"""Number of errors that GitHub shows of a step."""
PUNCTUATION: Final = re.compile(r"([\\`*_{}\[\]<>#|~&@$])")


@final
class Summary(CiReport):
    """Writes a run as Markdown: the verdict, the failures with their lines, the graph, and the slowest jobs.

    In GitHub's actions (the variable `GITHUB_ACTIONS` is set) it also prints each kind of failure as an annotation, at
    its line of your code if that is known, and below it its traceback and output in a group that can be opened. There,
    the page of the step is the file if you give none.

    Args:
        path: the file, which each run replaces when it has ended; None for the one that `GITHUB_STEP_SUMMARY` names,
            which is appended to.

    Raises:
        ValueError: no path is given, and `GITHUB_STEP_SUMMARY` is not set.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> async def work(): ...
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "summary.md"
        ...     ok = Scheduler(Job(work), label="one").run(instruments=[Summary(path)])
        ...     print(path.read_text().partition(' succeeded')[0])
        ## ✓ one: 1 job

    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        default = os.environ.get("GITHUB_STEP_SUMMARY")
        self._appends: Final = path is None
        if path is None and not default:
            raise ValueError("Summary() without a path: give one; only GitHub's actions set GITHUB_STEP_SUMMARY")
        super().__init__(default or "" if path is None else path)

    def _write(self, run: CiRun) -> None:
        if os.environ.get("GITHUB_ACTIONS"):
            encoding = sys.stdout.encoding or "utf-8"
            text = "".join(workflow_commands(run))
            sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
            sys.stdout.flush()
        with open(self.path, "a" if self._appends else "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n".join(markdown(run)) + "\n")


# ---- Markdown


def markdown(run: CiRun) -> Iterator[str]:
    """Yield the lines of the file."""
    yield f"## {run.verdict.symbol(Symbols())} {escaped(run.label)}: {escaped(run.verdict.words)}"
    yield from ("", run.tally.in_words())
    if run.failures:
        yield from ("", "### Failures")
    for span in run.failures[:MAX_FAILURES]:
        yield from ("", f"#### {escaped(span.path)}", "", escaped(headline_of(span)))
        if line := run.failing_line(span):
            yield from ("", escaped(line))
        elif "\n" in (trace := run.traceback(span)).strip():
            yield from ("", *fenced(trace))
        for name, text in run.outputs(span):
            yield from ("", f"The end of its {name}:", "", *fenced(text))
    if len(run.failures) > MAX_FAILURES:
        yield from ("", f"and {len(run.failures) - MAX_FAILURES} more failures")
    not_run = [span for span in run.cases if span.state is JobState.BLOCKED]
    if not_run:
        yield from ("", "### Not run", "")
        yield from (f"- {escaped(span.path)}: {escaped(why_not(span))}" for span in not_run[:MAX_FAILURES])
        if len(not_run) > MAX_FAILURES:
            yield f"- and {len(not_run) - MAX_FAILURES} more"
    if graph := run.graph():
        yield from ("", "### Graph", "", "```mermaid", *graph.splitlines(), "```")
    ran = [(span.elapsed, span) for span in run.cases if span.elapsed and not span.forever]
    if ran:
        yield from ("", "### Slowest jobs", "", "| job | time | state |", "|---|---:|---|")
        for seconds, span in sorted(ran, key=lambda timed: -timed[0])[:SLOWEST]:
            yield f"| {escaped(span.path)} | {duration_text(seconds)} | {span.state.value} |"


def escaped(text: str) -> str:
    """Return a text on one line, with Markdown's punctuation escaped."""
    return PUNCTUATION.sub(r"\\\1", printable(plain(text)))


def fenced(text: str) -> list[str]:
    """Return the end of a text as a fenced block of code, with a remark on what was cut."""
    every = [printable(line) for line in plain(text).strip("\n").split("\n")]
    lines = every[-MAX_LINES:]
    if len(every) > MAX_LINES:
        lines.insert(0, f"[{len(every) - MAX_LINES} lines before this are left out]")
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [f"{fence}text", *lines, fence]


# ---- GitHub's actions


def workflow_commands(run: CiRun) -> Iterator[str]:
    """Yield the lines for an action's log: an annotation for each kind of failure, and its details in a group.

    The format follows GitHub's documentation, "Workflow commands for GitHub Actions". Output of jobs must not be
    read as commands: `stop-commands` with a random token surrounds it.
    """
    for number, spans in enumerate(run.kinds()):
        span = spans[0]
        title = f"{_verdict.join_names([span.path for span in spans], MAX_NAMES)} failed"
        if number < MAX_ANNOTATIONS:
            place = run.place(span)
            where = "" if place is None else f"file={_property(place[0])},line={place[1]},"
            yield f"::error {where}title={_property(title)}::{_data(headline_of(span))}\n"
        yield f"::group::{_data(title)}\n"
        stop = secrets.token_hex(16)
        yield f"::stop-commands::{stop}\n"
        for text in (run.traceback(span), *(text for _, text in run.outputs(span))):
            yield _in_log(text).rstrip("\n") + "\n"
        yield f"::{stop}::\n::endgroup::\n"


def _in_log(text: str) -> str:
    """Return a text without colours, in which unprintable characters other than newlines and tabs are escaped."""
    return re.sub(r"[^\n\t]+", lambda found: printable(found[0]), plain(text))


def _data(text: str) -> str:
    return _in_log(text).replace("%", "%25").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
