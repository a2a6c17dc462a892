"""Nothing of a run's commands outlives the run, or the death of the program that ran it."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import pytest
from trioflow import CommandJob, Scheduler
from trioflow.jobs.posix import _guard, _guard_script, _processes
from trioflow.jobs.posix._processes import Process, describe_exit
from ...bodies import run
from ...journal.stage import adopt_orphans, children
from ...places import PATIENCE
from ...pythons import Python, python
from ..command.commands import PIPE
from .process_trees import FORKING, STUBBORN, TREE, Watched, until_there
from .process_trees import watched as watched

MARK = f"mark-of-{os.getpid()}"
"""A mark of no other test on this machine: every process that has it is killed."""
TWO_STEPS = "(touch $0.begun; exec sleep 1000); touch $0.went-on"
CONDUCTOR = """
from pathlib import Path
from trioflow import CommandJob, Scheduler
from trioflow.jobs.posix import _guard
_guard.TERMINATE_GRACE = 0.1
backend, started, number, lines = {arguments!r}
count = 0

def note(job):
    global count
    count += 1
    if count == number:
        Path(started).touch()

options = {{"shell": True, "on_start": note, "terminate_grace": 0.1}}
commands = [CommandJob(lines[n % len(lines)], **options) for n in range(number)]
scheduler = Scheduler(*commands, label="conductor")
try:
    print(scheduler.run(backend=backend, handle_signals=True), scheduler.stop_reason.name)
except KeyboardInterrupt:
    print("KeyboardInterrupt", scheduler.stop_reason.name)
"""


@contextmanager
def conductor(
    backend: str, started: Path, number: int, *lines: str
) -> Iterator[Callable[[signal.Signals], list[str]]]:
    """Run endless commands in another program; yield a function that signals it and returns what it says."""
    arguments = backend, str(started), number, lines
    with Python(
        ["-c", CONDUCTOR.format(arguments=arguments)], stdout=subprocess.PIPE, text=True
    ) as process:

        def end(how: signal.Signals) -> list[str]:
            process.send_signal(how)
            return [*process.communicate()[0].splitlines(), str(process.returncode)]

        try:
            yield end
        finally:
            process.kill()


SAID = {
    signal.SIGKILL: ["-9"],
    signal.SIGTERM: ["False INTERRUPTED", "0"],
    signal.SIGINT: ["False INTERRUPTED", "0"],
}
STAYING = [
    STUBBORN,
    TREE,
    FORKING,
    f"setsid {TREE}",
    'trap "" TERM; setsid sleep 1000 & exec sleep 1000',
]


@pytest.mark.parametrize("number", [10, pytest.param(200, marks=pytest.mark.soak)])
@pytest.mark.parametrize("how", SAID)
def test_commands_end_when_their_controlling_program_is_killed(
    backend: str, watched: Watched, tmp_path: Path, how: signal.Signals, number: int
) -> None:
    """Commands end in order when their program gets SIGTERM or Ctrl-C; after SIGKILL the guard ends them."""
    with conductor(backend, tmp_path / "started", number, *STAYING) as end:
        until_there(tmp_path / "started")
        assert end(how) == SAID[how]
    assert watched.gone_in_time()


def test_a_program_killed_while_it_starts_commands_leaves_none(
    backend: str, watched: Watched, tmp_path: Path
) -> None:
    for delay in (0.0, 0.005):
        flag = tmp_path / f"after {delay}"
        with conductor(
            backend, tmp_path / "all", 1000, f"touch '{flag}'; {TREE}"
        ) as end:
            until_there(flag)
            time.sleep(delay)
            end(signal.SIGKILL)
        assert watched.gone_in_time()


def test_a_process_of_another_session_ends(
    backend: str, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has left its session and closed its streams ends with the run, even if it ignores SIGTERM."""
    monkeypatch.setattr(_guard, "TERMINATE_GRACE", 0.1)
    jobs = [
        CommandJob(f"setsid {line} >&- 2>&- <&- & sleep 0.1", shell=True)
        for line in ("sleep 1000", "sh -c 'trap \"\" TERM; sleep 1000; sleep 1000'")
    ]
    alive: list[list[str]] = []
    jobs.append(
        CommandJob(
            ["true"],
            required=jobs,
            on_succeeded=lambda _: alive.append(watched.commands()),
        )
    )
    assert Scheduler(*jobs).run(backend=backend)
    assert len(alive[0]) >= 2
    assert watched.alive() == []


