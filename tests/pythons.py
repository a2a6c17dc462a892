"""Python processes that start at once: forked from one that has imported the package and the libraries already.

A start of `python -m trioflow` takes a quarter of a second of work, nearly all of it for imports. Hundreds of tests
need a process of their own, because of signals, terminals, pipes and exit codes, and not because of the imports. What
they get here takes a tenth of that, and is a process like any other: a fork of a server, which runs a file, a module or
a text, and ends as Python does. The server tells the test when it has ended, and how. It serves all workers of pytest.

A test about what is imported, about encodings, or about variables that Python reads when it starts, needs a real start;
so does one that finds its processes by their environment, which for a fork is that of the server."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import json
import multiprocessing.connection
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import types
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
import trioflow
from . import isolations
from .places import PATIENCE, ROOT

if TYPE_CHECKING:
    import pytest

PRELOADED = [
    "anyio._backends._asyncio", "anyio._backends._trio", "graphviz", "jinja2", "trioflow._check", "trioflow.abc",
    "trioflow.compat.pyexpool", "trioflow.simulation", "trioflow.view.monitor._terminal", "xml.etree.ElementTree",
    *(f"trioflow._core.backend._{name}" for name in ("asyncio", "trio")),
    *(f"trioflow._core.backend._fast_{name}" for name in ("asyncio", "trio") if isolations.ISOLATION == "fast"),
    *(f"trioflow.cli.{name}" for name in ("_commands", "_inspection", "_journal", "_run")),
    *(f"trioflow.cli.batch.{name}" for name in ("_batch_command", "_batch_run", "_progress_bar")),
]  # fmt: skip
FOR_PYTEST = ["pytest", "pytest_trio.plugin", "anyio.pytest_plugin"]
"""Imported when the first `-m pytest` is asked for, which only some processes of tests do."""


class Python(subprocess.Popen[Any]):
    """A `Popen` for the arguments of Python: a file, `-`, `-m` and a module, or `-c` and a text, with their arguments.
    Of the options of `Popen` it takes `stdin`, `stdout`, `stderr`, `cwd`, `env`, those about text, and
    `start_new_session`, by which a terminal that is standard input becomes the one that controls the process."""

    def _execute_child(
        self, args: Sequence[Any], executable: Any, preexec_fn: Any, close_fds: bool, pass_fds: Any, cwd: Any, env: Any,
        startupinfo: Any, creationflags: int, shell: bool, p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int,
        errread: int, errwrite: int, restore_signals: Any, gid: Any, gids: Any, uid: Any, umask: Any,
        start_new_session: bool, *others: Any,
    ) -> None:  # fmt: skip
        self._end, told = os.pipe()
        request = {
            "words": [os.fsdecode(word) for word in args],
            "cwd": os.fsdecode(cwd or os.getcwd()),
            "session": start_new_session,
            "env": {
                os.fsdecode(key): os.fsdecode(value)
                for key, value in (os.environ if env is None else env).items()
            },
        }
        streams = [
            own if given == -1 else given
            for own, given in enumerate((p2cread, c2pwrite, errwrite))
        ]
        with connect() as connection:
            socket.send_fds(
                connection, [json.dumps(request).encode()], [*streams, told]
            )
        os.close(told)
        self.pid = told_by(self._end)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            if not multiprocessing.connection.wait([self._end], timeout):
                raise subprocess.TimeoutExpired(self.args, cast(float, timeout))
            self.returncode = told_by(self._end)
            os.close(self._end)
        return self.returncode

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        try:
            return self._wait(0)
        except subprocess.TimeoutExpired:
            return None


def python(
    *words: Any, input: Any = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Run Python with these arguments to its end, as `subprocess.run` does."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with Python([str(word) for word in words], **options) as process:
        try:
            stdout, stderr = process.communicate(input, timeout=PATIENCE)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def child(code: str, *sends: tuple[str, signal.Signals]) -> list[str]:
    """Run `code` in a new process, send it each signal as soon as it prints the line for it, and return its lines."""
    lines: list[str] = []
    left = list(sends)
    with Python(["-c", code], stdout=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(PATIENCE, process.kill)
        timer.start()
        try:
            for line in cast(Any, process.stdout):
                lines.append(line.rstrip("\n"))
                while left and left[0][0] == lines[-1]:
                    process.send_signal(left.pop(0)[1])
        finally:
            timer.cancel()
            timer.join()
    assert not left, lines
    return lines


def run_pytest(tester: pytest.Pytester, *words: str) -> pytest.RunResult:
    """Run pytest in the directory of a test, in its own process, as `runpytest_subprocess` does."""
    import pytest  # not when the server is started

    done = python(
        "-m", "pytest", "-p", "no:cacheprovider", *words, cwd=tester.path, text=True
    )
    return pytest.RunResult(
        done.returncode, done.stdout.splitlines(), done.stderr.splitlines(), 0
    )


CLIENT = """#!/bin/sh
'''exec' '{python}' -ISB "$0" "$@" # for the shell; a string for Python, whose path may be long, or have spaces in it
'''
import json, os, socket, sys

