"""A pytest plugin that shows the package another system than Linux: `python -m tests.elsewhere win32`.

Windows and macOS are not available. So their missing functions are hidden, from the modules of trioflow alone: the
standard library and others need them here. Each module of trioflow is executed with stand-ins for `os`, `signal` and so
on, which lack names, and in which `sys.platform` is another one.

A test that needs a hidden function is skipped; the summary counts these functions."""

import builtins
import collections
import fcntl
import importlib
import importlib.abc
import importlib.util
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Final
import pytest

VARIABLE: Final = "TRIOFLOW_TESTS_AS"
"""The environment variable that names the system, for the workers of pytest-xdist too."""

HIDDEN_MODULES: Final = {
    "win32": ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "posix"),
    "darwin": (),
}
HIDDEN: Final = {
    "win32": {
        os: """
            O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK POSIX_SPAWN_CLOSE POSIX_SPAWN_DUP2 PRIO_PGRP
            PRIO_PROCESS P_PID WEXITED WNOHANG WNOWAIT chown environb fchdir fchmod fchown fork forkpty getegid
            geteuid getgid getloadavg getpgid getpgrp getpriority getsid getuid killpg mkfifo memfd_create nice openpty
            pidfd_open pread preadv prlimit pwrite pwritev register_at_fork sched_getaffinity
            sched_setaffinity set_blocking setpgid setpgrp setpriority setsid statvfs sysconf uname wait wait3 wait4
            waitid writev
        """,
        signal: """
            SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGWINCH SIGXFSZ
            alarm pause pthread_sigmask setitimer siginterrupt sigpending sigwait
        """,
        socket: "AF_UNIX SCM_RIGHTS recv_fds send_fds",
        select: "PIPE_BUF POLLIN POLLOUT epoll poll",
    },
    "darwin": {
        os: """
            P_PID P_PIDFD memfd_create pidfd_open posix_fadvise posix_fallocate sched_getaffinity sched_setaffinity
            waitid
        """,
        select: "epoll",
    },
}
NO_FILES: Final = {"win32": ("/proc", "/dev/tty", "/bin/sh"), "darwin": ("/proc",)}

PATHS: Final = {
    "win32": [
        *(
            f"tests/run/test_{name}.py"
            for name in ("backend", "cancelling", "ending", "isolation", "throttled")
        ),
        "tests/testing",
        "tests/journal",
        "tests/simulation",
        "tests/view/events",
        "tests/view/monitor",
    ],
    "darwin": ["tests/jobs/command", "tests/jobs/posix", "tests/jobs/process"],
}
"""What is run if no paths are given. Of the engine, the files whose subjects differ: backends, ends, threads."""
LEFT_OUT: Final = {
    "win32": """
        journal/test_accidents.py journal/test_changes.py journal/test_foreign.py journal/test_killed.py
        view/events/test_nonblocking_writer.py
        test_answers_that_another_user_may_have_given_are_not_used
        test_outputs_on_disk_are_not_in_the_text test_an_output_on_disk_that_a_value_has_twice_is_stored_once
        test_a_database_error_comes_with_advice_for_its_cause
        test_a_new_journal_is_synced_with_its_directory
        test_a_holder_on_another_machine_counts_as_alive
        test_a_rejected_process_does_not_wait_and_leaves_no_files
        test_waiting_for_a_holder_that_seems_dead_is_logged
        test_opening_waits_for_the_second_lock_of_a_killed_process
        test_a_lock_file_removed_while_being_locked_is_created_again
        test_only_the_process_that_created_a_lock_file_removes_it
        test_a_failed_open_releases_the_journals_lock
        test_the_holder_of_a_lock_is_read_if_it_can_be_one test_files_of_questions_are_whole_and_private
    """,
    # /proc: descriptors, memory, processes that have left their session, groups of zombies. And what else Linux has:
    # pidfd (without it a thread waits for each command), memfd, peak memory, CPUs of a process. Which places of a line
    # are safe depends on shells alone.
    "darwin": """
        command/test_shell_places.py
        jobs/posix/test_cpus.py
        test_pinned_commands_that_share_a_cpu_are_reported_once
        command/test_soak.py
        test_a_fork_inside_a_job_does_not_affect_other_commands
        test_a_process_that_left_its_session test_a_process_of_another_session_ends
        test_a_run_continues_after_its_guard_was_killed
        test_the_end_of_a_run_kills_a_shell_before_it_starts_its_next_command
        test_the_guard_script_kills_a_shell_before_it_starts_its_next_command
        test_the_guard_does_its_work_although_another_process_holds_its_pipe_open
        test_the_guard_script_kills_groups_and_marked_processes
        test_a_guard_that_cannot_be_started_leaves_no_descriptor_open
        test_a_marked_process_of_another_user_is_not_found
        test_marked_process_that_starts_during_the_scan_is_found
        test_a_marked_process_in_the_middle_of_an_exec_is_found
        test_guard_finds_a_process_being_started
        test_a_liveness_scan_finds_a_group_dead_only_by_a_scan_after_its_end
        test_a_liveness_scan_counts_zombies_as_dead
        test_a_liveness_scan_is_repeated_for_groups_that_end_later
        test_a_process_that_was_reaped_elsewhere_counts_as_exited
        test_without_pidfd_a_thread_waits_for_each_command
        test_the_table_is_in_a_file_if_there_is_no_memfd
        test_result_of_a_command_has_its_exit_code_output_and_usage
        test_peak_memory_is_that_of_the_command_or_none
        test_pin_binds_each_slot_to_one_cpu
        test_a_pinned_slot_is_released_however_the_command_ended
        test_pinned_slots_are_counted_for_each_scheduler
    """,
}
"""Files and names of tests about what only the other has: on Windows, locks of POSIX's kind, a FIFO, a fork."""

