"""The example `module_graph`, run by its command line, and its scenario with a parser that fails."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from trioflow import JobState, StopReason
from ..places import EXAMPLES, PATIENCE, ROOT
from .scripts import load_example, run_example

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


def test_the_report_has_all_imports_and_cycles_of_a_small_library(backend: str, tmp_path: Path, library: Path) -> None:
    """The report has imports inside functions, resolves relative ones, and has the cycles that all of them form."""
    done = run_example("module_graph", "--output", tmp_path, "--library", library, "--backend", backend, "--window", 0)
    assert done.returncode == 0, done.stderr
    assert report(tmp_path)["imports"] == IMPORTS
    assert report(tmp_path)["circles"] == [["a", "b", "c"], ["pkg", "pkg.inner"]]
    assert done.stdout.startswith("7 modules, 9 imports, 2 circles, the largest of 3 modules; ")
    assert not (tmp_path / "module_graph.failed").exists()


def test_source_that_cannot_be_parsed_gives_an_alarm_and_no_report(backend: str, tmp_path: Path, library: Path) -> None:
    """Sources that cannot be parsed or read prevent the report; the alarm names them, and no old report stays."""
    assert run_example("module_graph", "--output", tmp_path, "--library", library).returncode == 0
    (library / "b.py").write_text("def (")
    (library / "c.py").unlink()
    (library / "c.py").symlink_to("nowhere")
    done = run_example("module_graph", "--output", tmp_path, "--library", library, "--backend", backend)
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
    assert sum(job.attempts for job in scheduler if job.label.startswith("imports of ")) == 7 + 2


def test_parser_ends_in_time(backend: str, library: Path, example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser, a service, succeeds, and its process is gone after the run."""
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
    assert (library / "alarm").read_text() == "parser, attempt 1: OSError('no port is free')\n"


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
