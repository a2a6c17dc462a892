"""Checked by mypy and pyright, never run: the types of a trace."""

from typing import assert_type
from trioflow import JobState, Scheduler, Trace
from trioflow.view import Span

trace = Trace()
scheduler = Scheduler(instruments=[trace])

assert_type(trace.spans, tuple[Span, ...])
assert_type(trace.critical_path, tuple[Span, ...])
assert_type(trace.wall_offset, float)
span = trace.spans[0]
assert_type(span.state, JobState)
assert_type(span.started_at, float | None)
assert_type(span.elapsed, float | None)
assert_type(span.attempts, tuple[float, ...])
assert_type(span.exception, BaseException | None)
assert_type(span.exception_text, str)
