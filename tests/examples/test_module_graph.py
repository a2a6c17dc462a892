"""Examples in depth: a module graph, a server that crawls sites, a user's own kind, and recorded workflows."""

import json
import os
import pydoc
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from trioflow import (
    CommandError,
    CommandJob,
    JobState,
    JobTimeout,
    Scheduler,
    Service,
    StopReason,
    ThreadJob,
    Trace,
)
from trioflow.view import listing, save
from ..conftest import Virtual
from ..jobs.posix.process_trees import command_line
from ..places import EXAMPLES, PATIENCE, ROOT, patiently
from ..testing.kinds import check_kind
from ..view.graph.pictures import seen, texts
from .scripts import load_example, run_example

# --- the example `module_graph`, run by its command line, and its scenario with a parser that fails
MODULE_GRAPH = EXAMPLES / "module_graph.py"

SMALL = {
    "a.py": "import b, sys\nfrom pkg import name, inner",
    "b.py": "def late():\n    import c",
    "c.py": "import a.nothing\nimport a",
    "alone.py": "import alone, pkg.inner.deep",
    "pkg/__init__.py": "from . import inner",
    "pkg/inner/__init__.py": "from .. import __doc__\nfrom ...beyond import it",
    "pkg/inner/deep.py": "from .missing import it\nfrom ..inner import deep\nfrom . import deep",
    "test/test_a.py": "def (",
    "site-packages/other.py": "def (",
}
IMPORTS = {
    "a": ["b", "pkg", "pkg.inner"], "b": ["c"], "c": ["a"], "alone": ["pkg.inner.deep"], "pkg": ["pkg.inner"],
    "pkg.inner": ["pkg"], "pkg.inner.deep": ["pkg.inner"],
}  # fmt: skip


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A small library with two cycles, and with files that must be ignored."""
    for name, source in SMALL.items():
        path = tmp_path / "library" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path / "library"


@pytest.fixture
def example() -> ModuleType:
    return load_example("module_graph")


def report(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "module_graph.json").read_text())
    return found


def test_the_report_has_all_imports_and_cycles_of_a_small_library(
    backend: str, tmp_path: Path, library: Path
) -> None:
    """The report has imports inside functions, resolves relative ones, and has the cycles that all of them form."""
    done = run_example(
        "module_graph",
        "--output",
        tmp_path,
        "--library",
        library,
        "--backend",
        backend,
        "--window",
        0,
    )
    assert done.returncode == 0, done.stderr
    assert report(tmp_path)["imports"] == IMPORTS
    assert report(tmp_path)["circles"] == [["a", "b", "c"], ["pkg", "pkg.inner"]]
    assert done.stdout.startswith(
        "7 modules, 9 imports, 2 circles, the largest of 3 modules; "
    )
    assert not (tmp_path / "module_graph.failed").exists()


def test_source_that_cannot_be_parsed_gives_an_alarm_and_no_report(
    backend: str, tmp_path: Path, library: Path
) -> None:
    """Sources that cannot be parsed or read prevent the report; the alarm names them, and no old report stays."""
    (tmp_path / "module_graph.json").write_text("{}")
    (library / "b.py").write_text("def (")
    (library / "c.py").unlink()
    (library / "c.py").symlink_to("nowhere")
    done = run_example(
        "module_graph", "--output", tmp_path, "--library", library, "--backend", backend
    )
    assert done.returncode == 1
    assert not (tmp_path / "module_graph.json").exists()
    broken, gone = sorted((tmp_path / "module_graph.failed").read_text().splitlines())
    assert broken.startswith("imports of b, attempt 3: ValueError(")
    assert gone.startswith("imports of c, attempt 3: FileNotFoundError(")
    assert "no report; what failed: " in done.stdout


def run(example: ModuleType, library: Path, backend: str) -> tuple[bool, Any]:
    modules = example.find_modules(library, None)
    scheduler, _ = example.drawing_up(modules, library / "report", library / "alarm")
    return scheduler.run(backend=backend, jobs_window=1), scheduler


def test_a_job_is_retried_when_the_parser_closes_the_connection(
    backend: str, library: Path, example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser hangs up twice; the jobs that it hangs up on ask again, and get their answers."""
    callers: list[int] = []

    async def answer(stream: SocketStream) -> None:
        async with stream:
            callers.append(stream.extra(SocketAttribute.remote_port))
            source = b"".join([part async for part in stream])
            if len(callers) > 2:
                await stream.send(json.dumps(list(example.imports_in(source))).encode())

    async def hangs_up_twice(*, task_status: TaskStatus[int]) -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            task_status.started(listener.extra(SocketAttribute.local_port))
            await listener.serve(answer)

    monkeypatch.setattr(example, "parser", hangs_up_twice)
    completed, scheduler = run(example, library, backend)
    assert completed
    assert (
        sum(job.attempts for job in scheduler if job.label.startswith("imports of "))
        == 7 + 2
    )