def test_a_process_that_left_its_session_has_time_to_end(
    backend: str, watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has left its session may take longer to handle SIGTERM than the guard takes between two scans."""
    monkeypatch.setattr(_guard, "TERMINATE_GRACE", 60.0)
    works = (
        "work() { i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; : > ended; exit; }"
    )
    line = f"setsid sh -c '{works}; trap work TERM; : > began; while :; do sleep 0.01; done' &"
    run(
        backend,
        CommandJob(
            f"{line} until test -e began; do sleep 0.01; done", shell=True, cwd=tmp_path
        ),
    )
    assert (tmp_path / "ended").exists()


def test_the_sweep_at_the_end_of_a_run_does_not_end_processes_of_other_runs(
    backend: str, watched: Watched
) -> None:
    other = subprocess.Popen(
        ["sleep", "1000"], env={**os.environ, "TRIOFLOW_RUN": "1-0123456789abcdef"}
    )
    run(backend, CommandJob(["true"]))
    assert other.poll() is None
    other.kill()
    other.wait()


def test_one_guard_serves_a_run_and_ends_too(
    backend: str, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One guard, a child of this program in its own session and without our streams, serves nested schedulers, too. If
    this program is a command of another run, the guard does not have the mark of that run, which would end it too
    early. Its table has only the groups of running commands, since the numbers of others are given to other processes.
    """
    monkeypatch.setenv("TRIOFLOW_RUN", "1-0123456789abcdef")
    seen: list[list[int]] = []

    def look_at_table(job: CommandJob) -> None:
        (guard,) = _guard._live_guards
        assert _guard_script.read_table(guard.table.descriptor)[0] == [job.pid]

    notes = {"on_start": look_at_table, "on_succeeded": lambda _: seen.append(guards())}
    first, *others, last = (CommandJob(["true"], **notes) for _ in range(4))
    run(backend, first, Scheduler(others, jobs_window=1), last, jobs_window=1)
    assert len(seen) == 4
    assert len({tuple(one) for one in seen}) == 1
    assert len(seen[0]) == 1
    assert guards() == []


def guards() -> list[int]:
    """Return the guards that are children of this program, and check how each was started."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if (
                parent == os.getpid()
                and "_guard_script" in (path / "cmdline").read_text()
            ):
                found.append(int(path.name))
                assert os.getsid(found[-1]) == found[-1]
                assert (
                    os.readlink(path / "fd/1")
                    == os.readlink(path / "fd/2")
                    == os.devnull
                )
                assert os.readlink(path / "cwd") == "/"
                assert b"TRIOFLOW_RUN" not in (path / "environ").read_bytes()
        except (OSError, ValueError):
            continue
    return found


def the_guard() -> int:
    """Wait for the guard of this program: right after the fork it still looks like the program."""
    while not (found := guards()):
        time.sleep(0.005)
    return found[0]


def test_without_commands_there_is_no_guard(backend: str) -> None:
    from ...bodies import nothing

    async def look() -> None:
        await nothing()
        seen.append(guards())

    from trioflow import Job

    seen: list[list[int]] = []
    Scheduler(Job(look)).run(backend=backend)
    assert seen == [[]]


@pytest.mark.parametrize("executable", [sys.executable, ""])
def test_the_guard_is_run_by_the_same_python(
    backend: str, executable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", executable)
    found: list[str] = []
    run(
        backend,
        CommandJob(
            ["true"],
            on_start=lambda _: found.append(
                Path(f"/proc/{the_guard()}/cmdline").read_text()
            ),
        ),
    )
    shell, option, _, python, *_ = found[0].split(
        "\0"
    )  # the shell becomes Python when the run has died
    assert (shell, option, python) == ("/bin/sh", "-c", executable or "python3")


def test_a_run_continues_after_its_guard_was_killed(
    backend: str, watched: Watched
) -> None:
    job = CommandJob(
        ["sleep", 0.05], on_start=lambda _: os.kill(the_guard(), signal.SIGKILL)
    )
    assert Scheduler(job, CommandJob("setsid sleep 1000 &", shell=True)).run(
        backend=backend, check=True
    )
    assert watched.alive() == []


def test_the_guard_ignores_the_signals_of_a_terminal(
    backend: str, watched: Watched
) -> None:
    """Ctrl-C, SIGHUP and SIGTERM do not end the guard."""
    numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)

    def ignores_all(guard: int) -> bool:
        status = Path(f"/proc/{guard}/status").read_text()
        ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
        return all(ignored >> (number - 1) & 1 for number in numbers)

    def bother(job: CommandJob) -> None:
        guard = the_guard()
        end = time.monotonic() + PATIENCE
        while not ignores_all(
            guard
        ):  # it needs its first millisecond; no terminal can reach it then: its session
            assert time.monotonic() < end
            time.sleep(0.005)
        for number in numbers:
            os.kill(guard, number)
        time.sleep(0.05)
        alive.append(guards())

    alive: list[list[int]] = []
    run(backend, CommandJob(["sleep", 0.05], on_start=bother))
    assert len(alive[0]) == 1


FORKING_CONDUCTOR = """
import os, sys, time
from pathlib import Path
from trioflow import CommandJob, Scheduler

def fork(job):
    if not os.fork():
        while not Path(sys.argv[2], "finish").exists():
            time.sleep(0.01)
        os._exit(0)
    Path(sys.argv[2], "started").touch()

Scheduler(CommandJob(sys.argv[3], shell=True, on_start=fork)).run(backend=sys.argv[1])
"""


def test_a_forked_child_of_the_program_does_not_delay_the_guard(
    backend: str, watched: Watched, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FORKING_CONDUCTOR, backend, str(tmp_path), STUBBORN]
    )
    until_there(tmp_path / "started")
    end = time.monotonic() + PATIENCE
    while (
        watched.alive().count("sleep 1000") < 3
    ):  # the shells have to become these first
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.wait()
    end = time.monotonic() + PATIENCE
    while "sleep 1000" in watched.alive() and time.monotonic() < end:
        time.sleep(0.005)
    assert "sleep 1000" not in watched.alive()
    assert watched.alive() != []  # the forked child is still there
    (tmp_path / "finish").touch()
    assert watched.gone_in_time()


def test_the_guard_does_its_work_although_another_process_holds_its_pipe_open(
    backend: str, watched: Watched
) -> None:
    copies: list[int] = []
    job = CommandJob(
        'trap "" TERM; setsid sleep 1000 & sleep 0.1',
        shell=True,
        on_start=lambda _: copies.extend(
            os.dup(guard.pipe_write_end) for guard in _guard._live_guards
        ),
    )
    Scheduler(job, shutdown_timeout=0.01).run(backend=backend)
    assert watched.alive() == []
    assert len(copies) == 1
    os.close(copies[0])


def test_no_argument_of_a_process_has_the_mark(backend: str) -> None:
    """The mark is in no command line, where other users could read it and start processes that carry it."""
    lines: list[bytes] = []

    def look(job: CommandJob) -> None:
        (guard,) = _guard._live_guards
        assert the_guard()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                lines.append(path.read_bytes())
        assert not any(guard.mark.encode() in line for line in lines)

    run(backend, CommandJob(["sleep", "0.1"], on_start=look))
    assert any(b"_guard_script" in line for line in lines)


def test_the_sweep_gives_up_on_processes_that_cannot_be_killed(
    backend: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run ends, with a message, although processes with its mark come again and again."""
    monkeypatch.setattr(_guard, "TERMINATE_GRACE", 0.01)
    monkeypatch.setattr(_guard_script, "KILL_TIMEOUT", 0.01)
    monkeypatch.setattr(_guard_script, "find_marked_pids", lambda mark: [2**22 - 5])
    assert Scheduler(CommandJob(["true"]), shutdown_timeout=PATIENCE).run(
        backend=backend
    )
    assert (
        "processes that commands have started cannot be killed, such as 4194299; the run ends"
        in caplog.text
    )


@pytest.mark.parametrize("command", ["true", "/nowhere"])
def test_the_table_shows_a_process_while_it_starts(
    backend: str, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """So the guard knows of a process that is not in the table yet, and has no mark until its exec."""
    real, said = subprocess.Popen, list[bool]()

    def look() -> None:
        said.extend(
            _guard_script.read_table(guard.table.descriptor)[1]
            for guard in _guard._live_guards
        )

    def start(words: Any, **options: Any) -> subprocess.Popen[bytes]:
        look()
        return real(words, **options)

    monkeypatch.setattr(_processes.subprocess, "Popen", start)
    run(
        backend,
        CommandJob([command]),
        CommandJob(["true"], on_start=lambda _: look()),
        jobs_window=1,
    )
    assert said == [
        False,
        True,
        True,
        False,
    ]  # as the guard starts, and as each command does; then it is registered


def test_guard_finds_a_process_being_started(
    table: _guard.ProcessGroupTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose start the table announces may get its mark after the first scan, and is killed all the same."""
    real, started = _guard_script.find_marked_pids, list[subprocess.Popen[bytes]]()

    def find(mark: bytes) -> list[int]:
        found = real(mark)
        if not started:
            started.append(
                subprocess.Popen(
                    ["sleep", "1000"], env={**os.environ, "TRIOFLOW_RUN": MARK}
                )
            )
        return found

    monkeypatch.setattr(_guard_script, "find_marked_pids", find)
    monkeypatch.setattr(
        _guard_script, "START_TIME", 1.0
    )  # a busy machine may take long to start the process
    monkeypatch.setattr(_guard_script, "SCAN_INTERVAL", 0.05)
    table.note_start(True)
    _guard_script.main(table.descriptor, MARK.encode())
    assert started[0].wait(PATIENCE) == -signal.SIGKILL


# --- parts of the guard
def test_a_marked_process_of_another_user_is_not_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = subprocess.Popen(
        ["sleep", "1000"], env={**os.environ, "TRIOFLOW_RUN": MARK}
    )
    try:
        assert _guard_script.find_marked_pids(MARK.encode()) == [process.pid]
        monkeypatch.setattr(_guard_script.os, "geteuid", lambda: os.getuid() + 1)
        assert _guard_script.find_marked_pids(MARK.encode()) == []
    finally:
        process.kill()
        process.wait()


def test_marked_process_that_starts_during_the_scan_is_found(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, started = os.listdir, list[subprocess.Popen[bytes]]()

    def late(path: str) -> list[str]:
        listed = real(path)
        if not started:
            started.append(
                subprocess.Popen(
                    ["sleep", "1000"], env={**os.environ, "TRIOFLOW_RUN": MARK}
                )
            )
        return listed

    monkeypatch.setattr(_guard_script.os, "listdir", late)
    assert _guard_script.find_marked_pids(MARK.encode()) == [started[0].pid]
    started[0].kill()
    started[0].wait()


@pytest.mark.parametrize("known", ["a scan later", "a moment later"])
def test_a_marked_process_in_the_middle_of_an_exec_is_found(
    monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    """A process of which exec has not set up arguments and environment, but has closed the guard's pipe, is found."""
    process = subprocess.Popen(
        ["sleep", "1000"], env={**os.environ, "TRIOFLOW_RUN": MARK}
    )
    real, hidden = (
        _guard_script.read_file,
        ["environ", "cmdline"][: 2 if known == "a scan later" else 1],
    )

    def read_file(pid: str, name: str) -> bytes:
        if pid == str(process.pid) and name in hidden:
            hidden.remove(name)
            return b""
        return real(pid, name)

    monkeypatch.setattr(_guard_script, "read_file", read_file)
    try:
        assert _guard_script.find_marked_pids(MARK.encode()) == [process.pid]
        assert not hidden
    finally:
        process.kill()
        process.wait()


def test_an_empty_environment_is_one() -> None:
    with subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}, bufsize=0
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"x")
        assert process.stdout.read(1) == b"x"  # it runs
        assert _guard_script.read_environment(str(process.pid)) == b""


def test_a_process_that_was_reaped_elsewhere_counts_as_exited(
    table: _guard.ProcessGroupTable,
) -> None:
    """A process that some SIGCHLD handler has reaped counts as exited, and a scan shows that its group is dead."""
    guard: Any = SimpleNamespace(table=table, liveness_scan=_guard.LivenessScan())
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as child:
        process = Process(guard, child.pid)
        assert not process.has_exited()
        child.kill()
    assert process.has_exited()
    assert not process.reap()
    assert process.has_exited()
    assert process.has_only_zombies_left()
    process.unregister()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-9, "ended by signal SIGKILL"),
        (-40, "ended by signal 40"),
    ],
)
def test_describe_exit_names_the_exit_code_or_the_signal(code: int, said: str) -> None:
    assert describe_exit(code) == said


