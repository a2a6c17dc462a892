"""A secret in any place of a job with `redact=True` is in nothing that trioflow writes: files, views, errors, `ps`.

One run has a job for each place into which a user may put a secret, and everything watches it. What a job prints, or
puts into its exception, is its own affair, and a journal holds what it returns; but no view shows that."""

import contextlib
import io
import json
import operator
import os
import subprocess
import threading
import time
import traceback
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
    Job,
    OutputLine,
    PerKey,
    Pool,
    ProcessJob,
    Push,
    Scheduler,
    Script,
    SshJob,
)
from trioflow._core.words._explain import waiting
from trioflow._core.words._run_view import runs_in_progress
from trioflow.abc import AbstractJob, BackendName, is_scheduler
from trioflow.otel import Tracing
from trioflow.view import save
from trioflow.view.look._process_record import describe_process
from trioflow.view.look._steering import steer
from trioflow.view.look._watch import Watch
from ..bodies import Unpicklable
from ..cli import command_line
from ..conftest import Virtual
from .monitor.monitors import drawn, watched

SECRET = "SEKRET7f3a9"
HIDDEN = f"{SECRET}-hidden"
"""A secret in a place that other users do not even see among the arguments of running commands."""
RESULT = "RESULT7f3a9"
"""A secret that the results of jobs have, and so a journal."""
NODE = trioflow.LocalNode()
DEAD_NODE = trioflow.SshNode("127.0.0.1", port=1)
PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
TELLS_AND_FAILS = f"echo {SECRET}; echo {SECRET} >&2; exit 3"


async def takes(*_: Any, **__: Any) -> None: ...


async def returns() -> str:
    return RESULT


async def waits(*_: Any, **__: Any) -> None:
    await anyio.sleep(0.3)


async def fails(*_: Any, **__: Any) -> None:
    raise ValueError("wrong")


async def serves(_: str, *, task_status: Any) -> None:
    task_status.started()
    await anyio.sleep_forever()


def takes_in_thread(*_: Any) -> int:
    return 1


class Own(AbstractJob[None]):
    def __init__(self, secret: str, **options: Any) -> None:
        self.secret = secret
        super().__init__(**options)

    async def co_run(self) -> None:
        raise ValueError("wrong")


