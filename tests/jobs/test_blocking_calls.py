"""No call of the package in the thread of the event loop can block it for long: each that could is listed here.

A file may be on a network that does not answer, and a named pipe has nobody at its other end. What waits for these is
done in a thread, or in a process that can be ended."""

import builtins
import collections
import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
import pytest
import trioflow
from trioflow import (
    CommandJob,
    First,
    Job,
    LocalNode,
    Pull,
    Push,
    Scheduler,
    Script,
    Service,
    SshJob,
    ThreadJob,
)
from ..bodies import nothing, serve

PACKAGE: Final = f"{Path(trioflow.__file__).parent}{os.sep}"
BLOCKING: Final[dict[Any, str]] = {
    os: "open read write stat lstat fsync replace rename scandir listdir unlink rmdir mkdir chmod utime truncate link",
    builtins: "open",
    socket: "getaddrinfo",
    fcntl: "flock lockf",
    time: "sleep",
}
"""The functions that may block, by module."""

ONE_STREAM = "opens or tests a file of a stream, once for each; what is no regular file goes to a child"
OWN_PIPE = (
    "a pipe, a socket or a file in memory that is the package's own, and is ready"
)
OWN_FILE = (
    "a file without a name in the folder for temporary files, in pieces of 64 KiB"
)
KERNEL = "what the kernel makes up in /proc or /sys, which is in memory"
ONE_NAME = "one call for each name that the user wrote, before or after the work"
JOURNAL = (
    "the journal's own file, on a local disk: SQLite itself is called in this thread"
)
OWN_CODE = "once for each file of the program's own code in the whole process, as its import has read it"
FEW_NAMES = (
    "one call for each name in reads=, before the run, and for 1,000 names at most"
)
STAMP = "one call for each name of a job, since a thread walks folders and hashes"
ALLOWED: Final = {
    "_check.py:FileUses.missing_inputs": FEW_NAMES,
    "_loaded_files.py:remember": OWN_CODE,
    "_posix.py:open_regular": ONE_NAME,
    "jobs/command/_output_sinks.py:OutputSpool": OWN_FILE,
    "jobs/_user_files.py:describe_missing_output": ONE_NAME,
    "jobs/_user_files.py:claim": ONE_STREAM,
    "jobs/command/_shell_places.py": ONE_NAME,
    "jobs/command/_start_errors.py:reason_for_failed_start": ONE_STREAM,
    "jobs/command/_output_sinks.py:_open_at_once": ONE_STREAM,
    "jobs/command/_output_sinks.py:open_unless_pipe": ONE_STREAM,
    "jobs/command/_output_sinks.py:file_size": ONE_STREAM,
    "jobs/command/_output_sinks.py:file_tail": ONE_STREAM,
    "jobs/command/_streams.py:PipeReader.read": OWN_PIPE,
    "jobs/command/_streams.py:ProcessStreams._open_input": ONE_STREAM,
    "jobs/command/_streams.py:_create_unnamed_file": OWN_FILE,
    "jobs/_user_files.py:open_output_file": ONE_STREAM,
    "jobs/posix/_cpus.py": KERNEL,
    "jobs/posix/_files.py:is_named_pipe": ONE_STREAM,
    "jobs/posix/_files.py:may_wait_for_writer": ONE_STREAM,
    "jobs/posix/_files.py:open_temporary_file": OWN_FILE,
    "jobs/posix/_files.py:write_all": OWN_FILE,
    "jobs/posix/_guard.py": OWN_PIPE,
    "jobs/posix/_guard_script.py": KERNEL,
    "jobs/posix/_guard.py:LivenessScan": KERNEL,
    "jobs/posix/_guard.py:living_groups": KERNEL,
    "jobs/posix/_processes.py": KERNEL,
    "jobs/process/_worker_pool.py": ONE_NAME,
    "jobs/ssh/_sftp_transfers.py:_local_temporary_file": OWN_FILE,
    "jobs/ssh/_sftp_transfers.py:_plan_copies": ONE_NAME,
    "jobs/ssh/_sftp_transfers.py:pull": ONE_NAME,
    "jobs/ssh/_sftp_transfers.py:read_script": ONE_NAME,
    "journal/_file_stamps.py": STAMP,
    "journal/": JOURNAL,
}
"""Why what stands in these places may call such a function in the thread of the loop."""
READS_FOR_ITS_CALLER: Final = "_posix.py", "read_named"
"""A function that reads a file of any kind of caller, which is the place that counts."""