@pytest.fixture
def table() -> Iterator[_guard.ProcessGroupTable]:
    table = _guard.ProcessGroupTable()
    yield table
    table.close()


def test_the_table_lists_the_groups_that_were_added_and_not_removed(
    table: _guard.ProcessGroupTable,
) -> None:
    entries = [table.add_group(number) for number in (2, 22, 33)]
    table.remove_group(entries[1])
    assert _guard_script.read_table(table.descriptor)[0] == [2, 33]
    assert table.add_group(44) == entries[1]
    assert _guard_script.read_table(table.descriptor)[0] == [2, 44, 33]


def test_a_full_table_stores_no_group_until_one_is_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full table stores no group until one is removed; a command without an entry may be removed like others."""
    monkeypatch.setattr(_guard, "_table_size", lambda: 16)
    table = _guard.ProcessGroupTable()
    assert [table.add_group(number) for number in (11, 22, 33)] == [2, 3, 0]
    table.remove_group(0)
    table.remove_group(3)
    assert [table.add_group(number) for number in (44, 55)] == [3, 0]
    assert _guard_script.read_table(table.descriptor)[0] == [11, 44]
    table.close()


def test_the_table_is_in_a_file_if_there_is_no_memfd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(_guard.os, "memfd_create")
    table = _guard.ProcessGroupTable()
    table.add_group(5)
    assert _guard_script.read_table(table.descriptor)[0] == [5]
    table.close()


def test_a_guard_that_cannot_be_started_leaves_no_descriptor_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wherever the start of a guard meets the limit of descriptors, it leaves none open."""
    before = os.listdir("/proc/self/fd")
    for owner, name in (
        (os, "memfd_create"),
        (os, "truncate"),
        (os, "pipe"),
        (subprocess, "Popen"),
    ):
        with monkeypatch.context() as context:
            context.setattr(owner, name, _missing)
            with pytest.raises(OSError, match="no more"):
                _guard.Guard(None)  # type: ignore[arg-type]
        assert os.listdir("/proc/self/fd") == before
    assert list(_guard._live_guards) == []