def make_jobs(here: Path) -> dict[str, AbstractJob[Any]]:
    path = str(here / SECRET)
    (here / SECRET).mkdir()
    file, text = Path(path, f"in-{SECRET}"), f"echo {HIDDEN} >&2; sleep .3; exit 3"
    file.write_text(RESULT)
    Path(script := str(here / "script.sh")).write_text(text)
    any_job: dict[str, Any] = {"redact": True}
    return {
        "argument": Job(takes, SECRET, kwargs={"k": SECRET}, **any_job),
        "argument of a failure": Job(fails, SECRET, retry=1, **any_job),
        "argument at a timeout": Job(waits, SECRET, timeout=0.05, **any_job),
        "argument while it moves on": Job(
            waits, SECRET, timeout=0.05, on_timeout="move_on", **any_job
        ),
        "argument that cannot be stored": Job(takes, Unpicklable(SECRET), **any_job),
        "key of a resource": Job(waits, needs={"host": SECRET}, **any_job),
        "key of a resource that is taken": Job(
            waits, needs={"host": SECRET}, **any_job
        ),
        "result": (secret := Job(returns, **any_job)),
        "result as an argument": Job(takes, secret),
        "output": CommandJob(["cat", str(file)], **PIPES, **any_job),
        "key": Job(takes, key=SECRET, **any_job),
        "version": Job(takes, version=SECRET, **any_job),
        "in a thread": trioflow.ThreadJob(takes_in_thread, HIDDEN, **any_job),
        # It fails; for a function of this file, a process would import it.
        "in a process": ProcessJob(operator.index, HIDDEN, **any_job),
        "argument that cannot be pickled": ProcessJob(
            operator.index, Unpicklable(SECRET), **any_job
        ),
        "attribute of a kind": Own(SECRET, **any_job),
        "service": trioflow.Service(serves, SECRET, **any_job),
        "in a First": trioflow.First(
            Job(fails, SECRET, **any_job), Job(takes, SECRET, **any_job)
        ),
        "in a scheduler": Scheduler(Job(fails, SECRET, **any_job), **any_job),
        "command": CommandJob(
            ["sh", "-c", TELLS_AND_FAILS], retry=1, **PIPES, **any_job
        ),
        "shell": CommandJob(TELLS_AND_FAILS, shell=True, **PIPES, **any_job),
        "environment": CommandJob(
            ["sh", "-c", "sleep .3; exit 3"],
            env={**os.environ, "TOKEN": HIDDEN},
            **any_job,
        ),
        "standard input": CommandJob(
            ["sh", "-c", "cat; sleep .3; exit 3"],
            stdin=HIDDEN.encode(),
            **PIPES,
            **any_job,
        ),
        "output file": CommandJob(
            ["sh", "-c", "exit 3"],
            stdout=f"{path}.out",
            stderr=f"{path}.err",
            **any_job,
        ),
        "appended file": CommandJob(["true"], stdout=f">>{path}.log", **any_job),
        "working directory": CommandJob(["true"], cwd=path, **any_job),
        "missing directory": CommandJob(["true"], cwd=f"{path}/x", **any_job),
        "missing program": CommandJob([f"{path}/x"], **any_job),
        "command at a timeout": CommandJob(
            ["sleep", f"9{SECRET[-1]}"], timeout=0.05, **any_job
        ),
        "command that a signal ends": CommandJob(
            ["sh", "-c", f"kill -9 $$ # {SECRET}"], **any_job
        ),
        "files that it reads": CommandJob(
            ["true"], reads=[file, f"{path}/*"], **any_job
        ),
        "a file that it writes": CommandJob(
            ["touch", f"{path}.new"], writes=[f"{path}.new"], **any_job
        ),
        "a file that it does not write": CommandJob(
            ["true"], writes=[f"{path}/no"], **any_job
        ),
        "program that serves": trioflow.CommandService(
            ["sh", "-c", f"exit 3 # {SECRET}"],
            ready=OutputLine(f"{SECRET}x"),
            **any_job,
        ),
        "command on a node": SshJob(NODE, TELLS_AND_FAILS, **PIPES, **any_job),
        "word on a node": SshJob(NODE, ("sh", "-c", "exit 4", SECRET), **any_job),
        "value on a node": SshJob(
            NODE, "exit {x}", values={"x": SECRET}, **PIPES, **any_job
        ),
        "environment on a node": SshJob(
            NODE, "sleep .3; exit 3", env={"TOKEN": HIDDEN}, **any_job
        ),
        "directory on a node": SshJob(
            NODE, "exit 3", cwd=f"{path}/x", **PIPES, **any_job
        ),
        "standard input on a node": SshJob(
            NODE, "cat; sleep .3; exit 3", stdin=HIDDEN.encode(), **PIPES, **any_job
        ),
        "script": SshJob(NODE, Script(script), **PIPES, **any_job),
        "name of a script": SshJob(NODE, Script(f"{path}/x"), **any_job),
        "text of a script": SshJob(NODE, trioflow.ScriptText(text), **PIPES, **any_job),
        "file to push": SshJob(NODE, Push(f"{path}/x", to=f"{here}/x/"), **any_job),
        "file to pull": SshJob(
            NODE, trioflow.Pull(f"{path}/x", to=f"{here}/x/"), **any_job
        ),
        "command on a node that is down": SshJob(
            DEAD_NODE, f"echo {SECRET}", **any_job
        ),
        "program that serves on a node": trioflow.SshService(
            NODE, f"exit 3 # {SECRET}", ready=OutputLine(f"{SECRET}x"), **any_job
        ),
        "choice": Answer(
            "is it?", choices=[SECRET, "no"], timeout=0.2, **any_job
        ),  # whose question is shown
        "question that is a secret result": Answer(
            secret, choices=[SECRET], label="that", timeout=0.2, **any_job
        ),
        "answer in the program": Answer("which?", label="here", timeout=9, **any_job),
        "answer from a shell": Answer("which?", label="there", timeout=9, **any_job),
        "answer of who looks": Answer(
            "which?", label="elsewhere", timeout=9, **any_job
        ),
    }


class Watchers:
    """Everything that writes about a run, and what it has written."""

    def __init__(self, here: Path) -> None:
        self.here = here
        self.monitor = io.StringIO()
        self.found: dict[str, str] = {}
        """What stands around a secret, by where it was found."""
        self.trace, self._spans, self._provider = (
            trioflow.Trace(),
            InMemorySpanExporter(),
            TracerProvider(),
        )
        self._provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.instruments = [
            self.trace, trioflow.Events(here / "events"), trioflow.JUnit(here / "junit.xml"), Tracing(self._provider),
            trioflow.Monitor(file=self.monitor),
        ]  # fmt: skip

    def note(self, name: str, text: str) -> None:
        for secret in [SECRET] if name.startswith("run.db") else [SECRET, RESULT]:
            if (at := text.find(secret)) >= 0:
                self.found[name] = text[max(0, at - 100) : at + 100]

    def note_files(self) -> None:
        for path in self.here.rglob("*"):
            if (
                path.is_file()
                and SECRET not in path.parent.name
                and path.name != "script.sh"
            ):
                self.note(path.name, path.read_bytes().decode(errors="replace"))

    def note_ended(self, scheduler: Scheduler) -> None:
        jobs = list(scheduler.iterate_jobs())
        for name, options in {"list": {}, "list of details": {"details": True}}.items():
            scheduler.list(stream := io.StringIO(), **options)
            self.note(name, stream.getvalue())
        scheduler.debrief(stream := io.StringIO(), listing=True)
        self.note("debrief", stream.getvalue())
        self.note("monitor", self.monitor.getvalue())
        self.note("repr", "\n".join(map(repr, jobs)))
        self.note(
            "spans",
            "\n".join(span.to_json() for span in self._spans.get_finished_spans()),
        )
        for job in jobs:
            self.note(f"explain {job.label}", (job.scheduler or scheduler).explain(job))
            if (error := job.raised_exception()) is not None and not is_scheduler(job):
                self.note(
                    f"error of {job.label}",
                    "\n".join([repr(error), *getattr(error, "__notes__", [])]),
                )
                self.note(
                    f"traceback of {job.label}",
                    "".join(traceback.format_exception(error)),
                )
        for suffix in ("html", "json", "svg", "csv"):
            save(self.trace, self.here / f"trace.{suffix}")
        for suffix in ("dot", "mmd"):
            save(scheduler, self.here / f"graph.{suffix}")
        journal = str(self.here / "run.db")
        for command in (
            ["journal", journal],
            ["journal", journal, "why"],
            ["journal", journal, "show", "*"],
        ):
            self.note(
                " ".join(command[2:]) or "trioflow journal",
                command_line.trioflow(*command).output,
            )

    def watch(self, stop: threading.Event) -> None:
        """Look at the program until `stop`, and at the arguments of all processes."""
        while not stop.wait(0.1):
            self.note(
                "look", json.dumps({**describe_process(), "command": None}, default=str)
            )
            for run in runs_in_progress():
                with contextlib.suppress(RuntimeError):  # the run has changed meanwhile
                    self.note("page", json.dumps(Watch(run).answer(), default=str))
            for directory in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    arguments = (directory / "cmdline").read_text(errors="replace")
                    self.note("ps", arguments if HIDDEN in arguments else "")


