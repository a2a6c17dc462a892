"""The question to a program that runs: what is it doing? And its answer, the record of the process, as text.

The program is asked on its socket, or by `sys.remote_exec` from Python 3.14 on.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
import shutil
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

from ... import _posix as posix
from ..._core.base._text_forms import (
    clause,
    duration_text,
    fit,
    join_names,
    plural,
)
from ..._core.job._labels import printable, printable_lines, shorten
from .._estimate import TimeLeft
from .._families import fit_name
from ..monitor._run_header import estimate_words
from ..text._symbols import align_columns, display_width, durations_in_column
from ._answers import RECEIVED, peer_of, socket_address, user_name
from ._process_record import Record, line_text

ANSWER_TIMEOUT: Final = 10.0
REMOTE_TIMEOUT: Final = 5.0
IDLE_TIMEOUT: Final = 0.1
"""How long, in seconds, to wait for an answer, until a process runs a script, and until it is taken out of a wait for
that."""
POLL_INTERVAL: Final = 0.01
HOW_TO_ASK: Final = "start it with TRIOFLOW_LOOK=1 in its environment, or let it call trioflow.look.enable()"
HOW_TO_SEE: Final = "`py-spy dump --pid {}` shows where"

REMOTE_SCRIPT: Final = """\
def look():
    import json, os, sys
    folder = {folder!r}
    path = os.path.join(folder, "answer")
    try:
        if os.path.exists(os.path.join(folder, "abandoned")):
            for name in os.listdir(folder):
                os.unlink(os.path.join(folder, name))
            os.rmdir(folder)
        elif "trioflow" not in sys.modules:
            raise LookupError("it has not imported trioflow")
        else:
            from trioflow.view.look._answers import answer_in_file
            answer_in_file(path, *{requests!r})
    except BaseException as error:
        try:
            with open(path + ".part", "w") as file:
                json.dump({{"error": str(error)}}, file)
            os.replace(path + ".part", path)
        except OSError:
            pass

