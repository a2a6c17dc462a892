"""OpenTelemetry: spans of runs and jobs, metrics, and trace contexts for commands, processes and nodes.

This module needs the extra `otel`: `pip install "trioflow[otel]"`. The program configures the exporters of
    OpenTelemetry's SDK. Without the SDK, nothing is recorded.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from . import AbstractJob, Pool, Scheduler

try:
    from opentelemetry import context as otel_context
    from opentelemetry import metrics, propagate, trace
except ModuleNotFoundError as _missing:
    _message = f'{_missing}: install it with pip install "trioflow[otel]"'
    raise ModuleNotFoundError(_message, name=_missing.name) from None

from . import CommandJob, CommandService, JobState, __version__
from ._core.words._job_queries import explicit_label
from .abc import (
    Instrument,
    JobKind,
    is_scheduler,
    propagate_env,
    reported_state,
    waiting,
)
from .view.text._failure_text import format_traceback, safe_message
from .view.text._verdict import Tally, run_verdict

__all__ = ["Tracing", "remote_context"]

if TYPE_CHECKING:
    AnyJob = AbstractJob[Any]

PROPAGATION_FIELDS: Final = ("traceparent", "tracestate", "baggage")
FAILURE_STATES: Final = frozenset(
    {JobState.FAILED, JobState.BLOCKED, JobState.CANCELLED}
)


class Tracing(Instrument):
    """An instrument that records a run with OpenTelemetry.

    The run has a span, and each job has a span inside its scheduler's span, with links to the spans of its
    requirements. The parent of the run's span is the current span, or else the span that the environment variable
    `TRACEPARENT` names, as CI systems set it. The name of a job's span is the label of the job or, without a label, the
    name of its program or function, or of its class if it has `redact=True`. A job's span is the current span in its
    body, in threads that it calls, and in tasks that it starts, so the spans and logs of instrumented libraries belong
    to it. Commands, here and on nodes, and functions in processes and on a cluster find it in the variables
    `TRACEPARENT`, `TRACESTATE` and `BAGGAGE`. See `remote_context`. Jobs that never start, and those that a journal
    restores, have a span without duration. A job with `redact=True` records no command line, and only the type of its
    exception.

    These are the metrics:

    - "trioflow.jobs.running"
    - "trioflow.jobs.waiting", by `cause`, a value of `WaitCause`, such as "slot"
    - "trioflow.jobs.failures", by `error.type`
    - "trioflow.job.duration", in seconds, by `state`
    - "trioflow.budget.left", by `budget`, the name of a `Budget` in a pool

    Jobs do not wait for a collector if the SDK's exporters send in batches, which they do in threads of their own.

    Args:
        tracer_provider: the provider of the tracer, or None for the global provider.
        meter_provider: the provider of the meter, or None for the global provider.

    Raises:
        ModuleNotFoundError: OpenTelemetry is not installed. The import of this module raises it.

    Example:
        >>> from opentelemetry.sdk.trace import TracerProvider
        >>> from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        >>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        >>> exporter = InMemorySpanExporter()
        >>> provider = TracerProvider()
        >>> provider.add_span_processor(SimpleSpanProcessor(exporter))
        >>> async def bake():
        ...     pass
        >>> Scheduler(Job(bake, label="bake"), label="shop").run(instruments=[Tracing(provider)])
        True
        >>> [span.name for span in exporter.get_finished_spans()]
        ['bake', 'shop']

    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer: Final = trace.get_tracer("trioflow", __version__, tracer_provider)
        meter = metrics.get_meter("trioflow", __version__, meter_provider)
        self._running: Final = meter.create_up_down_counter(
            "trioflow.jobs.running", "{job}", "Running jobs."
        )
        self._failures: Final = meter.create_counter(
            "trioflow.jobs.failures", "{job}", "Failed jobs."
        )
        self._duration: Final = meter.create_histogram(
            "trioflow.job.duration", "s", "Duration of jobs."
        )
        # A provider never forgets its callbacks.
        self_ref = weakref.ref(self)
        meter.create_observable_gauge(
            "trioflow.jobs.waiting",
            [lambda _: _observe_waiting(self_ref())],
            "{job}",
            "Ready jobs that are waiting.",
        )
        meter.create_observable_gauge(
            "trioflow.budget.left",
            [lambda _: _observe_budgets(self_ref())],
            "1",
            "What is left of each budget.",
        )
        # Pools with budgets, kept because a budget is not given back.
        self._pools: Final[dict[Pool, None]] = {}
        # An ordered set, which the exporter's thread copies.
        self._waiting: Final[dict[AnyJob, None]] = {}
        # The spans that have not ended.
        self._spans: Final[dict[AnyJob, trace.Span]] = {}
        self._ended_contexts: Final[
            weakref.WeakKeyDictionary[AnyJob, trace.SpanContext]
        ] = weakref.WeakKeyDictionary()

    # ---- runs

    def before_run(self, scheduler: Scheduler) -> None:
        """Start the span of an outermost run. For a nested run, `job_started` has started it."""
        if scheduler.pool is not None and scheduler.pool.budgets:
            self._pools[scheduler.pool] = None
        if scheduler not in self._spans:
            for job in scheduler.iterate_jobs():
                # Of an earlier run.
                self._ended_contexts.pop(job, None)
            parent = None
            if not trace.get_current_span().get_span_context().is_valid:
                parent = remote_context()
            self._spans[scheduler] = self._tracer.start_span(
                _span_name(scheduler), parent, attributes=_span_attributes(scheduler)
            )

    def incident(
        self,
        scheduler: Scheduler,
        job: AnyJob | None,
        message: str,
        exception: BaseException | None,
    ) -> None:
        """Add an event to the span of the run."""
        if (span := self._spans.get(scheduler)) is not None:
            span.add_event(
                "incident",
                {
                    "message": _encodable(message),
                    "exception.type": _type_name(exception),
                },
            )

    def after_run(self, scheduler: Scheduler) -> None:
        """End the span of an outermost run. In any run, end the spans of jobs that an internal error has left open."""
        for job in [job for job in self._spans if job.scheduler is scheduler]:
            self._spans.pop(job).end()
        for job in [job for job in self._waiting if job.scheduler is scheduler]:
            del self._waiting[job]
        if scheduler.is_running():
            # The run is nested: `job_settled` ends its span.
            return
        span = self._spans.pop(scheduler, None)
        if span is None:
            return
        reason = scheduler.stop_reason
        if reason is not None:
            span.set_attribute("trioflow.stop_reason", reason.value)
        span.set_attribute(
            "trioflow.failures", Tally.for_scheduler(scheduler).failure_count
        )
        verdict = run_verdict(scheduler, reason)
        if not verdict.is_good:
            span.set_status(trace.StatusCode.ERROR, _encodable(verdict.sentence))
        span.end()

    # ---- jobs

    def job_scheduled(self, scheduler: Scheduler, job: AnyJob) -> None:
        """Record that a job waits. If it was throttled, end its span. If it will be retried, its span goes on."""
        self._waiting[job] = None
        if (span := self._spans.get(job)) is not None:
            self._running.add(-1)
            if job.started_at is not None:
                span.add_event("retry")
                return
            del self._spans[job]
            span.add_event("throttled")
            span.end()

    def job_started(self, scheduler: Scheduler, job: AnyJob) -> None:
        """Start the span of a job, and make it the current span in the body of the job."""
        self._waiting.pop(job, None)
        span = self._spans.get(job) or self._start_span(scheduler, job)
        self._spans[job] = span
        context = trace.set_span_in_context(span)
        # No token is kept: the context is the job's own, and ends with it.
        otel_context.attach(context)
        carrier: dict[str, str] = {}
        propagate.inject(carrier, context)
        fields = carrier.keys() & set(PROPAGATION_FIELDS)
        propagate_env({name.upper(): carrier[name] for name in fields})
        self._running.add(1)

    def job_attempt(self, scheduler: Scheduler, job: AnyJob) -> None:
        """Add an event for each attempt after the first."""
        if job.attempts > 1:
            self._spans[job].add_event("attempt", {"number": job.attempts})

    def service_ready(self, scheduler: Scheduler, job: AnyJob) -> None:
        """Add an event for a service that is ready."""
        self._spans[job].add_event("ready")

    def job_reopened(self, scheduler: Scheduler, job: AnyJob) -> None:
        """Record that a job does not wait to start any more. If it waited for its next attempt, end its span."""
        if job in self._waiting:
            del self._waiting[job]
            if (span := self._spans.pop(job, None)) is not None:
                span.add_event("reopened")
                span.end()

    def job_settled(self, scheduler: Scheduler, job: AnyJob) -> None:
        """Record the state of a job in its span and in the metrics, and end the span."""
        span = self._spans.pop(job, None)
        is_waiting = job in self._waiting
        self._waiting.pop(job, None)
        if span is None:
            # The job never started.
            span = self._start_span(scheduler, job)
        else:
            self._running.add(0 if is_waiting else -1)
            self._duration.record(job.took or 0.0, {"state": reported_state(job).value})
        span.set_attribute("trioflow.state", reported_state(job).value)
        if job.attempts > 1:
            span.set_attribute("trioflow.attempts", job.attempts)
        if job.restored:
            span.set_attribute("trioflow.restored", True)
        elif isinstance(job, JobKind):
            span.set_attributes(_process_attributes(job))
        if job.state in FAILURE_STATES:
            error = job.raised_exception()
            self._failures.add(
                job.state is not JobState.CANCELLED, {"error.type": _type_name(error)}
            )
            _record_failure(span, job, error)
        span.end()
        self._ended_contexts[job] = span.get_span_context()

    def _start_span(self, scheduler: Scheduler, job: AnyJob) -> trace.Span:
        scheduler_span = self._spans.get(scheduler)
        parent = None
        if scheduler_span is not None:
            parent = trace.set_span_in_context(scheduler_span)
        # The job itself, if it is tried again.
        contexts = map(self._span_context, (*job.required, job))
        links = [trace.Link(context) for context in filter(None, contexts)]
        return self._tracer.start_span(
            _span_name(job), parent, links=links, attributes=_span_attributes(job)
        )

    def _span_context(self, job: AnyJob) -> trace.SpanContext | None:
        # A required service may be running. All other requirements have ended.
        running = self._spans.get(job)
        if running is None:
            return self._ended_contexts.get(job)
        return running.get_span_context()

    def _count_causes(self) -> Counter[str]:
        counts = Counter[str]()
        for job in self._waiting.copy():
            wait = waiting(job)
            if wait is not None:
                counts[wait.cause.value] += 1
        return counts


