"""The answer of a program to `trioflow look`: from a thread, so that it also answers while a job blocks the event loop.

A program that has called `trioflow.look.enable()`, or has the environment variable TRIOFLOW_LOOK, answers on a socket
whose name contains the number of its process. A client sends nothing, or a request as JSON, and ends its side. If the
kernel reports the same user at the other end, the client gets a space as soon as its request was read, and then the
record of the process, or the answer to its request, as JSON. Another user gets nothing, and a pause. From Python 3.14
on, `trioflow look` needs no socket: it lets the program call `answer_in_file`.

On Linux the socket is in the abstract namespace: it has no file that another user could replace, or that a killed
program would leave behind. Elsewhere, it is a file in the user's directory for temporary files.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import importlib
import os
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from ... import _posix as posix
from ..._core.base._logger import warn
from ..._core.run._run import BEGIN_HOOKS, Run
from ..._core.words._run_view import RunInProgress, runs_in_progress

if TYPE_CHECKING:
    # Imported at the first question, which few programs are asked.
    from ._process_record import Record

SEND_TIMEOUT: Final = 10.0
REQUEST_TIMEOUT: Final = 1.0
"""How long, in seconds, a client may take to read the answer, and to send its request."""
RECEIVED: Final = b" "
"""The prefix of an answer in JSON: if the program then ends instead of answering, it has received the request."""
BACKLOG: Final = 16
STRANGER_PAUSE: Final = 0.01
"""The pause, in seconds, after a connection of another user: a loop of them would take 40 % of a core otherwise."""
MAX_REQUEST_SIZE: Final = 1 << 16
MAX_TRIES: Final = 3
PIECE: Final = 50
"""How many items of a list are encoded at once: the event loop waits meanwhile for the lock of Python."""
WATCH_INTERVAL: Final = 1.0
"""How long, in seconds, who watches a run waits for changes, and a program at its end for those who watch."""
FIRST_INTERVAL: Final = 0.1
"""How long, in seconds, who watches waits for a run to begin: most of a short run would be over after a second."""
ABANDONED_AFTER: Final = 10.0
"""How long, in seconds, a run is kept for a page that does not ask any more."""
CLIENT_THREAD: Final = "trioflow look, client"


def socket_address(pid: int) -> str:
    """Return the address of the socket where a process answers."""
    name = f"trioflow-look-{pid}"
    if sys.platform == "linux":
        return f"\0{name}"
    import tempfile

    return os.path.join(tempfile.gettempdir(), f"{name}.sock")


def _free_address() -> str:
    """Return the address of this process, where no file is left."""
    address = socket_address(os.getpid())
    if not address.startswith("\0"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address)
    return address


def peer_of(connection: socket.socket) -> tuple[int | None, int | None]:
    """Return the process and the user at the other end of a connection, or None if the system does not tell."""
    if sys.platform != "linux":
        return None, None
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, user, _ = struct.unpack("3i", data)
    return pid, user


class AnswerThread:
    """The thread that answers, from `start` to `stop`. Starting it twice has no effect."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        # The process that has the thread.
        self._pid = 0
        self.may_steer = True

    def start(self) -> bool:
        """Start to answer. Return False if the thread runs already.

        Raises:
            NotImplementedError: the system has no Unix sockets.
            OSError: the socket cannot be created.

        """
        with self._lock:
            if self.is_running():
                return False
            posix.require(
                "trioflow.look.enable()",
                "use Python 3.14 or newer, where it is not needed",
            )
            address = _free_address()
            listener = socket.socket(posix.AF_UNIX)
            self._thread = threading.Thread(
                target=self._answer_all,
                args=[listener],
                name="trioflow look",
                daemon=True,
            )
            try:
                listener.bind(address)
                if not address.startswith("\0"):
                    # Nobody can connect yet.
                    os.chmod(address, 0o600)
                listener.listen(BACKLOG)
                self._listener = listener
                self._pid = os.getpid()
                self._thread.start()
            except (OSError, RuntimeError) as error:
                # The address is taken, or there are too many processes.
                self._pid = 0
                listener.close()
                raise OSError(
                    getattr(error, "errno", errno.EAGAIN),
                    str(getattr(error, "strerror", error)),
                ) from None
            return True

    def is_running(self) -> bool:
        # A forked process has the socket, but not the thread, of its parent.
        return self._pid == os.getpid()

    def stop(self) -> None:
        """Stop to answer, and wait until the thread has ended."""
        self.finish()
        with self._lock:
            if not self.is_running():
                return
            self._pid = 0
            with contextlib.suppress(OSError):
                # Lets `accept` raise.
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._thread.join()
            _free_address()

    def _answer_all(self, listener: socket.socket) -> None:
        seconds: float | None = None
        while True:
            try:
                # `stop` may close the listener at any time.
                listener.settimeout(seconds)
                connection, _ = listener.accept()
            except TimeoutError:
                seconds = forget_abandoned()
                continue
            except OSError:
                if self._pid == 0:
                    return
                # The process has too many files open.
                time.sleep(FIRST_INTERVAL)
                continue
            if peer_of(connection)[1] not in (None, posix.geteuid()):
                connection.close()
                time.sleep(STRANGER_PAUSE)
                continue
            # This client may be a page.
            seconds = forget_abandoned() or ABANDONED_AFTER
            # Each has its own thread, so that none waits while a job blocks the loop that another client wants to
            # steer.
            thread = threading.Thread(
                target=_answer_client,
                args=(connection,),
                name=CLIENT_THREAD,
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError:
                # There are too many processes.
                connection.close()

    def finish(self) -> None:
        """Before the program ends, tell pages how their runs have ended, and send answers. Wait a second at most."""
        global is_ending
        if not self.is_running():
            return
        deadline = time.monotonic() + WATCH_INTERVAL
        with watching:
            is_ending = True
            watching.notify_all()
            watching.wait_for(
                lambda: not any(map(_awaits_end, watches.values())), WATCH_INTERVAL
            )
            is_ending = False
            while watches:
                _, watch = watches.popitem()
                watch.close()
        for thread in threading.enumerate():
            if thread.name == CLIENT_THREAD:
                # It sends its answer.
                with contextlib.suppress(RuntimeError):
                    # `enumerate` has threads that have not started yet, too.
                    thread.join(max(0.0, deadline - time.monotonic()))


def _answer_client(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        pid, _ = peer_of(connection)
        request = _read_request(connection)
        connection.settimeout(SEND_TIMEOUT)
        connection.sendall(RECEIVED)
        for piece in answer(request, pid):
            connection.sendall(piece)


def _read_request(connection: socket.socket) -> Any:
    """Return the request of a client, or None if it sends none.

    Raises:
        OSError: it takes too long.

    """
    connection.settimeout(REQUEST_TIMEOUT)
    data = bytearray()
    while len(data) < MAX_REQUEST_SIZE:
        part = connection.recv(MAX_REQUEST_SIZE)
        if not part:
            break
        data += part
    # At the first question, as the modules that make the answer.
    import json

    try:
        return json.loads(data or b"null")
    except (ValueError, RecursionError):
        return {}


def answer(request: Any = None, pid: int | None = None) -> Iterator[bytes]:
    """Yield the answer to a client of the same user as JSON. An error is an object with its text.

    Args:
        request: the request of the client, or None for the record of this process.
        pid: the process that asks, if the system tells.

    """
    if request is not None:
        return _encode(_handle(request, pid))
    from ._process_record import describe_process

    return _encode(_try_again(describe_process))


def _encode(made: Record) -> Iterator[bytes]:
    """Yield an answer as JSON in pieces. Other threads run between the pieces."""
    import json

    encode = json.JSONEncoder(default=str, separators=(",", ":")).encode
    for number, (name, value) in enumerate(made.items()):
        separator = "," if number else "{"
        yield f"{separator}{encode(name)}:".encode()
        if not isinstance(value, list):
            yield encode(value).encode()
            continue
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        yield b"["
        for start in range(0, len(items), PIECE):
            separator = "," if start else ""
            yield f"{separator}{encode(items[start : start + PIECE])[1:-1]}".encode()
        yield b"]"
    yield b"}"


def _try_again(make: Callable[[], Record]) -> Record:
    """Return the value of a function of a run in progress, or an object with the error."""
    problem = ""
    for _ in range(MAX_TRIES):
        try:
            return make()
        except Exception as error:
            # The run may have changed a dict during an iteration.
            problem = f"{type(error).__name__}: {error}"
    return {"error": problem}


def _handle(received: object, pid: int | None) -> Record:
    request: Record = received if isinstance(received, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    # It has to be the first of all that is done at the end.
    atexit.unregister(answer_thread.finish)
    atexit.register(answer_thread.finish)
    try:
        if "do" in request:
            return {"done": _steer(request, pid)}
        if "detail" in request:
            return dict(_seen_watch(request).describe_one(request["detail"]))
        if "watch" in request:
            return _tell_changes(request)
    except ValueError as error:
        return {"error": str(error)}
    except (LookupError, TypeError):
        pass
    except Exception as error:
        # A page asks again and again.
        kind = type(error)
        if kind not in logged_kinds:
            logged_kinds.add(kind)
            warn("a question of `trioflow look` or `steer` has no answer", error)
        problem = "it has failed to answer, and its log says where"
        return {"error": f"{problem}: {kind.__name__}: {error}"}
    return {"error": "it does not understand the request"}


def _steer(request: Record, pid: int | None) -> str:
    from ._steering import steer

    global steered_count
    if not answer_thread.may_steer:
        raise ValueError(
            "it refuses to be steered, because it has called trioflow.look.enable(steer=False)"
        )
    who = f"pid {pid or request.get('pid')}, user {user_name(posix.geteuid())}"
    by = f"trioflow steer, {who}"
    if request.get("page") is True:
        by = f"trioflow look, {who}, on its page"
    action = str(request.get("do"))
    target = request.get("run")
    value = request.get("value")
    job = seen = None
    if "seen" not in request:
        run = _choose_run(request)
    else:
        # A page names the run that it shows.
        seen = [*map(str, request.get("marks") or ())]
        watch = _seen_watch(request)
        run = watch.in_progress
        target = None
        if run.has_ended():
            raise ValueError("the run that the page shows has ended")
        if isinstance(value, list):
            # The keys are keys of failed jobs.
            keys: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
            value = [watch.find(each, has_settled=True) for each in keys]
        elif request.get("job") is not None:
            # Of a question that is gone, it is told how it was answered.
            has_settled = None if action == "answer" else False
            job = watch.find(request["job"], has_settled)
    done = steer(run, action, value, by, target, job, seen)
    with watching:
        steered_count += 1
        watching.notify_all()
    return done


# The numbers of runs whose label another run had at the same time, by their schedulers. None is given twice.
_numbers: Final[WeakKeyDictionary[Any, int]] = WeakKeyDictionary()
_last_numbers: Final[Counter[str]] = Counter()


def _names_of_runs(runs: Sequence[RunInProgress]) -> dict[Any, str]:
    """Return a name for the scheduler of each run: its label, with a number if several have it, as in a server.

    The number stays: a name that has meant one run never means another.
    """
    labels = Counter(run.scheduler.label for run in runs)
    names: dict[Any, str] = {}
    for run in runs:
        label = run.scheduler.label
        if labels[label] > 1 and run.scheduler not in _numbers:
            _last_numbers[label] += 1
            _numbers[run.scheduler] = _last_numbers[label]
        number = _numbers.get(run.scheduler)
        names[run.scheduler] = label if number is None else f"{label}#{number}"
    return names


def _choose_run(request: Record) -> RunInProgress:
    """Return the run in progress that a request means, or that a page has shown before it was forgotten.

    Raises:
        ValueError: there is not one such run.

    """
    runs = runs_in_progress()
    label = request.get("run")
    if "began" in request:
        runs = [run for run in runs if run.began_at == request["began"]]
        if not runs:
            raise ValueError("the run has ended")
    if not runs:
        raise ValueError("no run is in progress")
    names = _names_of_runs(runs)
    chosen = [
        run
        for run in runs
        if label in (None, run.scheduler.label, names[run.scheduler])
    ]
    if not chosen and request.get("do") == "window":
        # The window may be a nested scheduler's, at this path in the only run.
        chosen = runs
    if request.get("do") == "reload":
        # A reload is of the process, so the loop of any run will do.
        chosen = runs[:1]
    if len(chosen) != 1:
        labels = ", ".join(map(repr, names.values()))
        raise ValueError(f"choose a run by --run LABEL: in progress are {labels}")
    return chosen[0]


# ---- pages that watch a run

watches: Final[dict[str, Any]] = {}
"""The `Watch` of each looking process that shows a page, by the key that it has chosen."""
watching: Final = threading.Condition()
"""Guards `watches`, and is notified when a run was steered, when its end was told, and when the program ends."""
expected: Final[dict[str, tuple[Any, float]]] = {}
"""The keys of pages that have come before their run, with its label, if they have named it, and when they asked."""
announcements: Final[dict[str, Callable[[], None]]] = {}
"""Functions to call when the runs of expected pages begin, by the keys of the pages."""
logged_kinds: Final[set[type[Exception]]] = set()
"""The types of errors that are in the log, as they kept a question from its answer."""
steered_count = 0
is_ending = False


def _tell_changes(request: Record) -> Record:
    """Return the changes in a run since the last answer. Wait for changes, except for the first answer.

    Raises:
        ValueError: there is not one such run.

    """
    # The trace, which only pages need.
    from ._watch import Watch

    with watching:
        key = str(request["watch"])
        watch: Watch | None = watches.get(key)
        if watch is None and not request.get("number") and not runs_in_progress():
            # Who looks has come first.
            expect_page(key, request.get("run"))
            watching.wait(FIRST_INTERVAL)
            return {"number": 0}
        if watch is not None and watch.number != request.get("number"):
            # An answer was lost.
            watch.close()
            watch = watches[key] = Watch(watch.in_progress)
        elif watch is None:
            watch = watches[key] = Watch(_choose_run(request))
        elif watch.number and not watch.has_more:
            watch.asked_at = time.monotonic()
            count = steered_count
            watching.wait_for(
                lambda: is_ending or steered_count != count, WATCH_INTERVAL
            )
        if watch.in_progress.has_ended():
            for run in runs_in_progress():
                if run.scheduler is watch.in_progress.scheduler:
                    # Its jobs are those of a later run now.
                    watch.close()
                    watch = watches[key] = Watch(run)
        watch.asked_at = time.monotonic()
    # Not `watching`, which the end of the program and those who steer take.
    with watch.lock:
        answer = _try_again(watch.answer)
    with watching:
        watch.asked_at = time.monotonic()
        watching.notify_all()
    return {**answer, "may_steer": answer_thread.may_steer}


def expect_page(key: str, label: object = None) -> None:
    """Let a page watch the next run from its begin: a short run would be over before the page asks again."""
    # No run has to wait for it then.
    importlib.import_module("._watch", __package__)

    expected[key] = label, time.monotonic()
    BEGIN_HOOKS[_watch_for_pages] = None


def _watch_for_pages(run: Run) -> None:
    from ._watch import Watch

    with watching:
        for key, (label, asked_at) in list(expected.items()):
            if label in (None, run.scheduler.label):
                del expected[key]
                announcements.pop(key, lambda: None)()
                is_abandoned = time.monotonic() >= asked_at + ABANDONED_AFTER
                if answer_thread.is_running() and not is_abandoned:
                    watches.setdefault(key, Watch(RunInProgress(run)))


def forget_abandoned() -> float | None:
    """Forget the runs of pages that do not ask any more. Return when to look again, in seconds, or None for never."""
    with watching:
        now = time.monotonic()
        remaining = list[float]()
        for key, watch in list(watches.items()):
            patience = 2 * WATCH_INTERVAL if watch.is_over else ABANDONED_AFTER
            seconds = watch.asked_at + patience - now
            if seconds < 0:
                watches.pop(key).close()
            else:
                remaining.append(seconds)
        if not remaining:
            return None
        return max(FIRST_INTERVAL, min(remaining))


def _seen_watch(request: Record) -> Any:
    """Return the watch that a page means, with the run and the keys of jobs that it shows.

    Raises:
        ValueError: the page shows another run, or the facts that it has seen were sent anew since.

    """
    watch = watches.get(str(request["watch"]))
    if watch is None or watch.identity != request.get("seen"):
        raise ValueError("the page shows what is not so any more: look again")
    return watch


def _awaits_end(watch: Any) -> bool:
    """Return whether a page will ask again, and does not know yet how its run has ended."""
    return not watch.is_over and time.monotonic() < watch.asked_at + 2 * WATCH_INTERVAL


def user_name(number: int) -> str:
    """Return the name of a user, or the number if the system has none for it."""
    try:
        return str(importlib.import_module("pwd").getpwuid(number).pw_name)
    except (ImportError, KeyError):
        return str(number)


def answer_in_file(path: str, request: object = None) -> None:
    """Write the answer to a file, which appears when it is complete. A page then asks at the socket."""
    if isinstance(request, dict) and "watch" in request:
        start_or_warn()
    with open(f"{path}.part", "wb") as file:
        file.writelines(answer(request))
    os.replace(f"{path}.part", path)


answer_thread: Final = AnswerThread()


def start_or_warn() -> None:
    """Start to answer. If the system cannot, log it once."""
    global has_warned
    try:
        answer_thread.start()
    except (NotImplementedError, OSError) as error:
        if not has_warned:
            warn(f"`trioflow look` cannot look into this program: {error}")
        has_warned = True


has_warned = False


@contextlib.contextmanager
def answering() -> Generator[None]:
    """Answer during the body of the `with` statement, if the system can."""
    is_started = False
    with contextlib.suppress(NotImplementedError, OSError):
        is_started = answer_thread.start()
    try:
        yield
    finally:
        if is_started:
            answer_thread.stop()