import _thread
_thread.start_new_thread(look, ())
"""
"""The program that Python runs in the other process. It answers from a thread, so that the loop goes on meanwhile."""


PTRACE_SEIZE: Final = 0x4206
PTRACE_INTERRUPT: Final = 0x4207
PTRACE_DETACH: Final = 17
WAIT_ALL: Final = 0x40000000
"""`__WALL` of `waitpid`: also wait for a process that is not a child."""


class NoAnswer(Exception):
    """The process has not answered. The text has the reason and the remedy."""


def ask(pid: int, request: Record | None = None) -> Record:
    """Return the record of another process of the same user, or its answer to a request.

    Raises:
        NoAnswer: there is no such process, it belongs to another user, or it cannot or does not answer.

    """
    _check_process(pid)
    if request is not None:
        request = {"pid": os.getpid(), **request}
    data = _ask_at_socket(pid, request)
    if data is None:
        data = _ask_remotely(pid, request)
    try:
        answer: Record = json.loads(data)
    except ValueError:
        # The answer is incomplete.
        is_end = request is not None and request.get("do") in ("cancel", "drain")
        if is_end and data.startswith(RECEIVED):
            return {"done": f"process {pid} has ended"}
        raise NoAnswer(
            f"process {pid} ends, or can start no thread: it has not answered"
        ) from None
    if "error" in answer:
        problem = "" if request else " cannot be looked at"
        raise NoAnswer(f"process {pid}{problem}: {answer['error']}")
    return answer


def answering_programs() -> Iterator[tuple[int, Record]]:
    """Yield the programs of this user that answer at a socket, with their records."""
    with contextlib.suppress(OSError):
        if sys.platform == "linux":
            names = Path("/proc/net/unix").read_text("utf-8", "replace")
        else:
            names = os.listdir(tempfile.gettempdir())
        found = re.findall(r"trioflow-look-(\d+)(?=\n|\.sock\b)", f"{names}\n")
        for pid in sorted({*map(int, found)}):
            with contextlib.suppress(NoAnswer, ValueError):
                # It may end meanwhile.
                _check_process(pid)
                record = json.loads(_ask_at_socket(pid, None) or b"{}")
                if "runs" in record:
                    yield pid, record


def is_there(pid: int) -> bool:
    """Return whether a process of this user exists, or existed a moment ago."""
    try:
        _check_process(pid)
    except NoAnswer:
        return False
    return True


def _check_process(pid: int) -> None:
    if posix.IS_POSIX:
        with contextlib.suppress(PermissionError):
            # It belongs to another user.
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                raise NoAnswer(f"there is no process {pid}") from None
    try:
        lines = Path(f"/proc/{pid}/status").read_bytes().splitlines()
        status = dict(line.split(b":\t", 1) for line in lines)
        state = status[b"State"]
        owner = int(status[b"Uid"].split()[1])
    except (OSError, ValueError, KeyError):  # not on Linux
        return
    if state.startswith(b"Z"):
        raise NoAnswer(f"there is no process {pid}: it has ended")
    if owner != posix.geteuid():
        raise NoAnswer(
            f"process {pid} belongs to another user: run this as user {user_name(owner)}"
        )


def _ask_at_socket(pid: int, request: Record | None) -> bytes | None:
    """Return the answer at the socket of a process, as far as it came, or None if it has no socket."""
    if not posix.IS_POSIX:
        return None
    data = bytearray()
    with socket.socket(posix.AF_UNIX) as connection:
        # In this way, who waits for a place in a full queue waits in line, even among strangers who connect in a loop.
        timeout = struct.pack("ll", int(ANSWER_TIMEOUT), 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        try:
            connection.connect(socket_address(pid))
            if peer_of(connection) not in ((None, None), (pid, posix.geteuid())):
                # Another process has taken the name.
                return None
        except BlockingIOError:
            raise _too_slow(pid) from None
        except OSError:
            return None
        connection.settimeout(ANSWER_TIMEOUT)
        try:
            if request is not None:
                connection.sendall(json.dumps(request).encode())
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 16):
                data += part
        except TimeoutError:
            raise _too_slow(pid) from None
        except OSError:
            # The program has ended.
            pass
    return bytes(data)


def _too_slow(pid: int) -> NoAnswer:
    return NoAnswer(
        f"process {pid} does not answer within {ANSWER_TIMEOUT:g} s: it is stopped (SIGCONT continues it), has "
        "too many files open, or is in C code that never lets other threads run, such as a long match of `re`; "
        f"{HOW_TO_SEE.format(pid)}"
    )


def _ask_remotely(pid: int, request: Record | None) -> bytes:
    """Let a process run a script that answers, by `sys.remote_exec` (PEP 768).

    Raises:
        NoAnswer: this Python cannot do this, or not to that process.

    """
    with contextlib.suppress(OSError):
        if os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"):
            raise NoAnswer(
                f"process {pid} is in a container, with other files: run trioflow look in there"
            )
    remote_exec: Any = getattr(sys, "remote_exec", None)
    if remote_exec is None:
        raise NoAnswer(
            f"process {pid} does not answer: {HOW_TO_ASK}. Programs on Python 3.14 and newer need neither, if trioflow "
            f"look runs on the same Python; this is {sys.version_info.major}.{sys.version_info.minor}"
        )
    folder = tempfile.mkdtemp(prefix="trioflow-look-")
    script = Path(folder, "script.py")
    requests = [] if request is None else [request]
    text = REMOTE_SCRIPT.format(folder=folder, requests=requests)
    script.write_text(text, encoding="utf-8")
    answer = Path(folder, "answer")
    try:
        with _looking_alone(pid):
            remote_exec(pid, str(script))
            data = _wait_for_file(pid, answer, IDLE_TIMEOUT)
            if data is None:
                _interrupt_wait(pid)
                data = _wait_for_file(pid, answer, REMOTE_TIMEOUT)
    except PermissionError as error:
        shutil.rmtree(folder)
        raise NoAnswer(
            f"no permission to look into process {pid} ({error}): allow tracing, in a container by "
            f"--cap-add=SYS_PTRACE, elsewhere by sysctl kernel.yama.ptrace_scope=0; or {HOW_TO_ASK}"
        ) from None
    except (RuntimeError, OSError, ValueError) as error:
        shutil.rmtree(folder)
        raise NoAnswer(
            f"process {pid} cannot be looked at ({error}): this needs a program on the same Python, "
            f"{sys.version_info.major}.{sys.version_info.minor}; or {HOW_TO_ASK}"
        ) from None
    if data is not None:
        shutil.rmtree(folder)
        return data
    # The script, if it still runs, removes the folder.
    Path(folder, "abandoned").touch()
    raise NoAnswer(
        f"process {pid} does not answer within {REMOTE_TIMEOUT:g} s, because its main thread runs no Python code; "
        f"to look into it then, {HOW_TO_ASK}; {HOW_TO_SEE.format(pid)}"
    )


@contextlib.contextmanager
def _looking_alone(pid: int) -> Generator[None]:
    """Wait until no other command looks into the process, which keeps only the last script that it was given."""
    if sys.platform != "linux":
        yield
        return
    # Only who may trace the process can open this, and so lock it.
    with open(f"/proc/{pid}/environ", "rb") as lock:
        posix.fcntl.flock(lock, posix.fcntl.LOCK_EX)
        yield


def _wait_for_file(pid: int, path: Path, timeout: float) -> bytes | None:
    """Return the content of a file as soon as it exists, or None if it does not exist after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            return path.read_bytes()
        _check_process(pid)
        time.sleep(POLL_INTERVAL)
    return None


