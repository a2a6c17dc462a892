"""OpenTelemetry: spans of runs and jobs, metrics, and the context for commands, processes and nodes.

It needs the extra `otel`: `pip install "trioflow[otel]"`. The program configures the exporters of OpenTelemetry's SDK;
without the SDK, nothing is recorded.
"""

from __future__ import annotations

import os
import posixpath
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

try:
    from opentelemetry import context as otel_context
    from opentelemetry import metrics, propagate, trace
except ModuleNotFoundError as _missing:
    _message = f'{_missing}: install it with pip install "trioflow[otel]"'
    raise ModuleNotFoundError(_message, name=_missing.name) from None

from . import CommandJob, CommandService, JobState, __version__
from .abc import Instrument, JobKind, carry, given_label, is_scheduler, waiting
from .view.text._verdict import Tally, culprit_path, verdict

if TYPE_CHECKING:
    from . import AbstractJob, Scheduler

    AnyJob = AbstractJob[Any]

NAMES: Final = ("traceparent", "tracestate", "baggage")
"""The fields that propagators write; environment variables have their names in capitals."""
FAILED: Final = frozenset({JobState.FAILED, JobState.BLOCKED, JobState.CANCELLED})


class Tracing(Instrument):
    """An instrument that records a run with OpenTelemetry.

    The run has a span, and each job one inside its scheduler's, with links to the jobs that it required. The span
    of the run is inside the current one, or inside the one that `TRACEPARENT` in this program's environment names, as
    CI systems set it. A job's span is called by its label; without one, only by its program or function. The span
    is the current one in the body of its job, in threads that the job calls, and in tasks that it starts, so spans and
    logs of instrumented libraries belong to it. Commands, here and on nodes, and functions in processes and on a
    cluster find it in the variables `TRACEPARENT`, `TRACESTATE` and `BAGGAGE`; see `remote_context`. Jobs that never
    start, and those that a journal restores, have a span without duration. A job with `redact=True` shows the type of
    what it raised, without its text, and no command line.

    The metrics are "trioflow.jobs.running"; "trioflow.jobs.waiting", by `cause` (a value of `WaitCause`, such as
    "slot"); "trioflow.jobs.failures", by `error.type`; and "trioflow.job.duration", in seconds, by `state`.

    Nothing here waits for a collector: exporters of the SDK that send in batches do so in threads of their own.

    Args:
        tracer_provider: where the spans go; None for the provider that is set globally.
        meter_provider: where the metrics go; None for the global one.

    Raises:
        ModuleNotFoundError: by the import of this module, if OpenTelemetry is not installed.

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
        self._running: Final = meter.create_up_down_counter("trioflow.jobs.running", "{job}", "Jobs that run.")
        self._failures: Final = meter.create_counter("trioflow.jobs.failures", "{job}", "Jobs that have failed.")
        self._duration: Final = meter.create_histogram("trioflow.job.duration", "s", "How long jobs have run.")
        here = weakref.ref(self)  # a provider never forgets its callbacks
        meter.create_observable_gauge(
            "trioflow.jobs.waiting", [lambda _: _waiting_of(here())], "{job}", "Jobs that are ready, and wait."
        )
        self._waiting: Final[dict[AnyJob, None]] = {}  # the thread of the exporter reads a copy
        self._spans: Final[dict[AnyJob, trace.Span]] = {}  # the spans that have not ended
        self._ended: Final[weakref.WeakKeyDictionary[AnyJob, trace.SpanContext]] = weakref.WeakKeyDictionary()

    # ---- runs

    def before_run(self, scheduler: Scheduler) -> None:
        """Begin the span of an outermost run; a nested run has its job's span."""
        if scheduler not in self._spans:
            is_inside = trace.get_current_span().get_span_context().is_valid
            parent = None if is_inside else remote_context()
            self._spans[scheduler] = self._tracer.start_span(
                _name(scheduler), parent, attributes=_attributes(scheduler)
            )

    def incident(self, scheduler: Scheduler, job: AnyJob | None, message: str, exception: BaseException | None) -> None:
        """Add an event to the span of the run."""
        if (span := self._spans.get(scheduler)) is not None:
            span.add_event("incident", {"message": message, "exception.type": _type(exception)})

    def after_run(self, scheduler: Scheduler) -> None:
        """End the span of an outermost run, and the spans of jobs that a fault has left open."""
        for job in [job for job in self._spans if job.scheduler is scheduler]:
            self._spans.pop(job).end()
        for job in [job for job in self._waiting if job.scheduler is scheduler]:
            del self._waiting[job]
        if scheduler.is_running() or (span := self._spans.pop(scheduler, None)) is None:
            return  # it is a job, whose span ends with it
        reason = scheduler.stop_reason
        if reason is not None:
            span.set_attribute("trioflow.stop_reason", reason.value)
        tally = Tally.for_scheduler(scheduler)
        span.set_attribute("trioflow.failures", tally.failed)
        outcome = verdict(reason, tally, None, culprit_path(scheduler))
        if not outcome.is_good:
            span.set_status(trace.StatusCode.ERROR, outcome.words)
        span.end()

    # ---- jobs

    def job_scheduled(self, scheduler: Scheduler, job: AnyJob) -> None:
        """Count a job that waits, and end the span of an attempt that was throttled."""
        self._waiting[job] = None
        if (span := self._spans.pop(job, None)) is not None:
            span.add_event("throttled")
            span.end()
            self._running.add(-1)

    def job_started(self, scheduler: Scheduler, job: AnyJob) -> None:
        """Begin the span of a job, and make it the current one in its body."""
        self._waiting.pop(job, None)
        self._spans[job] = span = self._start(scheduler, job)
        context = trace.set_span_in_context(span)
        otel_context.attach(context)  # the context belongs only to the job, and ends with it
        carrier: dict[str, str] = {}
        propagate.inject(carrier, context)
        carry({name.upper(): value for name, value in carrier.items() if name in NAMES})
        self._running.add(1)

    def job_attempt(self, scheduler: Scheduler, job: AnyJob) -> None:
        """Add an event for each further attempt."""
        if job.attempts > 1:
            self._spans[job].add_event("attempt", {"number": job.attempts})

    def job_ready(self, scheduler: Scheduler, job: AnyJob) -> None:
        """Add an event for a service that is ready."""
        self._spans[job].add_event("ready")

    def job_finished(self, scheduler: Scheduler, job: AnyJob) -> None:
        """End the span of a job, and count it."""
        span = self._spans.pop(job, None)
        if span is None:  # it never started
            self._waiting.pop(job, None)
            span = self._start(scheduler, job)
        else:
            self._running.add(-1)
            self._duration.record(job.elapsed or 0.0, {"state": job.state.value})
        span.set_attribute("trioflow.state", job.state.value)
        if job.attempts > 1:
            span.set_attribute("trioflow.attempts", job.attempts)
        if job.restored:
            span.set_attribute("trioflow.restored", True)
        elif isinstance(job, JobKind):
            span.set_attributes(_process(job))
        if job.state in FAILED:
            error = job.raised_exception()
            self._failures.add(job.state is not JobState.CANCELLED, {"error.type": _type(error)})
            _note_failure(span, job, error)
        span.end()
        self._ended[job] = span.get_span_context()

    def _start(self, scheduler: Scheduler, job: AnyJob) -> trace.Span:
        around = self._spans.get(scheduler)
        parent = None if around is None else trace.set_span_in_context(around)
        links = [trace.Link(context) for needed in job.required if (context := self._context_of(needed)) is not None]
        return self._tracer.start_span(_name(job), parent, links=links, attributes=_attributes(job))

    def _context_of(self, job: AnyJob) -> trace.SpanContext | None:
        running = self._spans.get(job)  # a service
        return self._ended.get(job) if running is None else running.get_span_context()

    def _causes(self) -> Counter[str]:
        return Counter(wait.cause.value for job in self._waiting.copy() if (wait := waiting(job)) is not None)