refused: Final[collections.Counter[str]] = collections.Counter()


class StandIn(types.ModuleType):
    """A module without some of its names; attributes set on it are set on the real one."""

    def __init__(
        self, real: types.ModuleType, hidden: Sequence[str], **instead: Any
    ) -> None:
        vars(self).update(
            _real=real, _hidden=frozenset(hidden), **instead, __name__=real.__name__
        )

    def __getattr__(self, name: str) -> Any:
        if name in self._hidden:
            raise AttributeError(
                f"module {self.__name__!r} has no attribute {name!r}, elsewhere",
                name=name,
                obj=self,
            )
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._real, name, value)


class Msvcrt(types.ModuleType):
    """The part of `msvcrt` that the journal uses, over Linux's locks of open files."""

    LK_UNLCK, LK_NBLCK = 0, 2

    @staticmethod
    def locking(descriptor: int, mode: int, size: int) -> None:
        """Lock or unlock from the current position on: a second lock of the same process fails too."""
        import struct

        kind = fcntl.F_UNLCK if mode == Msvcrt.LK_UNLCK else fcntl.F_WRLCK
        start = os.lseek(descriptor, 0, os.SEEK_CUR)
        fcntl.fcntl(
            descriptor,
            fcntl.F_OFD_SETLK,
            struct.pack("hhqqi", kind, os.SEEK_SET, start, size, 0),
        )


class Loader(importlib.abc.Loader):
    """Executes a module with stand-ins in `sys.modules`."""

    def __init__(self, real: Any, seen: dict[str, Any], opened: Any) -> None:
        self._real, self._seen, self._opened = real, seen, opened

    def create_module(self, spec: Any) -> Any:
        return self._real.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        before = {name: sys.modules.get(name, self) for name in self._seen}
        sys.modules.update(self._seen)
        vars(module)["open"] = self._opened
        try:
            self._real.exec_module(module)
        finally:
            for name, real in before.items():
                if real is self:
                    sys.modules.pop(name, None)
                else:
                    sys.modules[name] = real  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:  # source code, files beside it
        return getattr(self._real, name)


