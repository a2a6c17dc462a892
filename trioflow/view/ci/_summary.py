"""`Summary`: an instrument that writes a run as Markdown, and as annotations for GitHub Actions."""

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
from ._junit import strip_ansi
from ._test_cases import CiReport, CiRun, exception_headline, unfinished_reason

MAX_FAILURES: Final = 20
MAX_LINES: Final = 60
"""The number of lines kept from the end of a traceback or an output; GitHub accepts 1 MiB per step."""
MAX_SLOWEST: Final = 10
MAX_NAMED_JOBS: Final = 3
"""The number of jobs named in the title of a group of equal failures; the others are counted."""
MAX_ANNOTATIONS: Final = 10
"""The number of error annotations that GitHub shows per step."""
PUNCTUATION: Final = re.compile(r"([\\`*_{}\[\]<>#|~&@$])")


@final
class Summary(CiReport):
    """An instrument that writes a Markdown summary: the verdict, the failures, the graph, and the slowest jobs.

    Each failure has the line of your code that failed. In GitHub Actions (the variable `GITHUB_ACTIONS` is set),
    equal failures are also printed as one annotation, at that line if it is known, followed by the traceback and the
    output in a collapsed group.

    Args:
        path: the file; each run replaces it at its end. None: append to the file that `GITHUB_STEP_SUMMARY` names, the
            summary page of the GitHub step.

    Raises:
        ValueError: `path` is None, and `GITHUB_STEP_SUMMARY` is not set.

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
            file.write("\n".join(markdown_lines(run)) + "\n")


# ---- Markdown


def markdown_lines(run: CiRun) -> Iterator[str]:
    """Yield the lines of the Markdown summary."""
    yield f"## {run.verdict.symbol(Symbols())} {escape_markdown(run.label)}: {escape_markdown(run.verdict.words)}"
    yield from ("", run.tally.in_words())
    if run.failures:
        yield from ("", "### Failures")
    for span in run.failures[:MAX_FAILURES]:
        yield from ("", f"#### {escape_markdown(span.path)}", "", escape_markdown(exception_headline(span)))
        if line := run.failing_line(span):
            yield from ("", escape_markdown(line))
        elif "\n" in (trace := run.traceback(span)).strip():
            yield from ("", *fence_lines(trace))
        for name, text in run.outputs(span):
            yield from ("", f"The end of its {name}:", "", *fence_lines(text))
    if len(run.failures) > MAX_FAILURES:
        yield from ("", f"and {len(run.failures) - MAX_FAILURES} more failures")
    not_run = [span for span in run.cases if span.state is JobState.BLOCKED]
    if not_run:
        yield from ("", "### Not run", "")
        yield from (
            f"- {escape_markdown(span.path)}: {escape_markdown(unfinished_reason(span))}"
            for span in not_run[:MAX_FAILURES]
        )
        if len(not_run) > MAX_FAILURES:
            yield f"- and {len(not_run) - MAX_FAILURES} more"
    if graph := run.graph():
        yield from ("", "### Graph", "", "```mermaid", *graph.splitlines(), "```")
    ran = [(span.elapsed, span) for span in run.cases if span.elapsed and not span.forever]
    if ran:
        yield from ("", "### Slowest jobs", "", "| job | time | state |", "|---|---:|---|")
        for seconds, span in sorted(ran, key=lambda row: -row[0])[:MAX_SLOWEST]:
            yield f"| {escape_markdown(span.path)} | {duration_text(seconds)} | {span.state.value} |"


def escape_markdown(text: str) -> str:
    """Return a text on one line, with Markdown's punctuation escaped."""
    return PUNCTUATION.sub(r"\\\1", printable(strip_ansi(text)))


def fence_lines(text: str) -> list[str]:
    """Return the lines of a fenced code block with the end of a text; the first one counts the lines left out."""
    all_lines = [printable(line) for line in strip_ansi(text).strip("\n").split("\n")]
    lines = all_lines[-MAX_LINES:]
    if len(all_lines) > MAX_LINES:
        lines.insert(0, f"[{len(all_lines) - MAX_LINES} lines before this are left out]")
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [f"{fence}text", *lines, fence]


# ---- GitHub Actions


def workflow_commands(run: CiRun) -> Iterator[str]:
    """Yield lines for the log of GitHub Actions: for equal failures, one annotation, and a group with the details.

    The format follows GitHub's documentation, "Workflow commands for GitHub Actions". `stop-commands` with a random
    token keeps GitHub from executing commands in the output of jobs.
    """
    for number, spans in enumerate(run.failure_groups()):
        span = spans[0]
        title = f"{_verdict.join_names([span.path for span in spans], MAX_NAMED_JOBS)} failed"
        if number < MAX_ANNOTATIONS:
            place = run.place(span)
            where = "" if place is None else f"file={_escape_property(place[0])},line={place[1]},"
            yield f"::error {where}title={_escape_property(title)}::{_escape_data(exception_headline(span))}\n"
        yield f"::group::{_escape_data(title)}\n"
        stop = secrets.token_hex(16)
        yield f"::stop-commands::{stop}\n"
        for text in (run.traceback(span), *(text for _, text in run.outputs(span))):
            yield _escape_log_text(text).rstrip("\n") + "\n"
        yield f"::{stop}::\n::endgroup::\n"


def _escape_log_text(text: str) -> str:
    """Return a text without terminal escape sequences, and with other unprintable characters escaped."""
    return re.sub(r"[^\n\t]+", lambda match: printable(match[0]), strip_ansi(text))


def _escape_data(text: str) -> str:
    return _escape_log_text(text).replace("%", "%25").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")
