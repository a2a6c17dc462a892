"""`JUnit`: an instrument that writes a run as JUnit XML, for CI systems.

JUnit XML has no standard. The file has the structure that pytest writes, and that Jenkins, GitLab and GitHub Actions
read: a list of suites, each with its test cases. Suites are not nested, because some programs ignore nested suites.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, final

from ..._core.api.views import JobState
from ..trace._spans import Span
from ._test_cases import CiReport, CiRun, exception_headline

ANSI_ESCAPE_PATTERN: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
INVALID_XML_CHARACTERS: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""The characters that XML 1.0 forbids (section 2.2)."""


@final
class JUnit(CiReport):
    """An instrument that writes a run as JUnit XML, one test case per job, for Jenkins, GitLab, GitHub and others.

    Each scheduler is a suite. A FAILED job, including one that timed out, is reported as a failure. The text of the
    failure contains the traceback and the end of the command's captured output. A job that is BLOCKED, SKIPPED or
    CANCELLED, or that the run never reached, is reported as skipped, with the reason. A forever job that was cancelled
    at the end of the run is reported as passed. The file contains nothing that `redact=True` hides.

    Args:
        path: the file, which is replaced at the end of each run.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> async def work(): ...
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "junit.xml"
        ...     ok = Scheduler(Job(work), label="one").run(instruments=[JUnit(path)])
        ...     print(path.read_text().splitlines()[0])
        <?xml version="1.0" encoding="UTF-8"?>

    """

    def _write(self, run: CiRun) -> None:
        with open(self.path, "w", encoding="utf-8", newline="") as file:
            file.writelines(xml_lines(run))


def xml_lines(run: CiRun) -> Iterator[str]:
    suites: dict[str, list[Span]] = {run.label: []}
    for span in run.cases:
        suites.setdefault(run.suite_name(span), []).append(span)
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield f"<testsuites name={_quote(run.label)} {_format_counts(run, run.cases)} time={_format_time(run.seconds)}>\n"
    timestamp = datetime.fromtimestamp(run.start_time, UTC).isoformat(timespec="seconds")
    for suite_name, spans in suites.items():
        total_time = _format_time(sum(span.took or 0.0 for span in spans))
        attributes = f'timestamp="{timestamp}" hostname={_quote(run.host)}'
        yield f"<testsuite name={_quote(suite_name)} {_format_counts(run, spans)} time={total_time} {attributes}>\n"
        for span in spans:
            yield from _case_lines(run, suite_name, span)
        yield "</testsuite>\n"
    yield "</testsuites>\n"


def _case_lines(run: CiRun, suite_name: str, span: Span) -> Iterator[str]:
    name, time = _quote(span.label), _format_time(span.took or 0.0)
    yield f"<testcase classname={_quote(suite_name)} name={name} time={time}>"
    if span.state is JobState.FAILED:
        # The output is part of the failure's text, because some programs show nothing else of a test case.
        details = "\n".join(
            [run.format_traceback(span), *(f"Its {name}:\n{text}" for name, text in run.command_outputs(span))]
        )
        attributes = f"type={_quote(run.type_of_failure(span))} message={_quote(exception_headline(span))}"
        yield f"\n<failure {attributes}>{_escape(details)}</failure>\n"
    elif run.unfinished_reason(span):
        yield f"\n<skipped message={_quote(run.unfinished_reason(span))}/>\n"
    if span.restored:
        yield "\n<system-out>restored from the journal of an earlier run</system-out>\n"
    yield "</testcase>\n"


def _format_counts(run: CiRun, spans: list[Span]) -> str:
    failure_count = sum(span.state is JobState.FAILED for span in spans)
    skipped_count = sum(bool(run.unfinished_reason(span)) for span in spans)
    return f'tests="{len(spans)}" failures="{failure_count}" errors="0" skipped="{skipped_count}"'


def _format_time(seconds: float) -> str:
    return f'"{max(0.0, seconds):.3f}"'


def strip_ansi(text: str) -> str:
    """Return a text without terminal escape sequences."""
    return ANSI_ESCAPE_PATTERN.sub("", text)


def escape_invalid_characters(text: str) -> str:
    """Return a text without terminal escape sequences. Characters that XML forbids are escaped as in Python."""
    return INVALID_XML_CHARACTERS.sub(
        lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), strip_ansi(text)
    )


def _escape(text: str) -> str:
    return html.escape(escape_invalid_characters(text), quote=False)


def _quote(text: str) -> str:
    escaped = html.escape(escape_invalid_characters(text)).translate(
        {ord(whitespace): f"&#{ord(whitespace)};" for whitespace in "\t\n\r"}
    )
    return f'"{escaped}"'
