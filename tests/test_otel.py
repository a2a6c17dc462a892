"""OpenTelemetry: spans of runs and jobs, their context in other processes, metrics, and collectors that are down."""

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
import trioflow
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trioflow import (
    Budget,
    CommandJob,
    Job,
    LocalNode,
    Pool,
    ProcessJob,
    Rate,
    Scheduler,
    SshJob,
    ThreadJob,
    Throttled,
)
from trioflow.abc import AbstractJob, JobKind
from trioflow.otel import Tracing, remote_context
from .bodies import at_once, fail_now, nap
from .odd_errors import MAKERS
from .otel_bodies import variable
from .places import PATIENCE


class Spans:
    def __init__(self) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False)
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = trace.get_tracer("a library", tracer_provider=self.provider)

    def all(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def __getitem__(self, name: str) -> ReadableSpan:
        (found,) = (span for span in self.all() if span.name == name)
        return found

    def parent(self, name: str) -> str | None:
        parent = self[name].parent
        return None if parent is None else self._name(parent)

    def links(self, name: str) -> list[str]:
        return [self._name(link.context) for link in self[name].links]

    def _name(self, context: trace.SpanContext) -> str:
        return {span.context.span_id: span.name for span in self.all()}.get(
            context.span_id, "of no job"
        )

    def traceparent(self, name: str) -> str:
        context = self[name].context
        return f"00-{context.trace_id:032x}-{context.span_id:016x}"


@pytest.fixture
def spans() -> Spans:
    return Spans()


def run(spans: Spans, backend: str, *jobs: AbstractJob[Any], **options: Any) -> bool:
    return Scheduler(
        *jobs, label="run", instruments=[Tracing(spans.provider)], **options
    ).run(backend=backend)


def test_each_job_has_a_span_inside_that_of_its_scheduler(
    spans: Spans, backend: str
) -> None:
    """A job's span has links to its requirements; the run's span is inside the one that was current at its start."""
    first = Job(nap, 0.0, label="first")
    inner = Scheduler(Job(nap, 0.0, label="b"), label="inner", required=first)
    with spans.tracer.start_as_current_span("program"):
        assert run(spans, backend, first, inner)
    assert [spans.parent(name) for name in ("first", "b", "inner", "run", "program")] == [
        "run", "inner", "run", "program", None
    ]  # fmt: skip
    assert spans.links("inner") == ["first"]
    assert dict(spans["run"].attributes or {})["trioflow.stop_reason"] == "completed"
    assert dict(spans["first"].attributes or {}) == {
        "trioflow.kind": "Job",
        "trioflow.state": "succeeded",
    }


def test_the_span_of_a_job_is_the_current_one_in_its_body(
    spans: Spans, backend: str
) -> None:
    def note(name: str) -> None:
        with spans.tracer.start_as_current_span(name):
            pass

    async def body(name: str) -> None:
        note(f"{name} 1")
        await anyio.sleep(0.001)
        note(f"{name} 2")
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, note, f"{name} 3")

    with ThreadPoolExecutor(1) as pool:
        jobs = [Job(body, name, label=name) for name in "ab"]
        jobs_elsewhere = (
            ThreadJob(note, "c 1", label="c"),
            ProcessJob(note, "d 1", label="d", processes=pool),
        )
        assert run(spans, backend, *jobs, *jobs_elsewhere)
    names = ["a 1", "a 2", "a 3", "b 1", "b 2", "b 3", "c 1", "d 1"]
    assert [spans.parent(name) for name in names] == [name[0] for name in names]


def test_commands_nodes_and_processes_get_the_span_of_their_job(
    spans: Spans, backend: str
) -> None:
    """Jobs outside this process get their span in the variable TRACEPARENT, but not without an instrument."""
    shown = ["printenv", "TRACEPARENT"]
    with ProcessPoolExecutor(1) as pool:
        jobs: list[AbstractJob[Any]] = [
            CommandJob(shown, stdout=subprocess.PIPE, label="command"),
            CommandJob(
                shown,
                stdout=subprocess.PIPE,
                env={"PATH": os.environ["PATH"]},
                label="own env",
            ),
            SshJob(
                LocalNode(),
                "printenv TRACEPARENT",
                stdout=subprocess.PIPE,
                label="node",
            ),
            ProcessJob(variable, label="process"),
            ProcessJob(variable, label="executor", processes=pool),
        ]
        assert run(spans, backend, *jobs)
        found = [
            str(getattr(job.result(), "text", job.result())).strip()[:-3]
            for job in jobs
        ]
        assert found == [spans.traceparent(job.label) for job in jobs]
        again = [ProcessJob(variable), ProcessJob(variable, processes=pool)]
        assert Scheduler(*again).run(backend=backend)
        assert [job.result() for job in again] == [os.environ.get("TRACEPARENT")] * 2


