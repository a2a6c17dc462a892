"""Commands that can't be started: a clear error each, and the run goes on."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trioflow import CommandError, CommandJob, Job, JobState, Scheduler

from .bodies import nap
from .process_trees import Watched
from .process_trees import watched as watched
from .processes import child
from .test_command import PIPE, failure_of, run


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script"
    path.write_text("#!/bin/sh\nexit 0\n")
    return path


def made_by(tmp_path: Path, kind: str) -> list[Any]:
    path = tmp_path / "program"
    content = {"no interpreter": "#!/no/such/interpreter\n", "no program": "\x7fnothing\n"}.get(kind, "#!/bin/sh\n")
    path.write_text(content)
    path.chmod(0o644 if kind == "not executable" else 0o755)
    return [path]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["no such program"], "there is no program 'no such program': look at its spelling, or at PATH"),
        (["./nowhere/x"], "there is no program './nowhere/x': look at its spelling"),
        (["/tmp"], "'/tmp' is not executable"),
        (["/bin/echo", "x" * (3 << 20)], "3145728 of them in argument 1; hand over"),
    ],
)
def test_a_program_that_cannot_be_started(backend: str, command: list[str], message: str) -> None:
    error = failure_of(backend, CommandJob(command))
    assert message in str(error)
    assert len(str(error)) < 1000
    assert (error.returncode, error.result) == (None, None)
    assert isinstance(error.__cause__, OSError)


def test_an_environment_that_is_too_long(backend: str) -> None:
    """Not the arguments are to blame."""
    error = failure_of(backend, CommandJob(["true"], env={"A": "x" * (3 << 20)}))
    assert f"too long: {4 + 1 + (3 << 20)} bytes, {1 + (3 << 20)} of them in variable 'A'" in str(error)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("not executable", "is not executable: it needs chmod +x"),
        ("no interpreter", "is there, but the interpreter in its first line (#!) is not"),
        ("no program", "is no program: a script's first line must be like #!/bin/sh"),
    ],
)
def test_a_file_that_is_no_good_program(backend: str, tmp_path: Path, kind: str, message: str) -> None:
    assert message in str(failure_of(backend, CommandJob(made_by(tmp_path, kind))))


@pytest.mark.parametrize("options", [{}, {"memory_limit": 1 << 30}])
def test_a_directory_that_is_not_there(backend: str, tmp_path: Path, options: Any) -> None:
    error = failure_of(backend, CommandJob(["true"], cwd=tmp_path / "nowhere", **options))
    assert f"cwd='{tmp_path}/nowhere': No such file or directory" in str(error)


def test_a_result_with_a_nul_in_it(backend: str) -> None:
    job = CommandJob(["echo", Job(nap, 0, "a\0b")])
    run(backend, job)
    with pytest.raises(ValueError, match="argument 1 has a NUL in it"):
        job.result()


def test_an_argument_that_is_no_utf8_can_be_printed(backend: str) -> None:
    """In the error, and in the listing."""
    error = failure_of(backend, CommandJob(["ls", b"/\xff"], stderr=PIPE))
    str(error).encode()
    assert "\\udcff" in str(error)
    repr(error.job).encode()


def test_the_others_go_on(backend: str, script: Path) -> None:
    """A command that could not be started is one failure among many."""
    bad = [CommandJob(["no such program"]), CommandJob([script]), CommandJob(["true"], cwd="/nowhere")]
    good = [CommandJob(["true"]) for _ in range(3)]
    scheduler = run(backend, *bad, *good)
    assert [job.state for job in scheduler] == [JobState.FAILED] * 3 + [JobState.SUCCEEDED] * 3


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 30, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_no_more_descriptors(backend: str, few_descriptors: None) -> None:
    """What could be started runs to its end; the others say what was missing, and nothing of them is left."""
    jobs = [CommandJob("sleep 0.3; echo a", shell=True, stdout=PIPE, stderr=PIPE) for _ in range(40)]
    before = len(os.listdir("/proc/self/fd"))
    run(backend, *jobs)
    good = [job for job in jobs if job.state is JobState.SUCCEEDED]
    assert good
    assert all(job.result().stdout == b"a\n" for job in good)
    bad = [job.raised_exception() for job in jobs if job not in good]
    assert bad
    assert all("no more open files are allowed (ulimit -n)" in str(error) for error in bad)
    assert all(isinstance(error, CommandError) for error in bad)
    assert len(os.listdir("/proc/self/fd")) == before


CROWDED = """
import os, resource
from trioflow import CommandJob, Scheduler
backend = {backend!r}
assert Scheduler(CommandJob(["true"])).run(backend=backend)  # all is imported: another user may not find it
if os.getuid() == 0:
    nobody = 70000 + os.getpid() % 50000  # who has no other processes that come and go
    os.setgroups([])
    os.setresgid(nobody, nobody, nobody)
    os.setresuid(nobody, nobody, nobody)