def remote_context(
    environment: Mapping[str, str] | None = None,
) -> otel_context.Context:
    """Return the trace context of the job that started this process, or that calls a function in it.

    A span with this context as its parent is inside the span of the job.

    Args:
        environment: the variables, such as `TRACEPARENT`, or None for the environment of this process.

    Example:
        >>> parent = remote_context({"TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
        >>> format(trace.get_current_span(parent).get_span_context().span_id, "016x")
        'b7ad6b7169203331'

    """
    variables = os.environ if environment is None else environment
    values = {name: variables.get(name.upper()) for name in PROPAGATION_FIELDS}
    return propagate.extract(
        {name: value for name, value in values.items() if value is not None}
    )


def _observe_budgets(tracing: Tracing | None) -> list[metrics.Observation]:
    """Return the rest of each budget in the pools of the schedulers that have run."""
    observations = list[metrics.Observation]()
    if tracing is not None:
        for pool in list(tracing._pools):
            for name, left in pool.budgets.items():
                observations.append(metrics.Observation(left, {"budget": name}))
    return observations


def _observe_waiting(tracing: Tracing | None) -> Iterable[metrics.Observation]:
    if tracing is None:
        return []
    counts = tracing._count_causes()
    return [metrics.Observation(counts[cause], {"cause": cause}) for cause in counts]


