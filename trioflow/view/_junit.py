"""`JUnit`: an instrument that writes a run as JUnit XML, for CI systems.

JUnit XML has no standard. The file has the structure that pytest writes, and that Jenkins, GitLab and GitHub Actions
read: a list of suites, each with its test cases. Suites are not nested, because some programs ignore nested suites.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Final, final
from xml.etree import ElementTree as Tree

from .._core.base import _logger, _text_forms
from .._core.base._states import JobState, StopReason
from .._core.job._job_options import file_path
from .._core.scheduler._base_scheduler import BaseScheduler
from ._exports import write_atomically
from ._state_styles import STATE_STYLES, recorded_state
from .text import _failure_text, _verdict
from .trace._event_log import EventRecorder, build_record
from .trace._spans import Span, or_infinity
from .trace._trace_record import TraceRecord

OUTPUT_NAMES: Final = {"stdout": "output", "stderr": "standard error"}
ANSI_ESCAPE_PATTERN: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"
)
INVALID_XML_CHARACTERS: Final = re.compile(
    "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)
ORDINAL_PATTERN: Final = re.compile(r"(?<!\\)(?:\\\\)*(#\d+)\Z")
"""The end of a path that tells a job from others with its label."""


@final
class JUnit(EventRecorder):
    """An instrument that writes a run as JUnit XML, a test case for each job, for Jenkins, GitLab, GitHub and others.

    Use it in CI.

    Each scheduler is a suite. A FAILED job, including one that timed out, is reported as a failure, or as skipped if
    its failure does not count: it or its group was tolerated, or an `await` raised it. A job that failed before it
    succeeded is flaky. The text of the failure has the traceback and the end of the command's captured output. A job
    that is BLOCKED, SKIPPED or CANCELLED, or that the run never reached, is reported as skipped, with the reason. A
    forever job that was cancelled at the end of the run is reported as passed. If the run went wrong although no job
    failed, for example by its timeout, the run itself is a case with an error. The file contains nothing that
    `redact=True` hides.

    If the file cannot be written, a warning is logged, and `is_written` is False. The run is not affected.

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

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path: Final[str] = os.path.abspath(file_path(path, "path", "JUnit()"))
        self.is_written: bool = False

    def __repr__(self) -> str:
        """Return the class name and the path of the file."""
        return f"<JUnit to {self.path!r}>"

    def before_run(self, scheduler: BaseScheduler) -> None:
        """Record the start of a run. At the outermost run, this starts a new record."""
        super().before_run(scheduler)
        self.is_written = False

    def after_run(self, scheduler: BaseScheduler) -> None:
        """Record the end of a run. If it was the outermost run, write the file."""
        super().after_run(scheduler)
        if self._running_schedulers:
            return
        try:
            write_atomically(self.path, xml_text(build_record(self._log)))
            self.is_written = True
        except OSError as error:
            _logger.warn(
                f"JUnit cannot be written to {self.path!r}: {error.strerror or error}"
            )
        finally:
            self._log.clear()


def xml_text(record: TraceRecord) -> str:
    """Return the text of the file about a run.

    There is a case for each job, and for each nested scheduler that failed without a failed job.
    """
    cases = sorted(record.counted_spans, key=lambda span: or_infinity(span.finished_at))
    run = record.root_run
    assert run is not None
    root_label = run.label
    names: dict[int | None, str] = {None: root_label}
    # Enclosing ones first. Long paths are cut, because each case repeats the path of its suite.
    for outer in (
        record.spans[run.parent] for run in record.runs if run.parent is not None
    ):
        names[outer.number] = _text_forms.fit(f"{root_label}/{outer.path}", 200, "ends")
    earlier_errors = _errors_in_earlier_runs(record)
    spans_of_suites: dict[str, list[Span]] = {root_label: []}
    for span in cases:
        spans_of_suites.setdefault(names[span.parent], []).append(span)
    verdict = record.verdict(run, run.stop_reason)
    has_failure = any(_element(record, span) == "failure" for span in cases)
    # Whether the run itself went wrong.
    errors = int(not (verdict.is_good or has_failure))
    seconds = _format_time(record.seconds)
    timestamp = datetime.fromtimestamp(
        record.start_time + record.wall_offset, UTC
    ).isoformat(timespec="seconds")
    root = Tree.Element("testsuites")
    root.attrib.update(
        _attributes(
            name=root_label, **_format_counts(record, cases, errors), time=seconds
        )
    )
    for suite_name, spans in spans_of_suites.items():
        total_time = _format_time(sum(filter(None, [span.took for span in spans])))
        facts = {
            **_format_counts(record, spans, errors),
            "time": total_time,
            "timestamp": timestamp,
        }
        suite = _add(
            root, "testsuite", name=suite_name, **facts, hostname=record.host.name
        )
        for span in spans:
            _add_case(record, suite, span, earlier_errors.get(span.path, []))
        if errors:
            name = f"the run of {root_label}"
            case = _add(
                suite,
                "testcase",
                classname=root_label,
                name=name,
                time=_format_time(0.0),
            )
            kind = "" if run.stop_reason is None else run.stop_reason.name
            _add(case, "error", type=kind, message=verdict.sentence)
        # The suite of the outermost scheduler comes first.
        errors = 0
    Tree.indent(root, "")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{Tree.tostring(root, "unicode")}\n'


def _element(record: TraceRecord, span: Span) -> str:
    """Return the name of the element that says how a job ended, or "" if it passed."""
    if span.state is JobState.FAILED:
        return "skipped" if _pardon(record, span) else "failure"
    return "skipped" if _unfinished_reason(record, span) else ""


