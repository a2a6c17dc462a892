"""`JUnit`: an instrument that writes a run as JUnit XML, for CI systems.

JUnit XML has no standard. The file has the structure that pytest writes, and that Jenkins, GitLab and GitHub Actions
read: a flat list of suites, each with its test cases. Suites are never nested, because some readers ignore nested ones.
"""

from __future__ import annotations

import html as escapes
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, final

from ..._core.api.views import JobState
from ..trace._spans import Span
from ._test_cases import CiReport, CiRun, exception_headline, unfinished_reason

ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
"""Terminal escape sequences: colours, titles, cursor movements."""
NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""The characters that XML 1.0 forbids (section 2.2)."""


@final
class JUnit(CiReport):
    """An instrument that writes a run as JUnit XML, one test case per job, for Jenkins, GitLab, GitHub and others.

    Each scheduler is a suite. A FAILED job, including one that timed out, is a failure; the text of the failure has
    the traceback and the end of the command's captured output. A job that is BLOCKED, SKIPPED or CANCELLED, or that
    the run never reached, is skipped, with the reason. A forever job that was cancelled at the end of the run has
    passed. The file has nothing that `redact=True` hides.

    Args:
        path: the file; each run replaces it at its end.

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
    """Yield the lines of the JUnit XML file for a run."""
    suites: dict[str, list[Span]] = {run.label: []}
    for span in run.cases:
        suites.setdefault(run.suite(span), []).append(span)
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield f"<testsuites name={_quote(run.label)} {_format_counts(run.cases)} time={_format_time(run.seconds)}>\n"
    when = datetime.fromtimestamp(run.began, UTC).isoformat(timespec="seconds")
    for name, spans in suites.items():
        time = _format_time(sum(span.elapsed or 0.0 for span in spans))
        origin = f'timestamp="{when}" hostname={_quote(socket.gethostname())}'
        yield f"<testsuite name={_quote(name)} {_format_counts(spans)} time={time} {origin}>\n"
        for span in spans:
            yield from _case_lines(run, name, span)
        yield "</testsuite>\n"
    yield "</testsuites>\n"


def _case_lines(run: CiRun, suite: str, span: Span) -> Iterator[str]:
    """Yield the lines of one test case."""
    yield f"<testcase classname={_quote(suite)} name={_quote(span.label)} time={_format_time(span.elapsed or 0.0)}>"
    if span.state is JobState.FAILED:
        # Some readers show only the text of the failure.
        details = "\n".join([run.traceback(span), *(f"Its {name}:\n{text}" for name, text in run.outputs(span))])
        kind = _quote(type(span.exception).__qualname__)
        yield f"\n<failure type={kind} message={_quote(exception_headline(span))}>{_escape(details)}</failure>\n"
    elif unfinished_reason(span):
        yield f"\n<skipped message={_quote(unfinished_reason(span))}/>\n"
    if span.restored:
        yield "\n<system-out>restored from the journal of an earlier run</system-out>\n"
    yield "</testcase>\n"


def _format_counts(spans: list[Span]) -> str:
    """Return the counts of test cases as XML attributes."""
    failed = sum(span.state is JobState.FAILED for span in spans)
    skipped = sum(bool(unfinished_reason(span)) for span in spans)
    return f'tests="{len(spans)}" failures="{failed}" errors="0" skipped="{skipped}"'


def _format_time(seconds: float) -> str:
    return f'"{max(0.0, seconds):.3f}"'


def strip_ansi(text: str) -> str:
    """Return a text without terminal escape sequences."""
    return ANSI.sub("", text)


def escape_invalid_characters(text: str) -> str:
    """Return a text with characters that XML forbids escaped as in Python, and without terminal escape sequences."""
    return NOT_IN_XML.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), strip_ansi(text))


def _escape(text: str) -> str:
    return escapes.escape(escape_invalid_characters(text), quote=False)


def _quote(text: str) -> str:
    """Return a text as an XML attribute value in quotes."""
    text = escapes.escape(escape_invalid_characters(text)).translate(
        {ord(blank): f"&#{ord(blank)};" for blank in "\t\n\r"}
    )
    return f'"{text}"'
