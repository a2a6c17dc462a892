"""A second run of a scheduler begins as the first has: no job, view or instrument has anything of the run before.

The jobs are of all kinds, and end in the ways that leave the most behind. While the first of them runs, and the others
wait for it, everything that is said of each job is noted; at the end, what is said of the run."""

import io
import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trioflow import (
    Answer,
    CommandJob,
    CommandService,
    Job,
    OutputLine,
    Pool,
    Rate,
    Scheduler,
    SshJob,
    current_job,
)
from trioflow._core.words._run_view import runs_in_progress
from trioflow.abc import AbstractJob
from trioflow.jobs.ssh import _connections
from trioflow.otel import Tracing
from trioflow.view import listing
from trioflow.view.look import _process_record
from trioflow.view.look._watch import Watch
from trioflow.view.monitor._monitor import PrintKeeper

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the commands are those of a POSIX shell"
)

OF_ONE_RUN = re.compile(
    r"0x[0-9a-f]+|[0-9a-f]{16,}|\d+([.,:-]\d+)*( ?(m|µ|n)?s\b)?|\d+ %|\d+ [kM]?B"
)
"""Parts of a text that may differ between two runs: numbers, ids, times and sizes."""
DEAD: Any = {"on_unreachable": "skip"}
NOT_COMPARED = ("job_waiting", "job_progress", "job_scheduled", "incident", "run_ended")
"""Events that depend on how fast the machine is: of what a thread asks for now and then, and which job fails first."""
NOTHING_TO_COMPARE = (
    "journal",
    "processes",
    "on_job_settled",
    "instruments",
    "context",
    "children",
    "scheduler",
)


def fails() -> None:
    print("from a thread")
    raise ValueError("wrong")


def ignores_lines(_: object, line: str) -> None: ...


async def prints_and_fails() -> None:
    print("from a job", current_job().attempts)
    current_job().progress(0.5)
    raise ValueError("wrong")


def throttled_once() -> Callable[[], Any]:
    calls = itertools.count()

    async def call() -> None:
        if next(calls) % 2 == 0:
            raise trioflow.Throttled("api", after=0.01)

    return call


async def serves(*, task_status: Any) -> None:
    task_status.started("value")
    raise ValueError("wrong")


async def asks() -> str:
    return "which?"


def make_jobs() -> dict[str, AbstractJob[Any]]:
    node, dead = trioflow.LocalNode(), trioflow.SshNode("127.0.0.1", port=1, **DEAD)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    question: Job[str] = Job(asks)
    return {
        "command": CommandJob("echo out; echo err >&2; exit 3", shell=True, **pipes),
        "command with lines": CommandJob(
            "echo out; exit 3", shell=True, on_line=ignores_lines
        ),
        "command that is retried": CommandJob(
            "echo out; exit 3", shell=True, retry=1, **pipes
        ),
        "command on a node": SshJob(node, "echo out; exit 3", **pipes),
        "command on a node that prints": SshJob(
            node, "echo out", on_line=ignores_lines
        ),
        "command on a node that is down": SshJob(dead, "true"),
        "service": trioflow.Service(serves),
        "program that serves": CommandService(
            "echo up; exec sleep 60", shell=True, ready=OutputLine("up")
        ),
        "program that ends early": CommandService(
            "exit 3", shell=True, ready=OutputLine("up")
        ),
        "program that serves on a node that is down": trioflow.SshService(
            dead, "true", ready=OutputLine("up")
        ),
        "question": question,
        "answer": Answer(question, choices=["a", "b"]),
        "thread": trioflow.ThreadJob(fails),
        "process": trioflow.ProcessJob(int, "x"),
        "prints": Job(prints_and_fails, retry=1),
        "throttled": Job(throttled_once(), needs={"api": 1}),
        "moves on": Job(anyio.sleep_forever, timeout=0.01, on_timeout="move_on"),
        "first": trioflow.First(Job(prints_and_fails), Job(asks)),
        "group": Scheduler(
            Job(prints_and_fails, label="in"), Job(asks, label="beside"), retry=1
        ),
        "secret": CommandJob("echo out; exit 3", shell=True, redact=True, **pipes),
    }


def without_numbers(said: object) -> str:
    return OF_ONE_RUN.sub("N", str(said))


def attributes(job: AbstractJob[Any]) -> Iterator[tuple[str, str]]:
    """Yield the public attributes of a job that are no methods, with their values."""
    for name in dir(job):
        if (
            not name.startswith("_")
            and name not in NOTHING_TO_COMPARE
            and not callable(value := getattr(job, name))
        ):
            yield name, without_numbers(value)