def _interrupt_wait(pid: int) -> None:
    """Take the main thread of a process out of its wait for events.

    Python runs the script when the main thread executes Python code, but an idle event loop waits in `epoll_wait`. On
    Linux this call ends when a tracer has stopped the thread for a moment, and Python repeats it. Neither the program
    nor its parent process notices. Most other system calls go on as if nothing had happened.
    """
    if sys.platform != "linux":
        return
    import ctypes

    ptrace = ctypes.CDLL(None).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if ptrace(PTRACE_SEIZE, pid, None, None) < 0:
        return
    if ptrace(PTRACE_INTERRUPT, pid, None, None) >= 0:
        deadline = time.monotonic() + REMOTE_TIMEOUT
        while time.monotonic() < deadline:
            waited_pid, _ = os.waitpid(pid, os.WNOHANG | WAIT_ALL)
            if waited_pid != 0:
                break
            time.sleep(POLL_INTERVAL)
    ptrace(PTRACE_DETACH, pid, None, None)


# ---- the record as text for a terminal

MAX_LINES: Final = 20
MIN_LINES: Final = 3
MAX_NAMES: Final = 5
"""How many lines the running jobs, the waiting ones and the failures of a run have each, how many in a low terminal,
and how many jobs a line names. JSON has more."""
Rows = list[tuple[int, list[str]]]
"""For each line, the number of jobs that it is about, and its cells."""


def text_lines(
    pid: int, record: Record, columns: int | None = None, height: float = math.inf
) -> list[str]:
    """Return the lines of the record of a process: none wider than `columns`, and if possible at most `height`."""
    lines: list[str] = []
    for limit in range(MAX_LINES, MIN_LINES - 1, -1):
        lines = []
        for line in _lines(pid, record, columns, limit):
            lines += _wrap(line, columns)
        if len(lines) <= height:
            break
    return lines


def _wrap(line: str, columns: int | None) -> list[str]:
    if columns is None or display_width(line) <= columns:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    parts = wrap(line, columns, subsequent_indent=indent)
    return [fit(part, columns, measure=display_width) for part in parts]


def _lines(pid: int, record: Record, columns: int | None, limit: int) -> Iterator[str]:
    yield f"process {pid}: {command_text(record)}"
    if not record["runs"]:
        yield "no run is in progress"
    for run in record["runs"]:
        yield ""
        yield from _run_lines(run, columns, limit)


def command_text(record: Record) -> str:
    words = record["command"]
    names = map(os.path.basename, words[:1])
    return printable(shorten(shlex.join([*names, *words[1:]])))