def place_of_call() -> str | None:
    """Return the innermost place of the package that makes a call; None if it only imports something."""
    frame: Any = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE):
        if (
            "importlib" in frame.f_code.co_filename
            or frame.f_code.co_filename == __file__
        ):
            return None
        frame = frame.f_back
    if frame is None:
        return None
    place = frame.f_code.co_filename.removeprefix(PACKAGE), frame.f_code.co_qualname
    if place == READS_FOR_ITS_CALLER:
        place = (
            frame.f_back.f_code.co_filename.removeprefix(PACKAGE),
            frame.f_back.f_code.co_qualname,
        )
    return ":".join(place)


@contextmanager
def calls_in_loop() -> Iterator[collections.Counter[tuple[str, str]]]:
    """Count the calls of blocking functions in this thread, by the place in the package that makes them."""
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    thread_id = threading.get_ident()

    def count(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if (
                threading.get_ident() == thread_id
                and (place := place_of_call()) is not None
            ):
                counts[place, name] += 1
            return function(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module, names in BLOCKING.items():
            for name in names.split():
                patch.setattr(
                    module,
                    name,
                    count(f"{module.__name__}.{name}", getattr(module, name)),
                )
        yield counts


def jobs_of_each_kind(files: int) -> list[trioflow.AbstractJob[Any]]:
    """Return a job of each kind, with its streams and files; directories have this many files."""
    for directory in ("tree", "old/tree", "old.partial"):
        os.makedirs(directory)
        for number in range(files):
            Path(directory, str(number)).touch()
    Path("in").write_text("x")
    Path("script").write_text("echo")
    steps = [
        "cat",
        Script("script", includes=["tree"]),
        Push("tree", to="pushed/"),
        Pull("tree", to="old/"),
    ]
    fails = "printf x > old/tree/0; exit 1"
    return [
        Job(nothing),
        Service(serve),
        ThreadJob(int),
        trioflow.ProcessJob(int, label="process"),
        First(CommandJob(["true"]), CommandJob(["true"]), label="first"),
        trioflow.CommandService(
            ["sleep", 100], ready=trioflow.CommandSucceeds(["true"])
        ),
        CommandJob(["cat"], stdin="in", stdout="out", stderr="err", label="streams"),
        CommandJob(
            ["cat"],
            stdin=bytes(300_000),
            stdout=subprocess.PIPE,
            reads=["tree"],
            writes=["tree"],
        ),
        CommandJob(
            fails,
            shell=True,
            writes=["old"],
            critical=False,
            log=False,
            label="fails",
            idle_timeout=60,
        ),
        SshJob(
            LocalNode(),
            steps,
            stdin="in",
            stdout="log",
            env={"A": "b"},
            required=None,
            label="node",
        ),
    ]


@pytest.fixture
def in_empty_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Return a function that makes a new directory the current one."""

    def change(name: str) -> None:
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)

    return change


def test_each_blocking_call_in_the_loop_is_allowed(
    in_empty_directory: Callable[[str], None],
) -> None:
    """What may block is called in the loop's thread in listed places alone, and no more often for more files. The calls
    for the names in `reads=` of a journal are listed, and grow with the files. One loop has few, the other one many."""
    counts: list[collections.Counter[tuple[str, str]]] = []
    for files, backend in ((4, "trio"), (40, "asyncio")):
        in_empty_directory(str(files))
        *others, node = jobs_of_each_kind(files)
        with calls_in_loop() as calls:
            Scheduler(*others, journal="run.db").run(backend=backend)
            Scheduler(node).run(backend=backend)
        counts.append(calls)
        assert [
            job.label for job in (*others, node) if job.state.value != "succeeded"
        ] == ["fails"]
    unlisted = {
        call
        for calls in counts
        for call in calls
        if not any(call[0].startswith(place) for place in ALLOWED)
    }
    assert not unlisted
    few, many = (
        {call: n for call, n in calls.items() if call[0].startswith("jobs/")}
        for calls in counts
    )
    in_proc = (
        "jobs/posix/_guard",
        "jobs/posix/_processes",
        "jobs/command/_streams.py:Pipe",
    )
    assert not {
        call: (few.get(call), n)
        for call, n in many.items()
        if n > few.get(call, 0) + 5 and not call[0].startswith(in_proc)
    }