class Finder(importlib.abc.MetaPathFinder):
    """A finder for the modules of trioflow that uses `Loader`."""

    def __init__(self, platform: str) -> None:
        def has(path: object) -> bool:
            return not str(path).startswith(NO_FILES[platform])

        def files(module: types.ModuleType, name: str) -> Any:
            def call(path: Any, *args: Any, **options: Any) -> Any:
                if not has(path):
                    raise FileNotFoundError(
                        2, f"there is no such file on {platform}", path
                    )
                # A test may have replaced it.
                return getattr(module, name)(path, *args, **options)

            return call

        def asks(real: Any) -> Any:
            return lambda path: has(path) and real(path)

        def import_module(name: str, package: str | None = None) -> Any:
            if name in HIDDEN_MODULES[platform]:
                raise ModuleNotFoundError(
                    f"No module named {name!r}, elsewhere", name=name
                )
            return importlib.import_module(name, package)

        path = StandIn(
            os.path,
            (),
            **{
                name: asks(getattr(os.path, name))
                for name in ("isdir", "isfile", "exists")
            },
        )
        instead: dict[types.ModuleType, dict[str, Any]] = {
            os: {
                "path": path,
                **{name: files(os, name) for name in ("open", "listdir", "readlink")},
            }
        }
        self._seen: dict[str, Any] = {
            real.__name__: StandIn(real, names.split(), **instead.get(real, {}))
            for real, names in HIDDEN[platform].items()
        }
        self._seen["os.path"] = path
        self._seen["sys"] = StandIn(sys, (), platform=platform)
        self._seen["importlib"] = StandIn(importlib, (), import_module=import_module)
        self._seen.update(dict.fromkeys(HIDDEN_MODULES[platform]))
        if platform == "win32":
            self._seen["msvcrt"] = Msvcrt("msvcrt")
        self._opened = files(builtins, "open")

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.partition(".")[0] != "trioflow":
            return None
        for other in sys.meta_path:
            if (
                other is not self
                and (spec := other.find_spec(name, path, target)) is not None
            ):
                spec.loader = Loader(spec.loader, self._seen, self._opened)
                return spec
        return None


def hide(platform: str) -> None:
    """Let trioflow be imported as on this system from now on."""
    import trioflow

    for module in list(
        pkgutil.walk_packages(trioflow.__path__, "trioflow.")
    ):  # brings the libraries that it uses
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "trioflow"]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder(platform))


if os.environ.get(VARIABLE):
    hide(os.environ[VARIABLE])


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out the tests that concern the other system."""
    names = LEFT_OUT[os.environ[VARIABLE]].split()
    out = [item for item in items if any(name in item.nodeid for name in names)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in set(out)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Skip a test that failed because a function is hidden."""
    report = yield
    error = call.excinfo.value if call.excinfo is not None else None
    text = _refusal(error)
    if text is not None:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), 0, f"refused: {text}")
        report.sections.clear()
        report.user_properties.append(("refused", text))
    return report


def _refusal(error: BaseException | None) -> str | None:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, BaseExceptionGroup):
            return next(filter(None, map(_refusal, error.exceptions)), None)
        if isinstance(error, NotImplementedError) and " needs a POSIX system" in str(
            error
        ):
            return str(error).split(" needs a POSIX")[0].split()[0].strip("',")
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the hidden functions that were used."""
    for name, value in report.user_properties:
        if name == "refused":
            refused[str(value)] += 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the hidden functions that were used."""
    if refused:
        told = ", ".join(f"{what} {count}" for what, count in refused.most_common(6))
        terminalreporter.write_line(
            f"{refused.total()} tests were skipped for what is refused: {told}"
        )


def _is_of_a_test(name: str) -> bool:
    """Return whether this is a file of tests, the beginning of a test's name, or a part of its parameters."""
    files = Path(__file__).parent.rglob("test_*.py")
    wanted = f"def {name}" if name.startswith("test_") else name.strip("[-")
    return any(
        file.as_posix().endswith(f"/{name}") or wanted in file.read_text()
        for file in files
    )


def main() -> int:
    """Run pytest as on another system."""
    platform, *words = sys.argv[1:]
    if stale := [
        name for name in LEFT_OUT[platform].split() if not _is_of_a_test(name)
    ]:
        sys.exit(f"no test has these names, which are left out: {', '.join(stale)}")
    if not any(word.startswith("tests") for word in words):
        words += [
            "-q",
            "--backends",
            "one",
            "-m",
            "not slow and not soak" if platform == "win32" else "not soak",
        ]
        words += PATHS[platform]
    environment = {**os.environ, VARIABLE: platform}
    command = [sys.executable, "-m", "pytest", "-p", "tests.elsewhere", *words]
    return subprocess.run(
        command, env=environment, cwd=Path(__file__).parent.parent, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