@pytest.mark.both_backends
def test_parser_ends_in_time(
    backend: str,
    library: Path,
    example: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The parser, a service, succeeds, and its process is gone after the run, without a second cancellation."""
    processes: list[Any] = []
    open_process = anyio.open_process

    async def watched(*args: Any, **kwargs: Any) -> Any:
        processes.append(await open_process(*args, **kwargs))
        return processes[-1]

    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the process
    monkeypatch.setattr(anyio, "open_process", watched)
    completed, scheduler = run(example, library, backend)
    assert completed
    assert next(iter(scheduler)).state is JobState.SUCCEEDED
    assert [process.returncode for process in processes] == [-9]
    assert "still running" not in caplog.text


def test_a_parser_that_does_not_start_blocks_the_jobs_that_need_it(
    backend: str, library: Path, example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the parser never gets ready, jobs that need it do not run, and the alarm names the parser alone."""

    async def refuses(*, task_status: TaskStatus[int]) -> None:
        raise OSError("no port is free")

    monkeypatch.setattr(example, "parser", refuses)
    completed, scheduler = run(example, library, backend)
    assert not completed
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert scheduler.culprit.label == "write the report"
    assert (
        library / "alarm"
    ).read_text() == "parser, attempt 1: OSError('no port is free')\n"


ABANDON = """
import subprocess, sys
parser = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
print(parser.stdout.readline().decode())
"""


def test_the_parser_ends_with_its_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ABANDON, str(MODULE_GRAPH), "--serve"], env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, timeout=PATIENCE, check=True,
    )  # fmt: skip
    address = ("127.0.0.1", int(done.stdout))
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            socket.create_connection(address).close()
        except ConnectionRefusedError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the parser still serves")