with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
    door.connect({door!r})
    end, told = os.pipe()
    words = [*{words!r}, *sys.argv[1:]]
    request = {{"words": words, "cwd": os.getcwd(), "session": False, "env": dict(os.environ)}}
    socket.send_fds(door, [json.dumps(request).encode()], [0, 1, 2, told])
os.close(told)
os.read(end, 4)  # its number
code = int.from_bytes(os.read(end, 4), "little", signed=True)
os._exit(code if code >= 0 else 128 - code)
"""


def make_program(path: Path, *words: str) -> None:
    """Make a command for shells that runs Python with these words, and its own, in a fork. It cannot be sent signals,
    and multiprocessing cannot start processes for a script that it runs."""
    connect().close()  # which starts the server
    path.write_text(
        CLIENT.format(python=sys.executable, door=door(), words=words), encoding="utf-8"
    )
    path.chmod(0o755)


def connect() -> socket.socket:
    """Connect to the server; start it if no process of this run of pytest has done so."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with open(__file__, encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            connection.connect(door())
        except ConnectionRefusedError:
            start()
            connection.connect(door())
    return connection


@functools.cache
def door() -> str:
    """Return the address of the server, which is in no directory that a process could remove. It names the namespace,
    too: in one of its own, which each fault of `tests.mutation` has, the process that began the tests has the number
    that it has in others, where a server has the modules of another tree."""
    return f"\0{__name__} of {owner()} in {os.stat('/proc/self/ns/pid').st_ino}"


@functools.cache
def owner() -> int:
    """Return the process that the server ends with: the one that began the tests."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()


def start() -> None:
    """Start the server, which ends with the process that began the tests."""
    others = {
        name: value for name, value in os.environ.items() if name != "TRIOFLOW_TEST"
    }  # by which a test knows its own
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(door())
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listener.fileno()), str(owner())],
            cwd=ROOT,
            env={**others, "PYTHONUTF8": "1", "PYTHONPATH": path},
            pass_fds=[listener.fileno()],
        )
    process.returncode = 0  # nobody waits for it


def told_by(end: int) -> int:
    """Return the next number that the server sends about a process."""
    number = os.read(end, 4)
    if not number:
        raise ChildProcessError(
            "the server that forks Python processes has ended; see its traceback above"
        )
    return int.from_bytes(number, "little", signed=True)


# ---------------------------------------------------------------- in the server
def serve(listener: socket.socket, owner: int) -> tuple[list[str], str] | None:
    """Fork for each request; return what to run in a fork, and None when the owner has ended."""
    ends: dict[
        int, tuple[int, int]
    ] = {}  # a descriptor for each running process: its number, and where to tell
    over = os.pidfd_open(owner)
    while True:
        for ready in select.select([listener.fileno(), over, *ends], [], [])[0]:
            if ready == over:
                return None
            if ready in ends:
                process, told = ends.pop(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                os.close(ready)
                tell(told, code)
                os.close(told)
                continue
            with listener.accept()[0] as asking:
                data, fds, _, _ = socket.recv_fds(asking, 200_000, 4)
            if not data:
                continue
            request = json.loads(data)
            if request["words"][:2] == ["-m", "pytest"]:
                preload(FOR_PYTEST)
            if process := os.fork():
                for stream in fds[:3]:
                    os.close(stream)
                tell(fds[3], process)
                ends[os.pidfd_open(process)] = process, fds[3]
                continue
            listener.close()
            os.close(over)
            for other, (_, told) in ends.items():
                os.close(other)
                os.close(told)
            return prepared(request, fds)


def preload(names: list[str]) -> None:
    """Import modules, and let the collector of a fork not go through what they are."""
    if not sys.modules.keys() >= set(names):
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # nobody who asks for a process would see them
            for name in names:
                importlib.import_module(name)
        gc.collect()
        gc.freeze()


def tell(to: int, number: int) -> None:
    """Send a number to the process's parent, if there is one."""
    with contextlib.suppress(BrokenPipeError):
        os.write(to, number.to_bytes(4, "little", signed=True))