def _run_lines(run: Record, columns: int | None, limit: int) -> Iterator[str]:
    yield printable(f"{run['label']}  {run['verdict']}")
    place = f"on {run['backend']} in {run['thread'] or 'an unknown thread'}"
    line = f"  {place} for {duration_text(run['seconds'])}"
    if run["phase"] != "runs":
        line += f", {run['phase']}{clause(' ({})', run['stop_reason'])}"
    seconds = run.get("left")
    if seconds is not None:
        left = TimeLeft(seconds, bool(run.get("left_is_least")))
        line += f", {estimate_words(left)}"
    yield printable(line)
    if run.get("pause"):
        yield f"  {run['pause']}"
    if run["window"] is not None:
        taken = run["slots_taken"]
        line = f"  window: {plural(run['window'], 'slot')}, {taken} taken"
        if sum(not job["forever"] for job in run["running"]) > taken:
            line += ", a group is one"
        yield line
    for resource in run["resources"][:limit]:
        yield f"  {printable(resource['text'])}"
    more = len(run["resources"][limit:])
    if more:
        yield f"  and {plural(more, 'resource')} more"
    unit, rows = _running_rows(run)
    yield from _section("running", rows, run, columns, limit, f" ({unit})")
    for job in run["running"]:
        question = job.get("question")
        if question is not None and "\n" in question:
            yield f"{printable(shorten(job['path']))} asks:"
            yield from (f"    {line}" for line in printable_lines(question).split("\n"))
    yield from _section("waiting", _waiting_rows(run), run, columns, limit)
    yield from _section("failures", _failure_rows(run), run, columns, limit)


def _section(
    name: str, rows: Rows, run: Record, columns: int | None, limit: int, unit: str = ""
) -> Iterator[str]:
    """Yield a head and aligned lines, and a line with the number of jobs that have none.

    A name before numbers takes at most half of the columns. If a line is still too wide, the last cell of each row gets
    its own line.
    """
    if not rows:
        return
    yield f"{name}{unit}:"
    name_width = math.inf if columns is None or len(rows[0][1]) == 2 else columns // 2
    shown_rows = [[*map(printable, row)] for _, row in rows[:limit]]
    cells = [
        [fit_name(name, name_width, display_width), *others]
        for name, *others in shown_rows
    ]
    # Any others are numbers.
    left_aligned = (0, len(cells[0]) - 1)
    lines = list(align_columns(cells, left_aligned))
    if columns is not None and max(map(display_width, lines)) + 2 > columns:
        heads = align_columns([row[:-1] for row in cells], left_aligned)
        lines = list[str]()
        for head, row in zip(heads, cells, strict=True):
            lines += head, f"    {row[-1]}"
    for line in lines:
        if line.strip():
            yield f"  {line}"
    more = sum(number for number, _ in rows[limit:]) + run["omitted"].get(name, 0)
    if more:
        yield f"  and {plural(more, 'job')} more; --json has up to 1000"


def _running_rows(run: Record) -> tuple[str, Rows]:
    """Return the unit of the times, and the rows."""
    rows: Rows = []
    jobs = sorted(run["running"], key=lambda job: not job["blocks_loop"])
    unit, times = durations_in_column(job["seconds"] for job in jobs)
    for job, seconds in zip(jobs, times, strict=True):
        place = job["command_line"]
        if place is None:
            place = line_text(job["line"])
        remarks = [
            clause("blocks the event loop", job["blocks_loop"]),
            clause("attempt {}", job["attempts"] > 1 and job["attempts"]),
            clause("forever", job["forever"]),
            job["status"],
            place,
        ]
        text = ", ".join(filter(None, remarks))
        rows.append((1, [shorten(job["path"]), seconds, text]))
    return unit, rows


def _group_row(group: Record, text: str) -> tuple[int, list[str]]:
    paths = group["paths"]
    return len(paths), [join_names([*map(shorten, paths)], MAX_NAMES), text]


def _waiting_rows(run: Record) -> Rows:
    return [_group_row(group, group["explanation"]) for group in run["waiting"]]


def _failure_rows(run: Record) -> Rows:
    rows: Rows = []
    for failure in run["failures"]:
        text = f"{failure['headline']}{clause(' at {}', failure['line'])}"
        for tag in ("critical", "tolerated"):
            if failure.get(tag):
                text = f"{tag}: {text}"
        rows.append(_group_row(failure, text))
    return rows