# --- a server that crawls sites
@pytest.fixture
def crawler(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The crawler, whose sites have pages of links alone: pydoc takes a second for the real ones."""
    links = "".join(
        f'<a href="{name}.html">'
        for name in ("argparse", "json", "pydoc", "re", "sqlite3", "sys")
    )
    monkeypatch.setattr(pydoc.html, "document", lambda *_: links)
    return load_example("crawler")


def test_both_crawls_keep_what_they_find_and_everything_ends(
    crawler: ModuleType, tmp_path: Path
) -> None:
    """Each page that could be read is in the database once, with its links; no more are visited than allowed."""
    file = tmp_path / "pages.db"
    scheduler = crawler.scenario(str(file), limit=4)
    assert scheduler.run()
    crawls = [
        job.result() for job in scheduler if job.label.startswith("ask for a crawl")
    ]
    pages = list(scheduler)[-1].result()
    assert crawls == [{"stored": 4, "failed": 0}] * 2
    with sqlite3.connect(file) as database:
        stored = database.execute("select url, title, links from pages").fetchall()
    database.close()
    assert sorted(map(tuple, pages)) == sorted(stored)
    assert len(stored) == 8
    assert ("Python: json", 6) in [(title, links) for _, title, links in stored]


def test_no_host_gets_more_than_two_requests_at_once(
    crawler: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever crawls ask: two of the same site share its limit."""
    lock, now, most = threading.Lock(), [0], [0]
    original = crawler.download

    def watched(url: str) -> Any:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        try:
            return original(url)
        finally:
            with lock:
                now[0] -= 1

    monkeypatch.setattr(crawler, "download", watched)
    site = Service(crawler.serve_site)
    server = Service(crawler.serve, Service(crawler.open_database, ":memory:"), 5)
    asked = [
        ThreadJob(crawler.ask, server, "/crawl?from=", site, f"/{name}.html")
        for name in ("json", "argparse")
    ]
    assert Scheduler(*asked, critical_jobs=True).run()
    assert most[0] == 2


def test_the_script_prints_the_pages_and_draws_its_graph(
    crawler: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The script prints five pages, and writes a picture of its jobs."""
    monkeypatch.setattr(
        sys,
        "argv",
        ["crawler.py", "--limit", "5", "--graph", str(tmp_path / "graph.svg")],
    )
    assert crawler.main() == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert "ask for the pages" in (tmp_path / "graph.svg").read_text(encoding="utf-8")


# --- a user's own kind: commands in a sandbox, on a par with the kinds of the package
@pytest.fixture(scope="module")
def sandbox() -> Any:
    return load_example("own_kind")


def test_a_job_among_the_words_of_a_sandbox_job_is_replaced_by_its_output(
    sandbox: Any, backend: Any
) -> None:
    scheduler = sandbox.scenario(2)
    assert scheduler.run(backend=backend)
    *_, last = scheduler
    assert last.result().text.split() == ["101:", "101", "1001:", "7", "11", "13"]
    assert "<SandboxJob factor 101>" in listing(scheduler)


def test_sandbox_jobs_pass(sandbox: Any, backend: Any) -> None:
    makers = [
        partial(sandbox.SandboxJob, *words)
        for words in (["true"], ["sleep", 1000], ["false"])
    ]
    check_kind(backend, *makers)


def test_a_command_in_the_sandbox_cannot_write_files(
    sandbox: Any, backend: Any, tmp_path: Path
) -> None:
    job = sandbox.SandboxJob("touch", tmp_path / "new")
    Scheduler(job).run(backend=backend)
    with pytest.raises(
        CommandError,
        match=r"exit code 1: touch .*Read-only file system|(?s:exit code 1.*Read-only)",
    ):
        job.result()
    assert not (tmp_path / "new").exists()


def gone_in_time(mark: str) -> bool:
    """Wait until no process has this command line; return whether that happened within `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while any(mark in command_line(path) for path in Path("/proc").glob("[0-9]*")):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@patiently(1, 30)
def test_a_timeout_leaves_no_process_of_the_sandbox(
    sandbox: Any, backend: Any, unit: float
) -> None:
    mark = f"sleep 100.{os.getpid()}"
    job = sandbox.SandboxJob(
        "sh", "-c", f"echo begun; {mark} & {mark}; true", timeout=unit
    )
    Scheduler(job).run(backend=backend)
    with pytest.raises(JobTimeout, match=f"its timeout of {unit} s"):
        job.result()
    assert job.last_result.stdout == b"begun\n"
    assert gone_in_time(mark)


def test_a_timeout_during_the_start_of_the_sandbox_leaves_no_process(
    sandbox: Any, backend: Any
) -> None:
    mark = f"sleep 99.{os.getpid()}"
    jobs = [
        sandbox.SandboxJob(*mark.split(), timeout=number / 1000)
        for number in range(1, 31)
    ]
    assert not Scheduler(*jobs, jobs_window=3).run(backend=backend)
    assert {type(job.raised_exception()) for job in jobs} == {JobTimeout}
    assert gone_in_time(mark)


@patiently(0.4, 4, 30)
def test_output_of_a_sandbox_job_resets_its_idle_timeout(
    sandbox: Any, backend: Any, unit: float
) -> None:
    tick = f"for n in $(seq 20); do echo $n; sleep {unit / 10}; done"
    steady = sandbox.SandboxJob("sh", "-c", tick, idle_timeout=unit)
    silent = sandbox.SandboxJob("sleep", 100, idle_timeout=unit)
    inner = Scheduler(
        sandbox.SandboxJob("sh", "-c", tick, label="inside"),
        idle_timeout=unit,
        label="inner",
    )
    Scheduler(steady, silent, inner).run(backend=backend)
    assert steady.is_succeeded()
    assert inner.is_succeeded()
    with pytest.raises(JobTimeout, match=f"no output for {unit} s"):
        silent.result()


def test_pictures_and_reports_show_the_sandbox_job(
    sandbox: Any, backend: Any, tmp_path: Path
) -> None:
    """A sandbox job has a shape of its own in pictures; the report has its command line and exit code."""
    trace = Trace()
    scheduler = Scheduler(
        sandbox.SandboxJob("echo", "hello"),
        sandbox.SandboxJob("true"),
        instruments=[trace],
    )
    scheduler.add(CommandJob(["true"]))
    assert scheduler.run(backend=backend)
    assert "box3d" in scheduler.graph().source
    save(trace, tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "echo hello" in report
    assert "exit code 0" in report


def test_a_redacted_sandbox_job_shows_no_secrets(
    sandbox: Any, backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """With `redact=True`, neither the label nor the failure of a sandbox job shows its words."""
    job = sandbox.SandboxJob("sh", "-c", "exit 3 # password", redact=True)
    Scheduler(job).run(backend=backend)
    assert job.label == "sandbox …"
    assert "password" not in f"{job.raised_exception()} {caplog.text}"


def test_the_error_explains_that_no_sandbox_can_be_made(
    sandbox: Any, backend: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        sandbox,
        "BOX",
        ["sh", "-c", "echo 'bwrap: No permissions to create new namespace'; exit 1"],
    )
    job = sandbox.SandboxJob("true")
    Scheduler(job).run(backend=backend)
    with pytest.raises(
        CommandError, match=r"no sandbox can be made here(?s:.*)No permissions"
    ):
        job.result()


# --- workflows recorded by WfCommons, in any version of the format
MOSAIC = EXAMPLES / "data" / "mosaic.json"


@pytest.fixture(scope="module")
def wfcommons() -> ModuleType:
    return load_example("wfcommons")


FORMS: dict[str, Any] = {
    "shortened": {
        "name": "w",
        "tasks": [
            {"name": "a", "runtime_s": 3, "needs": []},
            {"name": "b", "runtime_s": 4.5, "needs": [0]},
        ],
    },
    "1.5": {
        "name": "w",
        "workflow": {
            "specification": {
                "tasks": [
                    {"name": "p", "id": "a", "parents": []},
                    {"id": "b", "parents": ["a"]},
                ]
            },
            "execution": {
                "tasks": [
                    {"id": "b", "runtimeInSeconds": 4.5},
                    {"id": "a", "runtimeInSeconds": 3},
                ]
            },
        },
    },
    "1.4": {
        "name": "w",
        "workflow": {
            "tasks": [
                {"name": "a", "id": "1", "runtimeInSeconds": 3, "parents": []},
                {"name": "b", "id": "2", "runtimeInSeconds": 4.5, "parents": ["a"]},
            ]
        },
    },
    "1.1": {
        "name": "w",
        "workflow": {
            "jobs": [
                {"name": "b", "runtime": 4.5, "parents": ["a"]},
                {"name": "a", "runtime": 3, "parents": []},
            ]
        },
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_workflows_of_all_versions_are_read(
    form: str, wfcommons: ModuleType, tmp_path: Path, virtual: Virtual
) -> None:
    """Names, requirements and times of workflows are read; a run takes the recorded time, divided by the speed."""
    (tmp_path / "w.json").write_text(json.dumps(FORMS[form]))
    scheduler = wfcommons.scenario(tmp_path / "w.json", speed=1.5)
    jobs = {job.label: job for job in scheduler}
    assert set(jobs) == {"a", "b"}
    assert list(jobs["b"].required) == [jobs["a"]]
    assert [jobs[label].expected_duration for label in "ab"] == [2, 3]
    virtual(scheduler.co_run)
    assert (jobs["a"].elapsed, jobs["b"].elapsed) == (2, 3)
    assert jobs["b"].started_at == jobs["a"].finished_at


def test_a_workflow_without_recorded_times_takes_no_time(
    wfcommons: ModuleType, tmp_path: Path
) -> None:
    content = {"workflow": {"specification": {"tasks": [{"id": "a", "parents": []}]}}}
    (tmp_path / "w.json").write_text(json.dumps(content))
    scheduler = wfcommons.scenario(str(tmp_path / "w.json"))
    assert scheduler.label == "w"
    assert [job.expected_duration for job in scheduler] == [0]


def test_the_mosaic_workflow_takes_the_recorded_time(
    wfcommons: ModuleType, virtual: Virtual
) -> None:
    scheduler = wfcommons.scenario(MOSAIC, speed=1)
    assert len(seen(scheduler.graph()).boxes) == len(scheduler) == 17
    virtual(scheduler.co_run)
    took = max(job.finished_at for job in scheduler) - min(
        job.started_at for job in scheduler
    )
    assert (
        round(took, 6)
        == json.loads(MOSAIC.read_text())["workflow"]["execution"]["makespanInSeconds"]
    )


def test_the_script_runs_and_draws_a_workflow(tmp_path: Path, backend: str) -> None:
    done = run_example(
        "wfcommons",
        MOSAIC,
        "--speed",
        10_000,
        "--window",
        2,
        "--backend",
        backend,
        "--graph",
        tmp_path / "g.svg",
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"mosaic: 17 tasks, 0\.\d+ s of work in 0\.\d+ s\n", done.stdout
    )
    assert {"fit_1", "model_1"} < set(
        texts((tmp_path / "g.svg").read_text(encoding="utf-8"))
    )


def test_the_time_of_a_run_with_a_failed_task_leaves_out_those_that_it_blocked(
    wfcommons: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Tasks that never began counted as begun at 0 on the clock, so the run seemed to take as long as the machine."""

    class FailingTask(wfcommons.Task):  # type: ignore[name-defined,misc]
        async def co_run(self) -> None:
            await super().co_run()
            if self.label == "project_1":
                raise OSError("no disk")

    monkeypatch.setattr(wfcommons, "Task", FailingTask)
    monkeypatch.setattr(sys, "argv", ["wfcommons.py", str(MOSAIC), "--speed", "10000"])
    assert wfcommons.main() == 1
    assert re.fullmatch(
        r"mosaic: 6 of 17 tasks, 0\.\d+ s of work in 0\.\d+ s\n",
        capsys.readouterr().out,
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a workflow of WfCommons: JSONDecodeError"),
        ("[]", "is not a workflow of WfCommons: "),
        ('{"name": "w"}', "is not a workflow of WfCommons: KeyError: 'tasks'"),
        (
            '{"tasks": [{"name": "a", "runtime_s": 1, "needs": [7]}]}',
            "the task 'a' needs '7', which is not there",
        ),
    ],
)
def test_the_error_for_a_bad_workflow_file_names_the_file_and_the_fault(
    content: str, message: str, wfcommons: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "w.json").write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)) as info:
        wfcommons.scenario(tmp_path / "w.json")
    assert str(tmp_path / "w.json") in str(info.value)


def test_a_speed_of_zero_and_a_missing_file_are_rejected(
    wfcommons: ModuleType, tmp_path: Path
) -> None:
    """A speed of zero raises a ValueError, and a missing file gives an error without a traceback, and exit code 2."""
    for speed in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="speed="):
            wfcommons.scenario(MOSAIC, speed=speed)
    done = run_example("wfcommons", tmp_path / "missing.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "missing.json" in done.stderr
    assert "Traceback" not in done.stderr