def test_a_program_started_by_a_job_creates_spans_inside_that_of_the_job(
    spans: Spans,
) -> None:
    """In a program that a job starts, `remote_context` reads the span of the job from the environment."""
    program = """
from opentelemetry import trace
from trioflow.otel import remote_context

print(trace.get_current_span(remote_context()).get_span_context().span_id)
"""
    job = CommandJob(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, label="program"
    )
    assert run(spans, "trio", job)
    assert int(job.result().text) == spans["program"].context.span_id
    assert trace.get_current_span(remote_context({})) is trace.INVALID_SPAN


def test_the_span_of_a_job_has_its_state_exception_and_attempts(
    spans: Spans, backend: str
) -> None:
    tried = iter([True, False])

    async def once() -> None:
        if next(tried):
            raise OSError

    async def secret() -> None:
        raise ValueError("password")

    failing = Job(fail_now, label="failing")
    jobs = [failing, Job(nap, 0.0, label="blocked", required=failing),
            Job(once, label="again", retry=1), Job(secret, label="hidden", redact=True)]  # fmt: skip
    assert not run(spans, backend, *jobs)
    states = {
        span.name: dict(span.attributes or {}).get("trioflow.state")
        for span in spans.all()
    }
    assert states == {
        "failing": "failed",
        "blocked": "blocked",
        "again": "succeeded",
        "hidden": "failed",
        "run": None,
    }
    assert [event.name for event in spans["failing"].events] == ["exception"]
    assert [event.name for event in spans["again"].events] == ["retry", "attempt"]
    assert dict(spans["again"].attributes or {})["trioflow.attempts"] == 2
    assert "password" not in "".join(span.to_json() for span in spans.all())
    assert spans["hidden"].status.description == "ValueError"
    assert not spans["blocked"].status.is_ok
    assert spans["run"].status.description == "2 failed, 1 blocked of 4"
    assert not spans["run"].status.is_ok
    assert dict(spans["run"].attributes or {})["trioflow.failures"] == 2


@pytest.mark.parametrize("name", MAKERS)
def test_an_exception_whose_code_raises_costs_no_span(
    spans: Spans, backend: str, name: str
) -> None:
    """A job raises an exception whose own methods raise: the trace of the run was lost."""
    odd = Job(fail_now, MAKERS[name](), label="odd")
    assert not run(spans, backend, odd, Job(nap, 0.0, label="other"))
    assert {span.name for span in spans.all()} == {"odd", "other", "run"}
    (event,) = spans["odd"].events
    assert set(dict(event.attributes or {})) == {
        "exception.type",
        "exception.message",
        "exception.stacktrace",
        "exception.escaped",
    }


def test_a_kind_with_a_broken_failure_group_costs_no_span(
    spans: Spans, backend: str
) -> None:
    """The metrics name the program of a kind by its `failure_group`: one that raises lost the trace of the run."""

    class Odd(JobKind[None]):
        async def co_run(self) -> None:
            pass

        def failure_group(self) -> object:
            raise OSError("not that")

    assert run(spans, backend, Odd(), Job(nap, 0.0, label="other"))
    assert {span.name for span in spans.all()} == {"Odd", "other", "run"}


def test_the_span_of_a_command_has_attributes_of_its_process(
    spans: Spans, backend: str
) -> None:
    """The span of a command has its process in attributes of OpenTelemetry's conventions, but no secrets."""
    good = CommandJob(["true"], label="good")
    bad_one = CommandJob("exit 3", shell=True, label="bad")
    hidden = [
        CommandJob(["true", "password"], label="hidden", redact=True),
        CommandJob(["true"], redact=True),
    ]
    assert not run(spans, backend, good, bad_one, *hidden)
    assert dict(spans["good"].attributes or {}) == {
        "trioflow.kind": "CommandJob", "trioflow.state": "succeeded", "process.executable.name": "true",
        "process.command_line": "true", "process.exit.code": 0, "process.pid": good.result().pid,
    }  # fmt: skip
    bad = dict(spans["bad"].attributes or {})
    assert [bad[name] for name in ("process.executable.name", "process.command_line", "process.exit.code")] == [
        "sh", "exit 3", 3
    ]  # fmt: skip
    assert bad["error.type"] == "CommandError"
    assert "password" not in spans["hidden"].to_json()
    assert "process.executable.name" not in dict(spans["hidden"].attributes or {})
    assert dict(spans["CommandJob"].attributes or {})["trioflow.label"] == "command …"