def _missing(*args: Any, **options: Any) -> Any:
    raise OSError(24, "no more")


def test_the_guard_script_kills_groups_and_marked_processes(
    table: _guard.ProcessGroupTable, watched: Watched
) -> None:
    tree = subprocess.Popen(
        STUBBORN, shell=True, start_new_session=True, stdout=subprocess.DEVNULL
    )
    marked = subprocess.Popen(
        ["setsid", "-w", "sleep", "1000"],
        env={**os.environ, "TRIOFLOW_RUN": f"a:{MARK}:b"},
    )
    table.add_group(tree.pid)
    table.add_group(2**22 - 5)  # none of ours, and gone
    time.sleep(0.05)
    _guard_script.main(table.descriptor, MARK.encode())
    assert [process.wait(PATIENCE) for process in (tree, marked)] == [-9, -9]
    assert watched.gone_in_time()


def test_the_guard_script_gives_up_on_a_process_that_cannot_be_killed(
    table: _guard.ProcessGroupTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count()
    killed: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        _guard_script,
        "time",
        SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _: None),
    )
    monkeypatch.setattr(_guard_script, "KILL_TIMEOUT", 3)
    monkeypatch.setattr(_guard_script, "find_marked_pids", lambda mark: [2**22 - 5])
    monkeypatch.setattr(
        _guard_script, "signal_all", lambda pids, number: killed.append((*pids, number))
    )
    _guard_script.main(table.descriptor, MARK.encode())
    assert killed == [(2**22 - 5, signal.SIGKILL)] * 2