def _pardon(record: TraceRecord, span: Span) -> str:
    """Return why the failure of a job does not count, or "" if it does."""
    run = record.root_run
    assert run is not None
    if span.critical is False:
        return "tolerated"
    if span.number in record.numbers_in_tolerated:
        return "did not count"
    # An `await` has raised it, or it is in a cancelled group.
    return "did not count" if run.stop_reason is StopReason.COMPLETED else ""


def _errors_in_earlier_runs(record: TraceRecord) -> dict[str, list[str]]:
    """Return the errors of jobs in runs of their groups that were followed by another run, by path."""
    errors: dict[str, list[str]] = {}
    for span in record.spans:
        if span.number in record.counted_numbers or record.is_group(span.number):
            continue
        texts = errors.setdefault(span.path, [])
        texts += _errors_in_attempts(span)
        if span.state is JobState.FAILED:
            texts.append(span.exception_text)
    return errors


def _errors_in_attempts(span: Span) -> list[str]:
    return [error for number, _, error in span.failed_attempts if number and error]


def _case_name(span: Span) -> str:
    """Return the label of a job, with its number if it is not the first with this label: GitLab ignores equal names."""
    ordinal = ORDINAL_PATTERN.search(span.path)
    return span.label if ordinal is None else span.label + ordinal[1]


def _add_case(
    record: TraceRecord, suite: Tree.Element, span: Span, earlier_errors: list[str]
) -> None:
    case = _add(
        suite,
        "testcase",
        classname=suite.attrib["name"],
        name=_case_name(span),
        time=_format_time(span.took or 0.0),
    )
    if span.state is JobState.FAILED:
        # The output is part of the failure's text, because some programs show nothing else of a test case.
        outputs = _command_outputs(record, span)
        details = "\n".join(
            [
                _traceback(record, span, outputs),
                *(f"Its {name}:\n{text}" for name, text in outputs),
            ]
        )
        message = ""
        if span.exception is not None:
            message = _failure_text.first_line_text(span.exception)
        if pardon := _pardon(record, span):
            message = f"failed ({pardon}): {message}"
        kind = record.failures[span.number].type_name
        _add(case, _element(record, span), details, type=kind, message=message)
    elif reason := _unfinished_reason(record, span):
        _add(case, "skipped", message=reason)
    if span.state in (JobState.SUCCEEDED, JobState.FAILED):
        # The elements of Maven's Surefire for repeated tests.
        element = "rerunFailure" if _element(record, span) else "flakyFailure"
        for error in (*earlier_errors, *_errors_in_attempts(span)):
            repeated = _add(case, element, type=error.partition(":")[0], message=error)
            _add(repeated, "stackTrace", error)
    if span.restored:
        _add(case, "system-out", "restored from the journal of an earlier run")


def _traceback(record: TraceRecord, span: Span, outputs: list[tuple[str, str]]) -> str:
    """Return the traceback of a failed job. A message that ends with captured output is shortened."""
    failure = record.failures[span.number]
    _, newline, last_line = failure.message.rstrip().rpartition("\n")
    if newline and any(output.rstrip().endswith(last_line) for _, output in outputs):
        return failure.traceback.replace(
            failure.message, _text_forms.headline(failure.message)
        )
    return failure.traceback


def _command_outputs(record: TraceRecord, span: Span) -> list[tuple[str, str]]:
    """Return the name and the text of each captured output of a failed command.

    Return none for jobs that run no command, and for jobs with `redact=True`.
    """
    outputs: list[tuple[str, str]] = []
    for output in getattr(record.commands.get(span.number), "outputs", ()):
        if output.text.strip():
            omitted = _text_forms.clause(
                "[{} earlier bytes are omitted]\n", max(0, output.skipped_bytes)
            )
            outputs.append((OUTPUT_NAMES[output.stream], omitted + output.text))
    return outputs


def _unfinished_reason(record: TraceRecord, span: Span) -> str:
    """Return why a job did not run to its end.

    Return an empty string if the job succeeded or failed, or if it is a forever job that ended with the run.
    """
    if span.forever and span.state not in _verdict.TROUBLE_STATES:
        return ""
    blocked = record.find_blocked(span)
    words = STATE_STYLES[recorded_state(blocked)].unfinished_reason
    root = record.find_root_failure(blocked)
    if root is blocked:
        if root.state is JobState.BLOCKED and root.exception_text:
            return f"{words}: {root.exception_text}"
        return words
    return f"{words}, because {_verdict.failure_words(root)}"


def _format_counts(
    record: TraceRecord, spans: list[Span], errors: int
) -> dict[str, str]:
    elements = Counter(_element(record, span) for span in spans)
    return {
        "tests": str(len(spans) + errors),
        "failures": str(elements["failure"]),
        "errors": str(errors),
        "skipped": str(elements["skipped"]),
    }


def _format_time(seconds: float) -> str:
    return f"{max(0.0, seconds):.3f}"


def _add(
    parent: Tree.Element, tag: str, text: str = "", /, **attributes: str
) -> Tree.Element:
    element = Tree.SubElement(parent, tag, _attributes(**attributes))
    element.text = escape_invalid_characters(text)
    return element


def _attributes(**attributes: str) -> dict[str, str]:
    return {
        name: escape_invalid_characters(value) for name, value in attributes.items()
    }


def escape_invalid_characters(text: str) -> str:
    """Return a text without terminal escape sequences. Characters that XML forbids are escaped as in Python."""
    return INVALID_XML_CHARACTERS.sub(
        lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(),
        ANSI_ESCAPE_PATTERN.sub("", text),
    )