def test_spans_of_jobs_without_labels_are_named_by_program_or_function(
    spans: Spans,
) -> None:
    """The name of a span has no arguments, which differ and may be secret; they are in an attribute."""
    nodes = [SshJob(LocalNode(), "true 4")]
    commands = [CommandJob(["/bin/echo", "1"]), CommandJob("true 2", shell=True)]
    assert not run(
        spans,
        "trio",
        *nodes,
        *commands,
        Job(nap, 0.0),
        CommandJob([Job(nap, 0.0), "5"]),
    )
    labels = {
        span.name: dict(span.attributes or {}).get("trioflow.label")
        for span in spans.all()
    }
    assert labels == {
        "echo": "/bin/echo 1", "sh": "true 2", "nap": "nap(0.0)", "SshJob": "localhost: true 4",
        "CommandJob": "<nap(0.0)> 5", "run": None,
    }  # fmt: skip


def test_the_span_of_a_restored_job_has_the_attribute_restored(
    spans: Spans, backend: str, tmp_path: Path
) -> None:
    for _ in range(2):
        job = CommandJob(["true"], label="kept")
        assert Scheduler(job, instruments=[Tracing(spans.provider)]).run(
            backend=backend, journal=tmp_path / "j.db"
        )
    ran, restored = (
        dict(span.attributes or {}) for span in spans.all() if span.name == "kept"
    )
    assert "trioflow.restored" not in ran
    assert restored["trioflow.restored"] is True
    assert "process.pid" not in restored


OUTSIDE = f"00-{'1' * 32}-{'2' * 16}-01"