def _span_name(job: AnyJob) -> str:
    """Return the name of a job's span: its label, or else the name of its program or function.

    Arguments are left out, so that similar jobs have the same name.
    """
    if (label := explicit_label(job)) is not None:
        return _encodable(label)
    program = _program_name(job)
    if program is None:
        program = job.label.partition("(")[0]
    return _encodable(program)


def _program_name(job: AnyJob) -> str | None:
    """Return the name of the program that a job starts or, without a program or with `redact`, the name of its class.

    Return None for a scheduler, and for a job that calls a function in this process.
    """
    if not isinstance(job, JobKind):
        return None
    group: object = None
    # A kind of a user may raise in it.
    with contextlib.suppress(Exception):
        group = job.failure_group()
    if isinstance(group, str) and not group.startswith("<") and not job.redact:
        # "<...>": the program is an input.
        return posixpath.basename(group)
    return type(job).__name__


def _span_attributes(job: AnyJob) -> dict[str, Any]:
    attributes: dict[str, Any] = {"trioflow.kind": type(job).__name__}
    if is_scheduler(job):
        attributes["trioflow.jobs"] = len(job)
    elif explicit_label(job) is None:
        attributes["trioflow.label"] = _encodable(job.label)
    if isinstance(job, (CommandJob, CommandService)) and not job.redact:
        attributes["process.executable.name"] = _encodable(_program_name(job) or "")
        attributes["process.command_line"] = _encodable(job.command_line())
    return attributes


def _process_attributes(job: JobKind[Any]) -> dict[str, int]:
    """Return the attributes of a command's process, named by OpenTelemetry's conventions, or {} without a process."""
    if (result := job.last_result) is None:
        return {}
    numbers = {"process.exit.code": result.returncode, "process.pid": result.pid}
    return {name: number for name, number in numbers.items() if number is not None}


def _encodable(text: str) -> str:
    """Return a text with lone surrogates escaped: an exporter drops all spans of a batch with such a name."""
    return text.encode(errors="backslashreplace").decode()


def _type_name(error: BaseException | None) -> str:
    if error is None:
        return ""
    return type(error).__qualname__


def _full_type_name(error: BaseException) -> str:
    module = type(error).__module__
    name = _type_name(error)
    if module == "builtins":
        return name
    return f"{module}.{name}"


def _record_failure(span: trace.Span, job: AnyJob, error: BaseException | None) -> None:
    if error is None:
        span.set_attribute("error.type", job.state.value)
        span.set_status(trace.StatusCode.ERROR, job.state.value)
        return
    description = _type_name(error)
    span.set_attribute("error.type", description)
    if not job.redact:
        message = _encodable(safe_message(error))
        description += f": {message}"
        # Not `record_exception`, which raises what the exception's own code raises.
        event = {
            "exception.type": _full_type_name(error),
            "exception.message": message,
            "exception.stacktrace": _encodable(format_traceback(error)),
            "exception.escaped": "False",
        }
        span.add_event("exception", event)
    span.set_status(trace.StatusCode.ERROR, description)
