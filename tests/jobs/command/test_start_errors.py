"""Commands that cannot be started: a clear error each, and the run goes on."""

import contextlib
import csv
import errno
import io
import os
import re
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
import pytest
from trioflow import (
    CommandJob,
    CommandService,
    Job,
    JobState,
    LocalNode,
    PortOpen,
    Scheduler,
    SshJob,
    Trace,
)
from trioflow.jobs.command import _process_run
from trioflow.jobs.posix import _processes
from trioflow.jobs.ssh._connections import LocalConnection
from trioflow.view import listing, save
from ...bodies import at_once, nap, raising, ran, run
from ...pythons import child
from ..posix.process_trees import Watched
from ..posix.process_trees import watched as watched
from .commands import PIPE, failure_of, with_notes


def made_by(tmp_path: Path, kind: str) -> list[Any]:
    path = tmp_path / "program"
    content = {
        "no interpreter": "#!/no/such/interpreter\n",
        "no program": "\x7fnothing\n",
    }.get(kind, "#!/bin/sh\n")
    path.write_text(content)
    path.chmod(0o644 if kind == "not executable" else 0o755)
    return [path]


@pytest.mark.parametrize("kind", ["here", "on a node", "a service"])
def test_an_attempt_that_does_not_start_has_nothing_of_the_one_before(
    backend: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables and files for CI had the exit code and the output of the first attempt beside "not started"."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho of the first\nrm $0\nexit 3\n")
    program.chmod(0o755)

    def reject_second(_: object) -> None:
        if not program.exists():
            raise OSError("the connection is lost, or the port is in use")

    async def ensure(connection: LocalConnection, job: Any) -> None:
        reject_second(job)

    monkeypatch.setattr(LocalConnection, "ensure", ensure)
    monkeypatch.setattr(PortOpen, "_check_before_start", reject_second)
    job: Any = CommandJob([program], stdout=PIPE, retry=1)
    if kind == "on a node":
        job = SshJob(LocalNode(), str(program), stdout=PIPE, retry=1)
    if kind == "a service":
        job = CommandService([program], ready=PortOpen(1), stdout=PIPE, retry=1)
    trace = Trace()
    assert Scheduler(job, instruments=[trace]).run(backend=backend) is False  # type: ignore[arg-type]
    assert (job.attempts, job.last_result) == (2, None)
    save(trace, tmp_path / "table.csv")
    (row,) = csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text()))
    assert row["returncode"] == ""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ["no such program"],
            r"program 'no such program' not found\..*\ncheck its spelling, and PATH$",
        ),
        (["./nowhere/x"], r"program './nowhere/x' not found\..*\ncheck its spelling$"),
        (["/tmp"], "'/tmp' is a directory, not a program"),
        (
            ["/bin/echo", "x" * (3 << 20)],
            r"3145728 of them in argument 1\..*\npass large data",
        ),
    ],
)
def test_a_program_that_cannot_be_started_fails_the_job(
    backend: str, command: list[str], message: str
) -> None:
    error = failure_of(backend, CommandJob(command))
    assert re.search(message, with_notes(error))
    assert len(str(error)) < 1000
    assert (error.returncode, error.result) == (None, None)
    assert isinstance(error.__cause__, OSError)


def test_an_environment_that_is_too_long_fails_the_job(backend: str) -> None:
    error = failure_of(backend, CommandJob(["true"], env={"A": "x" * (3 << 20)}))
    assert (
        f"too long: {4 + 1 + (3 << 20)} bytes, {1 + (3 << 20)} of them in variable 'A'"
        in str(error)
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("not executable", r"is not executable\..*\nrun chmod \+x"),
        (
            "no interpreter",
            r"exists, but the interpreter in its first line \(#!\) does not",
        ),
        (
            "no program",
            r"is not a program\..*\na script must begin with a line such as #!/bin/sh$",
        ),
    ],
)
def test_a_file_that_is_no_valid_program_fails_the_job(
    backend: str, tmp_path: Path, kind: str, message: str
) -> None:
    """A program file that is not executable, or has no interpreter or no #! line, fails its job with that reason."""
    assert re.search(
        message, with_notes(failure_of(backend, CommandJob(made_by(tmp_path, kind))))
    )


@pytest.mark.parametrize("options", [{}, {"memory_limit": 1 << 30}])
def test_a_missing_working_directory_fails_the_job(
    backend: str, tmp_path: Path, options: Any
) -> None:
    error = failure_of(
        backend, CommandJob(["true"], cwd=tmp_path / "nowhere", **options)
    )
    assert f"cwd='{tmp_path}/nowhere': No such file or directory" in str(error)