def test_the_span_of_a_run_is_inside_that_of_traceparent(
    spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CI systems pass a span in TRACEPARENT, and a run is inside that span unless the program has a current one."""
    monkeypatch.setenv("TRACEPARENT", OUTSIDE)
    assert run(spans, "trio", Job(nap, 0.0, label="a"))
    parent = spans["run"].parent
    assert parent is not None
    assert (f"{parent.trace_id:x}", f"{parent.span_id:x}") == ("1" * 32, "2" * 16)
    assert spans["a"].context.trace_id == parent.trace_id
    monkeypatch.setenv("TRACEPARENT", "nonsense")
    with spans.tracer.start_as_current_span("program"):
        Scheduler(label="inside", instruments=[Tracing(spans.provider)]).run(
            backend="trio"
        )
    Scheduler(label="alone", instruments=[Tracing(spans.provider)]).run(backend="trio")
    assert [spans.parent(name) for name in ("inside", "alone")] == ["program", None]


def test_a_jobs_own_traceparent_is_kept(
    spans: Spans, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TRACEPARENT in `env=` of a job is kept, unless it was copied from this program's environment."""
    monkeypatch.setenv("TRACEPARENT", OUTSIDE)
    shown = ["printenv", "TRACEPARENT"]
    own = {"TRACEPARENT": "mine", "PATH": os.environ["PATH"]}
    mine = CommandJob(shown, stdout=subprocess.PIPE, env=own)
    there = SshJob(LocalNode(), "printenv TRACEPARENT", stdout=subprocess.PIPE, env=own)
    copied = CommandJob(
        shown, stdout=subprocess.PIPE, env=dict(os.environ), label="copied"
    )
    assert run(spans, backend, mine, there, copied)
    assert (mine.result().text, there.result().text) == ("mine\n", "mine\n")
    assert copied.result().text.startswith(spans.traceparent("copied"))


def test_a_throttled_attempt_has_its_own_span(spans: Spans, backend: str) -> None:
    tried = iter([True, False])

    async def body() -> None:
        if next(tried):
            raise Throttled("api", after=0.001)

    job = Job(body, label="call", needs={"api": 1})
    assert run(spans, backend, job, pool=Pool(api=Rate(requests=1000, per=1)))
    assert [
        [event.name for event in span.events]
        for span in spans.all()
        if span.name == "call"
    ] == [["throttled"], []]


def test_each_try_of_a_job_that_is_tried_again_has_its_own_span(
    spans: Spans, backend: str
) -> None:
    outcomes = iter([OSError("disk full"), None])

    async def write() -> None:
        if (error := next(outcomes)) is not None:
            raise error

    async def mend() -> None:
        await later.wait_settled()
        writing.try_again()

    writing = Job(write, label="write")
    later = Job(nap, 0.0, label="later", required=writing)
    assert run(spans, backend, writing, later, Job(mend, label="mend"))
    tries = {
        name: [span for span in spans.all() if span.name == name]
        for name in ("write", "later")
    }
    states = {
        name: [dict(span.attributes or {})["trioflow.state"] for span in found]
        for name, found in tries.items()
    }
    assert states == {
        "write": ["failed", "succeeded"],
        "later": ["blocked", "succeeded"],
    }
    failed, mended = tries["write"]
    assert [event.name for event in failed.events] == ["exception"]
    assert [event.name for event in mended.events] == ["attempt"]
    assert (failed.status.is_ok, mended.status.is_ok) == (False, True)
    assert [link.context.span_id for link in mended.links] == [failed.context.span_id]
    linked = [[link.context.span_id for link in span.links] for span in tries["later"]]
    assert linked == [
        [failed.context.span_id],
        [mended.context.span_id, tries["later"][0].context.span_id],
    ]
    assert dict(spans["run"].attributes or {})["trioflow.failures"] == 0


def test_a_job_that_is_taken_back_in_its_backoff_has_another_span(
    spans: Spans, backend: str
) -> None:
    outcomes = iter([OSError("first"), None])

    async def use(_: None) -> None:
        if (error := next(outcomes)) is not None:
            raise error

    async def again() -> None:
        while user.state.value != "scheduled" or not user.attempts:
            await anyio.lowlevel.checkpoint()
        base.try_again()

    base = Job(nap, 0.0, label="base")
    user = Job(use, base, label="user", retry=trioflow.Retry(1, first=600))
    assert run(spans, backend, base, user, Job(again, label="again"))
    events = [
        [event.name for event in span.events]
        for span in spans.all()
        if span.name == "user"
    ]
    assert events == [["retry", "reopened"], ["attempt"]]


def test_jobs_behind_a_throttle_are_counted_as_throttled(
    spans: Spans, backend: str
) -> None:
    tracing = Tracing(spans.provider)

    async def look() -> dict[str, int]:
        while len(tracing._waiting) < 2:
            await anyio.lowlevel.checkpoint()
        found = dict(tracing._count_causes())
        scheduler.cancel()
        return found

    looking = Job(look, label="look")
    jobs = [
        Job(
            fail_now,
            Throttled("api", after=60),
            label=f"call {number}",
            needs={"api": 1},
        )
        for number in range(2)
    ]
    scheduler = Scheduler(
        *jobs,
        looking,
        pool=Pool(api=Rate(requests=1, per=0.001)),
        instruments=[tracing],
    )
    assert not scheduler.run(backend=backend)
    assert looking.result() == {"throttled": 2}


def test_the_span_of_a_stopped_run_has_the_reason(spans: Spans, backend: str) -> None:
    assert not run(
        spans,
        backend,
        Job(fail_now, label="bad", critical=True),
        Job(anyio.sleep_forever, label="long"),
    )
    assert dict(spans["run"].attributes or {})["trioflow.stop_reason"] == "critical"
    assert not spans["run"].status.is_ok
    assert dict(spans["long"].attributes or {})["trioflow.state"] == "cancelled"


def test_the_metrics_have_running_and_waiting_jobs_failures_and_durations() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)

    def read() -> dict[str, dict[str, float]]:
        data: Any = reader.get_metrics_data()
        return {
            metric.name: {
                ",".join(map(str, point.attributes.values())): getattr(
                    point, "value", getattr(point, "count", None)
                )
                for point in metric.data.data_points
            }
            for scope in data.resource_metrics[0].scope_metrics
            for metric in scope.metrics
        }

    looking = Job(at_once, read, label="look")
    late = Job(fail_now, retry=trioflow.Retry(1, first=600))
    jobs = [
        looking,
        *(Job(nap, 0.0) for _ in range(3)),
        Job(fail_now),
        Job(fail_now),
        late,
        Job(at_once, late.cancel),
    ]
    Scheduler(*jobs, jobs_window=1, instruments=[Tracing(meter_provider=provider)]).run(
        backend="trio"
    )
    during, after = looking.result(), read()
    assert during["trioflow.jobs.running"] == {"": 1}
    assert during["trioflow.jobs.waiting"] == {"slot": 7}
    assert after["trioflow.jobs.running"] == {"": 0}
    assert sum(after["trioflow.jobs.failures"].values()) == 2
    assert after["trioflow.job.duration"] == {
        "succeeded": 5,
        "failed": 2,
        "cancelled": 1,
    }
    provider.shutdown()