def is_mine(name):
    try:
        return name.isdigit() and os.stat("/proc/" + name).st_uid == os.getuid()
    except FileNotFoundError:  # it has ended since
        return False
mine = sum(map(is_mine, os.listdir("/proc")))
resource.setrlimit(resource.RLIMIT_NPROC, (mine + 8, mine + 8))
jobs = [CommandJob(["sleep", 0.3]) for _ in range(30)]
assert Scheduler(*jobs).run(backend=backend)
errors = [str(job.raised_exception()) for job in jobs if job.raised_exception()]
print(len(jobs) - len(errors), len(errors), all("no more processes are allowed (ulimit -u)" in one for one in errors))
"""


@pytest.mark.parametrize("backend", ["asyncio"])  # it is all the same to the other
def test_no_more_processes(backend: str) -> None:
    """As another user, for root is exempt; what could be started succeeds, the others say what was missing."""
    (line,) = child(CROWDED.format(backend=backend))
    good, bad, named = line.split()
    assert int(good) >= 1
    assert int(bad) >= 1
    assert named == "True"


def test_a_guard_that_cannot_be_started_fails_the_command_and_is_tried_again(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its guard no command runs."""
    from trioflow.jobs import _guard

    real, calls = _guard.Guard._start, []

    def broken(self: Any, read_end: int) -> Any:
        calls.append(read_end)
        if len(calls) == 1:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real(self, read_end)

    monkeypatch.setattr(_guard.Guard, "_start", broken)
    before = len(os.listdir("/proc/self/fd"))
    first, second = CommandJob(["true"]), CommandJob(["true"])
    run(backend, first, second, jobs_window=1)
    assert "no more processes are allowed" in str(first.raised_exception())
    assert second.state is JobState.SUCCEEDED
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def ignored_children() -> Iterator[None]:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.mark.parametrize("is_early", [True, False])
def test_an_exit_code_that_was_taken_away(
    backend: str, watched: Watched, ignored_children: None, monkeypatch: pytest.MonkeyPatch, is_early: bool
) -> None:
    """Where SIGCHLD is ignored the system reaps: before it is watched, or later."""
    real = os.pidfd_open

    def late(pid: int) -> int:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        return real(pid)

    if is_early:
        monkeypatch.setattr(os, "pidfd_open", late)
    error = failure_of(backend, CommandJob(["sleep", 0.01]))
    assert str(error).startswith("sleep 0.01: nobody knows how it ended: this program ignores SIGCHLD")
    assert watched.alive() == []


def test_waiting_commands_hold_nothing(backend: str) -> None:
    """A thousand of them: no process, no descriptor, until they have a slot."""
    counts: list[int] = []

    async def count() -> None:
        counts.append(len(os.listdir("/proc/self/fd")))
        if len(counts) == 2:
            assert {job.state for job in jobs} == {JobState.SCHEDULED}
            scheduler.cancel()

    Scheduler(Job(count)).run(backend=backend)
    jobs = [CommandJob(["true"], stdout=PIPE, stdin=b"x") for _ in range(1000)]
    scheduler = Scheduler(Job(count), *jobs, jobs_window=1)
    scheduler.run(backend=backend)
    assert counts[0] == counts[1]
    assert {job.state for job in jobs} == {JobState.CANCELLED}