def give_answers(
    jobs: dict[str, AbstractJob[Any]], journal: Path, watchers: Watchers
) -> None:
    """Answer three of the questions when they are asked."""
    one = jobs["answer in the program"]
    assert isinstance(one, Answer)
    while not all(
        jobs[name].is_running() for name in jobs if name.startswith("answer ")
    ):
        time.sleep(0.02)
    run = next(run for run in runs_in_progress() if run.scheduler is one.scheduler)
    watchers.note(
        "steer answer", steer(run, "answer", ["elsewhere", RESULT, None], "who looks")
    )
    one.answer(RESULT)
    watchers.note(
        "trioflow answer",
        command_line.trioflow("answer", journal, "there", "-", stdin=RESULT).output,
    )


class Run:
    """Runs of the jobs in one directory, whose journal restores the results of earlier ones."""

    def __init__(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        caplog.set_level(1, "trioflow")
        self._here, self._log, self._printed = tmp_path, caplog, capsys
        self._jobs = make_jobs(tmp_path)
        self._scheduler = Scheduler(
            *self._jobs.values(), label="top", pool=Pool(host=PerKey(1))
        )

    def found(self, backend: BackendName) -> dict[str, str]:
        """Run the jobs; return the places where a secret was found."""
        watchers, stop, journal = (
            Watchers(self._here),
            threading.Event(),
            self._here / "run.db",
        )
        threads = [threading.Thread(target=watchers.watch, args=[stop])]
        if not journal.exists():  # the second run restores the answers
            threads += [
                threading.Thread(
                    target=give_answers, args=[self._jobs, journal, watchers]
                )
            ]
        for thread in threads:
            thread.start()
        self._scheduler.run(
            instruments=watchers.instruments, journal=journal, backend=backend
        )
        stop.set()
        for thread in threads:
            thread.join()
        watchers.note_ended(self._scheduler)
        watchers.note_files()
        watchers.note("log", self._log.text)
        watchers.note("printed", "".join(self._printed.readouterr()))
        return watchers.found


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    return Run(tmp_path, monkeypatch, caplog, capsys)


READS_ARGUMENTS = pytest.mark.skipif(
    not Path("/proc/self/cmdline").exists(),
    reason="it reads the arguments of processes there",
)


@READS_ARGUMENTS
def test_a_secret_is_in_nothing_that_is_written(run: Run) -> None:
    """No file, view, error, log or list of processes has a secret of a redacted job."""
    assert run.found("trio") == {}


@pytest.mark.ci
@READS_ARGUMENTS
def test_a_secret_is_in_nothing_that_a_second_run_writes(run: Run) -> None:
    assert run.found("asyncio") == {}
    assert run.found("trio") == {}


def test_a_job_that_waits_for_a_secret_key_is_not_said_to(virtual: Virtual) -> None:
    """The event of a wait, a list and a monitor had the key, if they were written while the job waited."""
    jobs = [
        Job(anyio.sleep, 5, needs={"host": SECRET}, redact=True, label=label)
        for label in ("first", "second")
    ]
    shown: list[str] = []

    async def ask() -> None:
        await anyio.sleep(1)
        wait = waiting(jobs[1])
        assert wait is not None
        scheduler.list(stream := io.StringIO(), details=True)
        shown.extend(
            [
                wait.text,
                scheduler.explain(jobs[1]),
                stream.getvalue(),
                "\n".join(drawn(monitor)),
            ]
        )

    scheduler, monitor = watched(
        *jobs, Job(ask, forever=True), pool=Pool(host=PerKey(1))
    )
    virtual(lambda: scheduler.co_run())
    assert SECRET not in "".join(shown)
    assert shown[0] == "host (redacted): 1 of 1 taken by 'first'"