def remote_context(environment: Mapping[str, str] | None = None) -> otel_context.Context:
    """Return the context of the job that started this process, or that calls a function in it.

    A span with this context as its parent belongs to the job's span.

    Args:
        environment: where `TRACEPARENT` and the like are; None for this process's environment.

    Example:
        >>> parent = remote_context({"TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
        >>> format(trace.get_current_span(parent).get_span_context().span_id, "016x")
        'b7ad6b7169203331'

    """
    variables = os.environ if environment is None else environment
    return propagate.extract({name: value for name in NAMES if (value := variables.get(name.upper())) is not None})


def _waiting_of(tracing: Tracing | None) -> Iterable[metrics.Observation]:
    causes = Counter[str]() if tracing is None else tracing._causes()
    return [metrics.Observation(number, {"cause": cause}) for cause, number in causes.items()]


def _name(job: AnyJob) -> str:
    """Return a span's name: the label, or the program or function without its arguments, to keep names few."""
    label = given_label(job)
    if label is not None:
        return label
    program = _program(job)
    return job.label.partition("(")[0] if program is None else program


def _program(job: AnyJob) -> str | None:
    """Return the name of the program that a job starts, or of its kind; None for a function or a scheduler."""
    if not isinstance(job, JobKind):
        return None
    group = job.failure_group()
    if isinstance(group, str) and not group.startswith("<"):  # the group is another job, whose result is used
        return posixpath.basename(group)
    return type(job).__name__


def _attributes(job: AnyJob) -> dict[str, Any]:
    attributes: dict[str, Any] = {"trioflow.kind": type(job).__name__}
    if is_scheduler(job):
        attributes["trioflow.jobs"] = len(job)
    elif given_label(job) is None:
        attributes["trioflow.label"] = job.label
    if isinstance(job, (CommandJob, CommandService)):
        attributes["process.executable.name"] = _program(job)
        if not job.redact:
            attributes["process.command_line"] = job.command_line()
    return attributes


def _process(job: JobKind[Any]) -> dict[str, int]:
    """Return the attributes of a command's process by OpenTelemetry's conventions; none if it had no process."""
    result = job.last_result
    if result is None:
        return {}
    pid = {} if result.pid is None else {"process.pid": result.pid}
    return {"process.exit.code": result.returncode, **pid}


def _type(error: BaseException | None) -> str:
    return "" if error is None else type(error).__qualname__


def _note_failure(span: trace.Span, job: AnyJob, error: BaseException | None) -> None:
    span.set_attribute("error.type", job.state.value if error is None else _type(error))
    if error is None:
        span.set_status(trace.StatusCode.ERROR, job.state.value)
    elif job.redact:
        span.set_status(trace.StatusCode.ERROR, _type(error))
    else:
        span.record_exception(error)
        span.set_status(trace.StatusCode.ERROR, f"{_type(error)}: {error}")