def test_a_result_with_a_nul_as_an_argument_fails_the_command(backend: str) -> None:
    job = ran(backend, CommandJob(["echo", Job(nap, 0, "a\0b")]))
    with pytest.raises(ValueError, match="argument 1 contains a NUL"):
        job.result()


def test_an_empty_result_as_the_name_of_a_program_fails_the_command(
    backend: str,
) -> None:
    assert "the name of the program is empty" in str(
        failure_of(backend, CommandJob([Job(nap, 0, "")]))
    )


def test_an_error_with_an_argument_that_is_not_utf8_can_be_printed(
    backend: str,
) -> None:
    """An error on an argument that is not UTF-8 can be encoded and printed, as can the repr of its job."""
    error = failure_of(backend, CommandJob(["ls", b"/\xff"], stderr=PIPE))
    str(error).encode()
    assert "\\udcff" in str(error)
    repr(error.job).encode()


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(os.listdir("/proc/self/fd")) + 30
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, limits[1]))
    yield few
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (few, limits[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_the_soft_limit_of_descriptors_is_raised_during_a_run(
    backend: str, few_descriptors: int, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """During a run the soft limit of descriptors is raised, so that no start fails; commands have the old limit."""
    line = f"until test -e {tmp_path}/all; do sleep 0.1; done; ulimit -n"
    started: list[CommandJob] = []

    def start(job: CommandJob) -> None:
        started.append(job)
        if len(started) == len(jobs):
            (tmp_path / "all").touch()

    jobs = [
        CommandJob(line, shell=True, stdout=PIPE, stderr=PIPE, on_start=start)
        for _ in range(40)
    ]
    before = len(os.listdir("/proc/self/fd"))
    run(backend, *jobs)
    assert {job.result().stdout for job in jobs} == {b"%d\n" % few_descriptors}
    assert caplog.text == ""
    assert len(os.listdir("/proc/self/fd")) == before


def test_raise_file_limit_returns_false_if_forbidden(
    few_descriptors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            resource,
            "setrlimit",
            raising(ValueError("current limit exceeds maximum limit")),
        )
        assert not _processes.raise_file_limit()


NARROW = """
import logging, os, resource, sys
from pathlib import Path
from trioflow import CommandJob, Scheduler
warned = Path({place!r}, "warned")

class Note(logging.StreamHandler):
    def emit(self, record):
        super().emit(record)
        warned.touch()

logging.basicConfig(handlers=[Note(sys.stdout)], format="%(message)s")
few = len(os.listdir("/proc/self/fd")) + 40
resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))
line = f"until test -e {{warned}}; do sleep 0.05; done; echo a"
jobs = [CommandJob(line, shell=True, stdout=-1, stderr=-1) for _ in range(40)]
before = len(os.listdir("/proc/self/fd"))
assert Scheduler(*jobs).run(backend={backend!r})
print({{job.result().stdout for job in jobs}}, len(os.listdir("/proc/self/fd")) - before)
"""


def test_a_command_waits_until_another_has_ended_if_the_system_lacks_descriptors(
    backend: str, tmp_path: Path
) -> None:
    warning, outcome = child(NARROW.format(backend=backend, place=str(tmp_path)))
    assert outcome == r"{b'a\n'} 0"
    assert "others wait until one ends: too many open files (ulimit -n)" in warning


@pytest.mark.parametrize(
    "number", [errno.EAGAIN, errno.ENOMEM, errno.ENFILE, errno.EMFILE]
)
def test_a_command_that_nothing_can_help_fails(
    backend: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(_process_run, "spawn", raising(OSError(number, "no room")))
    error = failure_of(backend, CommandJob(["true"]))
    assert with_notes(error).endswith("\nrun fewer commands at once")


@pytest.mark.parametrize("redact", [False, True])
def test_a_waiting_start_can_be_cancelled(
    backend: str, monkeypatch: pytest.MonkeyPatch, redact: bool
) -> None:
    real, started = _process_run.spawn, list[str]()

    def spawn(guard: Any, command: Any, **options: Any) -> Any:
        if any(job.pid for job in jobs):
            raise OSError(errno.EAGAIN, "no room")
        started.append(command[-1])
        return real(guard, ["sleep", "0.1"], **options)

    monkeypatch.setattr(_process_run, "spawn", spawn)
    jobs = [CommandJob(["sleep", str(number)], redact=redact) for number in range(5)]
    run(backend, *jobs, Job(at_once, lambda: jobs[2].cancel()))
    assert jobs[2].state is JobState.CANCELLED
    assert started == ["0", "1", "3", "4"]


def test_a_trace_shows_a_wait_for_the_machine(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _process_run.spawn

    def spawn(guard: Any, command: Any, **options: Any) -> Any:
        if any(job.pid for job in jobs):
            refused.touch()
            raise OSError(errno.EAGAIN, "no room")
        return real(guard, command, **options)

    monkeypatch.setattr(_process_run, "spawn", spawn)
    refused, trace = tmp_path / "refused", Trace()
    jobs = [
        CommandJob(f"until test -e '{refused}'; do sleep 0.01; done", shell=True)
        for _ in range(2)
    ]
    run(backend, *jobs, instruments=[trace])
    early, late = trace.spans
    assert "machine" not in {wait.cause for wait in early.waits}
    assert late.waits[-1].cause == "machine"
    assert late.waits[-1].seconds > 0


CROWDED = """
import logging, os, resource, sys
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
logging.basicConfig(stream=sys.stdout, format="%(message)s")
assert Scheduler(*jobs).run(backend=backend)
print(sum(job.is_done() and job.raised_exception() is None for job in jobs))
"""


def test_a_command_waits_until_another_has_ended_if_the_system_lacks_processes(
    backend: str,
) -> None:
    """Commands wait while no more processes are allowed; here as another user, since root has no such limit."""
    warning, succeeded = child(CROWDED.format(backend=backend))
    assert succeeded == "30"
    assert "others wait until one ends: too many processes (ulimit -u)" in warning


def test_guard_that_cannot_start_fails_a_command_and_is_retried(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trioflow.jobs.posix import _guard

    real, calls = _guard.start_watcher, []

    def broken(read_end: int, *words: Any) -> Any:
        calls.append(read_end)
        if len(calls) == 1:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real(read_end, *words)

    monkeypatch.setattr(_guard, "start_watcher", broken)
    before = len(os.listdir("/proc/self/fd"))
    first, second = CommandJob(["true"]), CommandJob(["true"])
    run(backend, first, second, jobs_window=1)
    assert "too many processes" in str(first.raised_exception())
    assert second.state is JobState.SUCCEEDED
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def ignored_children() -> Iterator[None]:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.mark.parametrize("is_early", [True, False])
def test_an_exit_code_is_unknown_if_this_program_ignores_sigchld(
    backend: str,
    watched: Watched,
    ignored_children: None,
    monkeypatch: pytest.MonkeyPatch,
    is_early: bool,
) -> None:
    """If this program ignores SIGCHLD, the system itself reaps a command, whose exit code is then unknown."""
    real = os.pidfd_open

    def late(pid: int) -> int:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        return real(pid)

    if is_early:
        monkeypatch.setattr(os, "pidfd_open", late)
    error = failure_of(backend, CommandJob(["sleep", 0.01]))
    assert str(error).startswith(
        "its exit code is unknown: this program ignores SIGCHLD"
    )
    assert watched.alive() == []


def test_commands_that_wait_for_a_slot_hold_no_descriptors(backend: str) -> None:
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
    assert (
        counts[1] - counts[0] < 10
    )  # on asyncio, a run that has lasted for a while has a socket to be woken by
    assert {job.state for job in jobs} == {JobState.CANCELLED}


def test_redacted_command_shows_no_arguments(
    backend: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """With `redact=True` no log, listing, debrief, trace or report of a failure shows arguments or environment."""
    environment = {**os.environ, "TOKEN": "hush-hush"}
    commands = (
        ["false", "hush-hush"], ["no-such-program-here", "hush-hush"], ["/no/hush-hush"],
        ["sh", "-c", "echo no hush-hush here >&2; exit 3"],
    )  # fmt: skip
    jobs = [
        CommandJob(command, env=environment, stderr=PIPE, redact=True)
        for command in commands
    ]
    trace = Trace()
    scheduler = Scheduler(*jobs, instruments=[trace])
    scheduler.run(backend=backend)
    told = io.StringIO()
    scheduler.debrief(told)
    save(trace, tmp_path / "report.html")
    save(trace, tmp_path / "trace.json")
    save(trace, tmp_path / "trace.csv")
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    views = [
        told.getvalue(),
        listing(scheduler, details=True),
        scheduler.graph().source,
    ]
    shown = "".join([*views, *map(scheduler.explain, jobs), *caplog.messages])
    assert shown.count(" failed: ") >= 4
    assert "hush-hush" not in shown + written + "".join(
        str(job.raised_exception()) for job in jobs
    )