def test_the_guard_script_kills_a_shell_before_it_starts_its_next_command(
    table: _guard.ProcessGroupTable, tmp_path: Path, watched: Watched
) -> None:
    """The guard kills a shell before its command, after whose death `rsync ...; rm -r ...` would go on."""
    environment = {**os.environ, "TRIOFLOW_RUN": MARK}
    places = [tmp_path / str(number) for number in range(20)]
    shells = [
        subprocess.Popen(["sh", "-c", TWO_STEPS, place], env=environment)
        for place in places
    ]
    until_there(*(place.with_suffix(".begun") for place in places))
    _guard_script.main(table.descriptor, MARK.encode())
    assert {shell.wait(PATIENCE) for shell in shells} == {-signal.SIGKILL}
    assert {path.suffix for path in tmp_path.iterdir()} == {".begun"}


def test_the_end_of_a_run_kills_a_shell_before_it_starts_its_next_command(
    backend: str, tmp_path: Path, watched: Watched
) -> None:
    """The end of a run also kills shells outside their process group before these start their next command."""
    (tmp_path / "two-steps").write_text(TWO_STEPS)
    starts = 'for one in $(seq 20); do setsid sh -c "$(cat two-steps)" $one & done'
    waits = "until test $(ls *.begun | wc -l) = 20; do sleep 0.01; done"
    run(backend, CommandJob(f"{starts}; {waits}", shell=True, cwd=tmp_path))
    assert watched.alive() == []
    assert {path.suffix for path in tmp_path.iterdir()} == {".begun", ""}