def prepared(request: dict[str, Any], fds: list[int]) -> tuple[list[str], str]:
    """Become the requested process, up to what it runs; return its words, and its first place of modules."""
    for number, stream in enumerate(fds[:3]):
        os.dup2(stream, number)
    for descriptor in fds:
        if descriptor > 2:
            os.close(descriptor)
    if request["session"]:
        os.setsid()
        if os.isatty(0):
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cast(Any, sys.stdout).reconfigure(
        line_buffering=os.isatty(1) or "PYTHONUNBUFFERED" in os.environ
    )
    return request["words"], request["cwd"]


def run(words: list[str], place: str) -> None:
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    shown = sys.__excepthook__
    sys.excepthook = sys.__excepthook__ = lambda *found: shown(
        found[0], found[1].with_traceback(below(found[2])), None
    )
    if words[0] == "-m":
        sys.argv = ["-m", *words[2:]]
        sys.path.insert(0, place)
        cast(Any, runpy)._run_module_as_main(words[1])
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path.insert(0, "")
        exec(compile(words[1], "<string>", "exec", dont_inherit=True), main.__dict__)
    elif os.path.isdir(words[0]) or words[0].endswith(".pyz"):
        sys.argv = words
        sys.path.insert(0, words[0])
        cast(Any, runpy)._run_module_as_main("__main__", alter_argv=False)
    else:
        sys.argv = words
        sys.path.insert(0, os.path.dirname(os.path.realpath(words[0])))
        main.__file__ = "<stdin>" if words[0] == "-" else words[0]
        with open(0 if words[0] == "-" else words[0], "rb") as file:
            code = compile(file.read(), words[0], "exec", dont_inherit=True)
        exec(code, main.__dict__)


def code_of(words: list[str], place: str) -> int:
    """Run the request, and return its exit code, unless Python has to report an exception."""
    try:
        run(words, place)
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        raise
    return 0


def leave(code: int) -> int:
    """End as Python does, but do not take apart all that was forked: that costs more than all else. Return only if
    Python has to tell that an output takes no more."""
    cast(Any, threading)._shutdown()
    cast(Any, atexit)._run_exitfuncs()
    vars(sys.modules["__main__"]).clear()
    gc.collect()
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except (OSError, ValueError):
        return code
    os._exit(code & 0xFF)


def below(trace: types.TracebackType | None) -> types.TracebackType | None:
    """Leave out the frames above those of the executed code."""
    while trace is not None and trace.tb_frame.f_code.co_filename in (
        __file__,
        runpy.__file__,
        "<frozen runpy>",
    ):
        trace = trace.tb_next
    return trace


if __name__ == "__main__":
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the tests, and they end this process
    del sys.path[0]
    for name in trioflow.__all__:
        getattr(trioflow, name)  # these are imported when they are asked for
    vars(importlib.import_module("trioflow.view.trace.report._report"))["_template"]()
    preload(PRELOADED)
    # Many tests compare all that a program prints. On a busy machine, its workers may import it for ten seconds.
    vars(sys.modules["trioflow.jobs.process._worker_pool"])["REPORT_SECONDS"] = 600.0
    wanted = serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    if wanted is not None:
        sys.exit(leave(code_of(*wanted)))