def test_a_metric_has_what_is_left_of_each_budget() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    pool = Pool(usd=Budget(5), cpu=1)
    tracing = Tracing(meter_provider=provider)
    inner = Scheduler(Job(nap, 0.0, needs={"eur": 1}), pool=Pool(eur=Budget(5)))
    Scheduler(
        Job(nap, 0.0, needs={"usd": 2, "cpu": 1}),
        inner,
        pool=pool,
        instruments=[tracing],
    ).run()
    data: Any = reader.get_metrics_data()
    (metric,) = [
        one
        for one in data.resource_metrics[0].scope_metrics[0].metrics
        if one.name == "trioflow.budget.left"
    ]
    assert [
        (point.attributes["budget"], point.value) for point in metric.data.data_points
    ] == [("usd", 3), ("eur", 4)]


@pytest.fixture
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """A server that receives spans by OTLP: its address, and the spans."""
    got: list[ExportTraceServiceRequest] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", got
        server.shutdown()
        thread.join()


def exporting(address: str, patience: float) -> TracerProvider:
    """A provider that sends its spans in batches, in its own thread."""
    from opentelemetry.exporter.otlp.proto.http import Compression

    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(
        endpoint=address, compression=Compression.NoCompression, timeout=patience
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def test_a_collector_gets_the_spans(
    collector: tuple[str, list[ExportTraceServiceRequest]],
) -> None:
    """A collector gets spans with their names, parents, links and states, by OTLP."""
    address, got = collector
    provider = exporting(address, PATIENCE)
    a = Job(nap, 0.0, label="a")
    jobs = [a, Job(nap, 0.0, label="b", required=a), Job(fail_now, label="c")]
    assert not Scheduler(*jobs, label="run", instruments=[Tracing(provider)]).run(
        backend="trio"
    )
    provider.shutdown()
    scopes = [
        scope
        for one in got
        for resource in one.resource_spans
        for scope in resource.scope_spans
    ]
    by_name = {span.name: span for scope in scopes for span in scope.spans}
    assert set(by_name) == {"a", "b", "c", "run"}
    assert {by_name[name].parent_span_id for name in "abc"} == {by_name["run"].span_id}
    assert [link.span_id for link in by_name["b"].links] == [by_name["a"].span_id]
    assert (by_name["c"].status.code, by_name["a"].status.code) == (2, 0)
    assert {one.key: one.value.string_value for one in by_name["c"].attributes}[
        "trioflow.state"
    ] == "failed"


def test_a_collector_gets_texts_that_are_not_utf_8(spans: Spans, backend: str) -> None:
    """A name, a command and an error have a file name that is not UTF-8: the spans of the whole batch were lost."""
    odd = os.fsdecode(b"\xff")
    jobs = [
        Job(nap, 0.0, label=odd),
        CommandJob(["cat", odd], label="cat"),
        CommandJob([f"./{odd}"]),
        Job(fail_now, ValueError(odd), label="fails"),
    ]
    assert not run(spans, backend, *jobs)
    texts = encode_spans(spans.all()).SerializeToString()
    assert texts.count(rb"\udcff") >= 6
    assert not [text for span in spans.all() for text in texts_of(span) if odd in text]


def texts_of(span: ReadableSpan) -> Iterator[str]:
    yield from (span.name, span.status.description or "")
    for attributes in (span.attributes, *(event.attributes for event in span.events)):
        yield from map(str, (attributes or {}).values())


@pytest.mark.parametrize("is_silent", [True, False])
def test_a_collector_that_is_down_does_not_delay_the_run(
    is_silent: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """If the collector refuses connections or never answers, the run still ends immediately and well."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if is_silent:
            listener.listen(1)
        provider = exporting(
            f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces", 0.2
        )
        jobs = [
            Job(nap, 0.0, label=str(number)) for number in range(600)
        ]  # a batch has 512 spans
        scheduler = Scheduler(*jobs, instruments=[Tracing(provider)])
        with anyio.from_thread.start_blocking_portal() as portal:
            assert portal.start_task_soon(_within, scheduler, 20.0).result()
        listener.close()
        provider.shutdown()
    assert "removed from this run" not in caplog.text


async def _within(scheduler: Scheduler, seconds: float) -> bool:
    with anyio.fail_after(seconds):
        return await scheduler.co_run()