class Scene:
    def __init__(self, folder: Path) -> None:
        self.jobs = make_jobs()
        for label, job in self.jobs.items():
            job.label = label
        self.begun: list[dict[str, Any]] = []
        self.gate = Job(self.note_begin, label="gate")
        for job in self.jobs.values():
            job.requires(self.gate)
        self.folder, self.lines = folder, io.StringIO()
        self.spans, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.trace, self.junit = trioflow.Trace(), trioflow.JUnit(folder / "junit.xml")
        self.instruments = [
            self.trace, self.junit, trioflow.Events(self.lines), Tracing(provider),
            trioflow.Monitor(file=io.StringIO()), PrintKeeper(),
        ]  # fmt: skip
        self.scheduler = Scheduler(
            self.gate, *self.jobs.values(), label="scene", jobs_window=1, log=False,
            pool=Pool(api=Rate(requests=1000, per=0.01)),
        )  # fmt: skip

    async def note_begin(self) -> None:
        """Note what is said while nothing else has begun, and give the answer for the question that comes."""
        (run,) = (run for run in runs_in_progress() if run.scheduler is self.scheduler)
        watch = Watch(run)
        answer = json.loads(json.dumps(watch.answer(), default=str))
        record = _process_record._describe_run(run, {})
        said: dict[str, Any] = {
            "listing": re.sub(
                " +",
                " ",
                without_numbers(listing(self.scheduler, details=True)).partition("\n")[
                    2
                ],
            ),
            "JUnit is written": self.junit.is_written,
            "look": without_numbers(
                [record["counts"], record["failures"], record["resources"]]
            ),
            "page": without_numbers(
                [
                    answer[name]
                    for name in ("questions", "waiting", "incidents", "windows")
                ]
            ),
        }
        for job in self.scheduler.iterate_jobs():
            path = job.path
            said[f"{path}: explanation"] = without_numbers(
                (job.scheduler or self.scheduler).explain(job)
            )
            said[f"{path}: details"] = without_numbers(
                watch.describe_one(watch._jobs[job].key)
            )
            said[f"{path}: why it was skipped"] = getattr(job, "_skip_reason", str)()
            if job is not self.gate:
                said |= {f"{path}: {name}": value for name, value in attributes(job)}
        watch.close()
        self.begun.append(said)
        question = self.jobs["answer"]
        assert isinstance(question, Answer)
        question.answer("a")

    def note_end(self) -> dict[str, Any]:
        lines = [
            line
            for line in self.lines.getvalue().splitlines()
            if json.loads(line)["event"] not in NOT_COMPARED
        ]
        ended = self.spans.get_finished_spans()
        names = {getattr(span.context, "span_id", None): span.name for span in ended}
        spans = [
            (
                span.name,
                sorted(
                    names.get(link.context.span_id, "another run")
                    for link in span.links
                ),
            )
            for span in ended
        ]
        said = {
            "events": sorted(map(without_numbers, lines)),
            "spans": sorted(map(str, spans)),
            "JUnit": sorted(
                without_numbers((self.folder / "junit.xml").read_text()).splitlines()
            ),
            "attempts": {
                job.path: job.attempts for job in self.scheduler.iterate_jobs()
            },
        }
        self.lines.seek(0)
        self.lines.truncate()
        self.spans.clear()
        return said


def differences(
    first: dict[str, Any], second: dict[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Return what is in one and not in the other; of lists, the items."""
    pairs = {name: (first.get(name), second.get(name)) for name in {**first, **second}}
    for name, (one, other) in pairs.items():
        if isinstance(one, list) and isinstance(other, list):
            pairs[name] = (
                [*(Counter(one) - Counter(other))],
                [*(Counter(other) - Counter(one))],
            )
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def test_nothing_of_the_first_run_is_in_second(
    tmp_path: Path, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a job starts in the second run, everything says of it what it has said before the first. A page once had
    the output of the run before, and spans were linked to spans of it."""
    monkeypatch.setattr(_connections, "INITIAL_RETRY_DELAY", 0.01)
    scene, ends = Scene(tmp_path), list[dict[str, Any]]()
    for _ in range(2):
        assert not scene.scheduler.run(backend=backend, instruments=scene.instruments)
        ends.append(scene.note_end())
    assert differences(*scene.begun) == {}
    assert differences(*ends) == {}
