"""`Summary`: an instrument that describes a run in Markdown and in annotations for GitHub Actions."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import Final, final

from ..._core.api.views import JobState, duration_text, join_names, listed_lines, printable
from .._state_styles import recorded_state
from ..text._symbols import Symbols, stop_workflow_commands
from ._junit import strip_ansi
from ._test_cases import CiReport, CiRun, exception_headline

MAX_FAILURES: Final = 20
"""The maximum number of failures in a summary, and the maximum number of jobs listed as blocked by failures."""
MAX_TEXT_LINES: Final = 60
"""The maximum number of lines kept from the end of a text. More would risk GitHub's limit of 1 MiB for a summary."""
MAX_SLOWEST_JOBS: Final = 10
MAX_NAMED_JOBS: Final = 3
MAX_ANNOTATIONS: Final = 10
"""The maximum number of error annotations that GitHub shows for a step."""
MARKDOWN_PUNCTUATION: Final = re.compile(r"([\\`*_{}\[\]<>#|~&@$])")


@final
class Summary(CiReport):
    """An instrument that writes a Markdown summary: the verdict, the failures, the graph, and the slowest jobs.

    For each failure, the summary shows the line of your code that failed or, if this line is unknown, the traceback. In
    GitHub Actions, where the variable `GITHUB_ACTIONS` is set, the failures are also printed as annotations. Each
    annotation is for a group of similar failures. It refers to the failed line if that is known, and is followed by the
    traceback and the output in a collapsed section.

    Args:
        path: the file, which is replaced at the end of each run. By default, the summary is appended to the file that
            the variable `GITHUB_STEP_SUMMARY` names, which is the summary page of the GitHub step.

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
        step_summary = os.environ.get("GITHUB_STEP_SUMMARY")
        self._should_append: Final = path is None
        self.prints_annotations: bool = True
        """Whether annotations are printed in GitHub Actions; of several summaries of one run, only one prints them."""
        if path is None and not step_summary:
            raise ValueError("Summary(): give a path; only GitHub Actions sets GITHUB_STEP_SUMMARY")
        super().__init__(step_summary or "" if path is None else path)

    def _write(self, run: CiRun) -> None:
        if self.prints_annotations and os.environ.get("GITHUB_ACTIONS"):
            encoding = sys.stdout.encoding or "utf-8"
            commands = "".join(workflow_commands(run))
            sys.stdout.write(commands.encode(encoding, "backslashreplace").decode(encoding))
            sys.stdout.flush()
        with open(self.path, "a" if self._should_append else "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n".join(markdown_lines(run)) + "\n")


# ---- Markdown


def markdown_lines(run: CiRun) -> Iterator[str]:
    yield f"## {run.verdict.symbol(Symbols())} {escape_markdown(run.label)}: {escape_markdown(run.verdict.sentence)}"
    yield from ("", run.tally.describe())
    if run.failures:
        yield from ("", "### Failures")
    for span in run.failures[:MAX_FAILURES]:
        yield from ("", f"#### {escape_markdown(span.path)}", "", escape_markdown(exception_headline(span)))
        if line := run.failing_line(span):
            yield from ("", escape_markdown(line))
        elif "\n" in (traceback := run.format_traceback(span)).strip():
            yield from ("", *fenced_lines(traceback))
        for name, text in run.command_outputs(span):
            yield from ("", f"The end of its {name}:", "", *fenced_lines(text))
    if len(run.failures) > MAX_FAILURES:
        yield from ("", f"and {len(run.failures) - MAX_FAILURES} more failures")
    blocked_spans = [span for span in run.cases if span.state is JobState.BLOCKED]
    if blocked_spans:
        yield from ("", "### Not run", "")
        lines = [
            f"{escape_markdown(span.path)}: {escape_markdown(run.unfinished_reason(span))}" for span in blocked_spans
        ]
        yield from (f"- {line}" for line in listed_lines(lines, MAX_FAILURES))
    if graph := run.mermaid_graph():
        yield from ("", "### Graph", "", "```mermaid", *graph.splitlines(), "```")
    timed_spans = [(span.elapsed, span) for span in run.cases if span.elapsed and not span.forever]
    if timed_spans:
        yield from ("", "### Slowest jobs", "", "| job | time | state |", "|---|---:|---|")
        for seconds, span in sorted(timed_spans, key=lambda row: -row[0])[:MAX_SLOWEST_JOBS]:
            yield f"| {escape_markdown(span.path)} | {duration_text(seconds)} | {recorded_state(span).value} |"


def escape_markdown(text: str) -> str:
    """Return a text on one line, with Markdown's punctuation escaped."""
    return MARKDOWN_PUNCTUATION.sub(r"\\\1", printable(strip_ansi(text)))


def fenced_lines(text: str) -> list[str]:
    """Return the lines of a fenced code block with the end of a text. If lines are left out, the first one says so."""
    all_lines = [printable(line) for line in strip_ansi(text).strip("\n").split("\n")]
    shown_lines = all_lines[-MAX_TEXT_LINES:]
    if len(all_lines) > MAX_TEXT_LINES:
        shown_lines.insert(0, f"[{len(all_lines) - MAX_TEXT_LINES} earlier lines are omitted]")
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [f"{fence}text", *shown_lines, fence]


# ---- GitHub Actions


def workflow_commands(run: CiRun) -> Iterator[str]:
    """Yield the lines of the GitHub Actions log: an annotation and a collapsed group for each set of similar failures.

    GitHub shows only `MAX_ANNOTATIONS` annotations, so further sets have none. The format is documented by GitHub in
    "Workflow commands for GitHub Actions".
    """
    for number, spans in enumerate(run.failure_groups()):
        span = spans[0]
        title = f"{join_names([span.path for span in spans], MAX_NAMED_JOBS)} failed"
        if number < MAX_ANNOTATIONS:
            location = run.failing_location(span)
            position = "" if location is None else f"file={_escape_property(location[0])},line={location[1]},"
            yield f"::error {position}title={_escape_property(title)}::{_escape_data(exception_headline(span))}\n"
        yield f"::group::{_escape_data(title)}\n"
        texts = (run.format_traceback(span), *(text for _, text in run.command_outputs(span)))
        for text in stop_workflow_commands(_escape_log_text(text).rstrip("\n") for text in texts):
            yield text + "\n"
        yield "::endgroup::\n"


def _escape_log_text(text: str) -> str:
    """Return a text without terminal escape sequences, and with other unprintable characters escaped."""
    return re.sub(r"[^\n\t]+", lambda match: printable(match[0]), strip_ansi(text))


def _escape_data(text: str) -> str:
    return _escape_log_text(text).replace("%", "%25").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")