def test_a_liveness_scan_finds_a_group_dead_only_by_a_scan_after_its_end(
    backend: str,
) -> None:
    scan = _guard.LivenessScan()
    own = os.getpgid(0)
    now = time.monotonic()
    assert not scan.are_all_dead(own, now)
    assert scan.are_all_dead(2**22 - 5, now)
    assert not scan.are_all_dead(2**22 - 5, time.monotonic() + 100)


def test_a_liveness_scan_counts_zombies_as_dead() -> None:
    """A liveness scan counts zombies as dead, which are listed until their parent asks for their exit code."""
    with subprocess.Popen(["true"], start_new_session=True) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert _guard.LivenessScan().are_all_dead(child.pid, time.monotonic())


def test_a_liveness_scan_is_repeated_for_groups_that_end_later() -> None:
    scan = _guard.LivenessScan()
    began = time.monotonic()
    assert scan.are_all_dead(2**22 - 5, began)
    later = time.monotonic()
    while not scan.are_all_dead(2**22 - 5, later):
        time.sleep(0.001)
        assert time.monotonic() < later + PATIENCE


def test_orphans_of_a_command_that_become_children_of_this_program_are_reaped(
    backend: str, watched: Watched
) -> None:
    """If trioflow is process 1 of a container, it reaps the orphans of its commands."""
    adopt_orphans(True)
    before = children()
    try:
        lines = "sleep 0 & trap '' TERM; sleep 1000 & exit 0"
        run(
            backend,
            CommandJob(lines, shell=True, leftovers="end", terminate_grace=0.02),
        )
    finally:
        adopt_orphans(False)
    assert children() <= before
    assert watched.alive() == []


def test_zombies_in_the_group_of_a_command_are_not_waited_for(
    backend: str, watched: Watched
) -> None:
    """A job does not wait for zombies in its group, since in many containers process 1 reaps late or never."""
    job = CommandJob(
        "sleep 1000 & exit 0",
        shell=True,
        stdout=PIPE,
        terminate_grace=1000,
        leftovers="end",
    )
    run(backend, job)
    assert watched.alive() == []


def test_the_guard_works_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `/proc`, the guard finds no processes by their mark, and knows only those of its groups."""
    real: Any = os.path.isdir
    monkeypatch.setattr(
        os.path, "isdir", lambda path: path != "/proc/self" and real(path)
    )
    assert _guard_script.find_marked_pids(b"") == []


def test_commands_run_with_a_small_limit_of_file_sizes() -> None:
    code = """
import resource
from trioflow import CommandJob, Scheduler
resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))
print(Scheduler([CommandJob(["true"]) for _ in "abc"]).run())
"""
    assert python("-c", code, text=True).stdout == "True\n"
