"""`JUnit`: a run as a file of JUnit XML, which CI systems read.

There is no standard. This follows what Jenkins, GitLab and GitHub's actions read, and what pytest writes: suites stand
beside each other, each with its cases; there are no suites in suites, which some of them pass over.
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
from ._test_cases import CiReport, CiRun, headline_of, why_not

ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
"""Escape sequences for terminals."""
NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow (section 2.2)."""


@final
class JUnit(CiReport):
    """Writes a run as JUnit XML, one test case per job, for Jenkins, GitLab, GitHub and others.

    Each scheduler is a suite. A job that FAILED, by its timeout, too, is a failure. Its text, which every reader shows,
    has the traceback and the end of the output that was captured of its command. One that is BLOCKED, SKIPPED or
    CANCELLED, or was never reached, is skipped, with the reason. A forever job that the end of the run has cancelled
    has passed. What `redact=True` hides is not in the file.

    Args:
        path: the file, which each run replaces when it has ended.

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
            file.writelines(xml(run))


def xml(run: CiRun) -> Iterator[str]:
    """Yield the lines of the file."""
    suites: dict[str, list[Span]] = {run.label: []}
    for span in run.cases:
        suites.setdefault(run.suite(span), []).append(span)
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield f"<testsuites name={_quoted(run.label)} {_counts(run.cases)} time={_time(run.seconds)}>\n"
    when = datetime.fromtimestamp(run.began, UTC).isoformat(timespec="seconds")
    for name, spans in suites.items():
        time = _time(sum(span.elapsed or 0.0 for span in spans))
        about = f'timestamp="{when}" hostname={_quoted(socket.gethostname())}'
        yield f"<testsuite name={_quoted(name)} {_counts(spans)} time={time} {about}>\n"
        for span in spans:
            yield from _case(run, name, span)
        yield "</testsuite>\n"
    yield "</testsuites>\n"


def _case(run: CiRun, suite: str, span: Span) -> Iterator[str]:
    yield f"<testcase classname={_quoted(suite)} name={_quoted(span.label)} time={_time(span.elapsed or 0.0)}>"
    if span.state is JobState.FAILED:
        # Some readers show nothing but the text of the failure.
        details = "\n".join([run.traceback(span), *(f"Its {name}:\n{text}" for name, text in run.outputs(span))])
        kind = _quoted(type(span.exception).__qualname__)
        yield f"\n<failure type={kind} message={_quoted(headline_of(span))}>{_text(details)}</failure>\n"
    elif why_not(span):
        yield f"\n<skipped message={_quoted(why_not(span))}/>\n"
    if span.restored:
        yield "\n<system-out>restored from the journal of an earlier run</system-out>\n"
    yield "</testcase>\n"


def _counts(spans: list[Span]) -> str:
    failed = sum(span.state is JobState.FAILED for span in spans)
    skipped = sum(bool(why_not(span)) for span in spans)
    return f'tests="{len(spans)}" failures="{failed}" errors="0" skipped="{skipped}"'


def _time(seconds: float) -> str:
    return f'"{max(0.0, seconds):.3f}"'


def plain(text: str) -> str:
    """Return a text without colours for terminals."""
    return ANSI.sub("", text)


def clean(text: str) -> str:
    """Return a text without colours, and with an escape sequence for each character that XML cannot have."""
    return NOT_IN_XML.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), plain(text))


def _text(text: str) -> str:
    return escapes.escape(clean(text), quote=False)


def _quoted(text: str) -> str:
    text = escapes.escape(clean(text)).translate({ord(blank): f"&#{ord(blank)};" for blank in "\t\n\r"})
    return f'"{text}"'
