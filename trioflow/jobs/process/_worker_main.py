"""A worker process: it receives calls through a socket, makes them, and sends back the results.

This file is a separate program that uses only the standard library, so that a worker need not import trioflow. Its
socket replaces its standard input. A message is its length in eight bytes, followed by a pickle. To a worker, eight
bytes with the memory limit of the call follow the length. From a worker, the length is preceded by a byte: whether
this is the answer, or else progress of the call.

With the argument "server", the program is the server of `_fork_server`, and forks the workers, which saves them the
start of an interpreter. It imports no modules of the user's unless the user has named them: the state of a random
generator, a connection or an open file would be shared by all workers.
"""

from __future__ import annotations

import contextlib
import copyreg
import gc
import importlib
import multiprocessing
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types
import warnings
from collections.abc import Callable
from multiprocessing import spawn
from typing import Any, BinaryIO

if sys.platform != "win32":
    import resource

REQUEST_HEADER = struct.Struct("!QQ")
"""The length of a message to a worker, and the memory limit of a call in bytes, or 0."""
ANSWER_HEADER = struct.Struct("!?Q")
PACKED_NUMBER = struct.Struct("!q")
"""A pid, a negative errno of a failed fork, or an exit status."""
UNSAFE_TO_FORK = 0
"""The server's answer, in place of a pid, if it cannot fork safely."""
MAX_MESSAGE_BYTES = 1 << 16
"""The largest size of a message to the server, in bytes."""
THREADS = "/proc/self/task"
MODULE_NAME = "trioflow: where a job is called elsewhere"
"""The name under which `current_job()` finds this module, which runs as a script and is not imported."""
PROGRESS_INTERVAL = 0.01
"""Seconds between two reports of progress; a function may report more often, and some reports are dropped."""


class WorkerCall:
    """The return value of `current_job()` in a worker process: it can report progress, and nothing else."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._next = 0.0
        self._is_over = False

    def progress(self, fraction: float | None = None) -> None:
        """Report that the call is alive, and the fraction of its work that is done; see `AbstractJob.progress`.

        Raises:
            TypeError, ValueError: it is not a number from 0 to 1.
            RuntimeError: the call has ended.

        """
        if fraction is not None:
            if isinstance(fraction, (bool, str)) or not hasattr(fraction, "__float__"):
                raise TypeError(f"fraction={fraction!r}: give a fraction from 0 to 1")
            if not 0 <= fraction <= 1:
                raise ValueError(f"fraction={fraction!r}: give a fraction from 0 to 1, such as 0.4 for 40 %")
        with self._lock:
            if self._is_over:
                raise RuntimeError("progress(): the function of the ProcessJob has ended; call it before")
            now = time.monotonic()
            if now < self._next and fraction != 1:
                return
            self._next = now + PROGRESS_INTERVAL
            send(self._stream, False, pickle.dumps(None if fraction is None else float(fraction)))

    def __getattr__(self, name: str) -> Any:
        """Raise an error with the alternative: the job itself is in another process."""
        raise AttributeError(
            f"current_job().{name}: in the process of a ProcessJob, current_job() can only report progress(); "
            f"give the function what it needs as arguments, or use a ThreadJob"
        )

    def end(self, message: bytes) -> None:
        """Send the answer; progress cannot be reported any more."""
        with self._lock:
            self._is_over = True
            send(self._stream, True, message)


current: WorkerCall | None = None
"""The current call of this process."""


def main() -> None:
    """Serve calls until the other end closes."""
    global current
    if sys.platform == "win32":
        return
    sys.modules[MODULE_NAME] = sys.modules[__name__]
    stream: Any = open_stream()
    if sys.argv[1:] == ["server"]:
        stream = fork_workers(stream)
        if stream is None:
            return
    os.register_at_fork(after_in_child=stream.close)  # a child's copy would keep the socket open when this process dies
    preparation, _ = receive(stream)
    if not preparation:
        return
    prepare(pickle.loads(preparation))
    while (request := receive(stream))[0]:
        current = WorkerCall(stream)
        message = call_and_pickle(*request)
        flush()  # buffers would be lost: this process is killed in the end
        try:
            current.end(message)
        except ConnectionError:  # the controlling program was killed
            return
        current = None


def prepare(preparation: Any) -> None:
    """Set sys.path, sys.argv and the directory, and import the main module, which must not start workers itself."""
    environment = preparation.pop("environment", None)
    if environment and sys.platform != "win32":  # it has changed since the server was started
        os.environb.clear()
        os.environb.update(environment)
    process: Any = multiprocessing.current_process()
    process._inheriting = True  # as multiprocessing does in its own workers
    try:
        spawn.prepare(preparation)
    finally:
        process._inheriting = False


def flush() -> None:
    """Flush the standard streams."""
    for output in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, broken, or an object of the user's
            output.flush()


def open_stream() -> Any:
    """Move the socket away from standard input, which then is empty."""
    socket = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return os.fdopen(socket, "r+b", buffering=0)


def fork_workers(stream: BinaryIO) -> BinaryIO | None:
    """Fork a worker for each socket received; return its stream in each worker, and None here at the end.

    The first message is a pickle of sys.path, the modules to import here, and whether each worker gets its own session.
    Every later message is either empty and brings a socket, with two descriptors if the worker's output has its own
    channel, or is the pid of an exited worker, and is answered with its exit status. Until then that pid is not reused.
    The first message through a worker's socket is its pid.
    """
    if sys.platform == "win32":
        return None
    control = socket.socket(fileno=os.dup(stream.fileno()))
    stream.close()
    path, modules, has_session = pickle.loads(control.recv(MAX_MESSAGE_BYTES))
    sys.path[:] = path
    for name in modules:
        with contextlib.suppress(Exception):  # a function that needs it raises this error in the worker
            importlib.import_module(name)
    flush()  # or each worker would write the buffers, too
    for_children = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, exit statuses would be lost
    clean = can_fork_safely()
    gc.freeze()  # a worker's collector would write to, and so copy, shared pages
    while True:
        try:
            message, received, _, _ = socket.recv_fds(control, MAX_MESSAGE_BYTES, 3)
        except ConnectionError:  # the program has exited without reading the last answer
            break
        if received:
            theirs, *outputs = received
            is_server = fork(theirs, clean)
            for number, output in enumerate(outputs, 1):
                if not is_server:
                    os.dup2(output, number)
                os.close(output)
            if is_server:
                os.close(theirs)
                continue
            control.close()
            signal.signal(signal.SIGCHLD, for_children)
            (os.setsid if has_session else os.setpgrp)()
            worker = os.fdopen(theirs, "r+b", buffering=0)
            with contextlib.suppress(OSError):  # the program has closed its end
                worker.write(PACKED_NUMBER.pack(os.getpid()))
            return worker
        if not message:
            break
        status = os.waitpid(PACKED_NUMBER.unpack(message)[0], 0)[1]
        with contextlib.suppress(ConnectionError):
            control.send(PACKED_NUMBER.pack(status))
    with contextlib.suppress(ChildProcessError):
        while True:  # unclaimed workers exit at the end of their socket
            os.wait()
    return None


def fork(theirs: int, clean: bool) -> bool:
    """Fork a process, or send the error through its socket; return whether this is still the server."""
    if sys.platform == "win32":
        return True
    status = UNSAFE_TO_FORK
    if clean:
        try:
            if not os.fork():
                return False
        except OSError as error:
            status = -(error.errno or 1)
        else:
            return True
    with contextlib.suppress(OSError):  # the program has closed its end
        os.write(theirs, PACKED_NUMBER.pack(status))
    return True


def can_fork_safely() -> bool:
    """Return whether this process has no other threads at a fork: a lock held by one would stay locked in the child.

    Some libraries, such as OpenBLAS, end their threads before a fork. So this forks once, and then counts threads.
    """
    if sys.platform == "win32":
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # raised since Python 3.12 if there are threads
        child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    try:
        return len(os.listdir(THREADS)) == 1
    except OSError:
        return False


def receive(stream: BinaryIO) -> tuple[bytes, int]:
    """Return the next message and the memory limit of its call; an empty message at the end."""
    if not (header := read_exactly(stream, REQUEST_HEADER.size)):
        return b"", 0
    length, memory = REQUEST_HEADER.unpack(header)
    return read_exactly(stream, length), memory


def read_exactly(stream: BinaryIO, size: int) -> bytes:
    """Read exactly `size` bytes; return nothing at the end."""
    pieces: list[bytes] = []
    while size:
        try:
            piece = stream.read(min(size, 1 << 20))
        except ConnectionError:  # the program has exited without reading the last answer
            piece = b""
        if not piece:
            return b""
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def send(stream: BinaryIO, is_answer: bool, message: bytes) -> None:
    """Send a message."""
    stream.write(ANSWER_HEADER.pack(is_answer, len(message)) + message)
    stream.flush()


def pack(message: bytes, memory: int = 0) -> bytes:
    """Return a message to a worker with its header."""
    return REQUEST_HEADER.pack(len(message), memory) + message


class Limited:
    """Limits the address space of this process, and of processes that it starts, in a block.

    `contextlib` is not used because it writes to passing exceptions, and so changes exceptions of a frozen type.

    Args:
        memory: bytes; 0 for no limit.

    """

    def __init__(self, memory: int) -> None:
        self._memory = memory

    def __enter__(self) -> None:
        """Set the limit."""
        if self._memory and sys.platform != "win32":
            self._before = resource.getrlimit(resource.RLIMIT_AS)
            hard = self._before[1]
            most = self._memory if hard == resource.RLIM_INFINITY else min(self._memory, hard)
            resource.setrlimit(resource.RLIMIT_AS, (most, hard))

    def __exit__(self, *_: object) -> None:
        """Restore the limit."""
        if self._memory and sys.platform != "win32":
            resource.setrlimit(resource.RLIMIT_AS, self._before)


class Variables:
    """Sets environment variables during a call."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._variables = variables
        self._before = {name: os.environ.get(name) for name in variables}

    def __enter__(self) -> None:
        os.environ.update(self._variables)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def call_and_pickle(request: bytes, memory: int = 0) -> bytes:
    """Make a call, and return a pickle of whether it returned, the value or exception, and a note.

    Args:
        request: a pickle of the function and its arguments.
        memory: bytes of address space for the call; 0 for no limit.

    """
    try:
        with Limited(memory):
            function, args, keywords, variables = pickle.loads(request)
    except BaseException as error:
        return pickle_error(
            error, f"in a worker process, which could not load the function or an argument: {safe_text(repr, error)}"
        )
    try:
        with Limited(memory), Variables(variables):
            value = function(*args, **keywords)
    except BaseException as error:
        frames = error.__traceback__ and error.__traceback__.tb_next  # leave out this frame
        trace = "".join(traceback.format_exception(type(error), error, frames)).rstrip()
        return pickle_error(error, f"in a worker process:\n{trace}")
    return pickle_value(value, function)


def pickle_value(value: Any, function: Callable[..., Any]) -> bytes:
    """Return the answer with a value, or with an error if it cannot be pickled."""
    try:
        return pickle.dumps((True, value, ""), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        name = getattr(function, "__qualname__", repr(function))
        kind, why = type(value).__qualname__, safe_text(str, error)
        what = f"{name} returned a {kind}, which cannot be pickled to be sent back: {why}"
        return pickle_error(TypeError(what), "")


def pickle_error(error: BaseException, note: str) -> bytes:
    """Return the answer with an exception, in the form of `make_portable`."""
    return pickle.dumps((False, make_portable(error), note), pickle.HIGHEST_PROTOCOL)


# ---- exceptions. A pickle of one is a call of its type with its `args`, which is wrong for all that have an `__init__`
# with other arguments: they cannot be loaded, or are changed.


def make_portable(error: BaseException) -> bytes | tuple[Any, ...]:
    """Return an exception in the form that `rebuild` takes: it keeps its type, if that can be imported by name.

    An exception with its own pickling is pickled. Any other becomes its type, arguments, attributes, the members of a
    group, and the names of the parts that cannot be pickled.
    """
    kind: type[BaseException] = type(error)
    is_group = isinstance(error, BaseExceptionGroup)
    try:
        if kind in copyreg.dispatch_table or not (is_builtin(kind.__reduce__) and is_builtin(kind.__reduce_ex__)):
            return pickle_loadable(error)
        pickle_loadable(kind)
        reduced: Any = error.__reduce__()
        members: Any = reduced[1][1] if is_group else None
        args: Any = reduced[1] if members is None else reduced[1][:1]  # a group has its message and its members
        lost: list[str] = []
        args = tuple(
            arg if is_sendable(arg, f"argument {number}", lost) else safe_text(repr, arg)
            for number, arg in enumerate(args, 1)
        )
        state: dict[str, Any] = {**slot_attributes(error), **(reduced[2] if len(reduced) > 2 else {})}
        attributes = {name: value for name, value in state.items() if is_sendable(value, f"attribute {name!r}", lost)}
        parts: tuple[Any, ...] = kind, args, attributes, members and tuple(map(make_portable, members)), lost
        if type(rebuild(parts)) is not kind:
            raise TypeError
    except Exception:
        return pickle_loadable(RuntimeError(f"{kind.__qualname__}: {safe_text(str, error)}"))
    return parts


def is_builtin(method: Any) -> bool:
    """Return whether a method of a type is built in, not written in Python."""
    return hasattr(method, "__objclass__")


def slot_attributes(error: BaseException) -> dict[str, Any]:
    """Return the attributes of an exception that are in slots, which its own `__reduce__` leaves out."""
    slotted = (vars(base) for base in type(error).__mro__ if "__slots__" in vars(base))
    names = (name for own in slotted for name, what in own.items() if isinstance(what, types.MemberDescriptorType))
    return {name: getattr(error, name) for name in names if hasattr(error, name)}


def safe_text(convert: Callable[[Any], str], value: Any) -> str:
    """Return `str` or `repr` of a value, or a note that it raises."""
    try:
        return convert(value)
    except Exception as error:
        return f"<its __{convert.__name__}__ raised {type(error).__name__}>"


def is_sendable(value: Any, what: str, lost: list[str]) -> bool:
    """Return whether a value can be pickled; otherwise add `what` to the lost parts."""
    try:
        pickle_loadable(value)
    except Exception:
        lost.append(what)
        return False
    return True


def pickle_loadable(value: Any) -> bytes:
    """Return a pickle that can be loaded: some values can be pickled but not unpickled."""
    pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    pickle.loads(pickled)
    return pickled


def rebuild(parts: bytes | tuple[Any, ...]) -> BaseException:
    """Return the exception that `make_portable` has packed."""
    if isinstance(parts, bytes):
        loaded: BaseException = pickle.loads(parts)
        return loaded
    kind, args, attributes, members, lost = parts
    if members is not None:
        args = *args, [rebuild(member) for member in members]
    builtin: Any = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    error: BaseException = builtin.__new__(kind, *args)
    with contextlib.suppress(Exception):  # it takes other arguments, and its state is in its attributes
        builtin.__init__(error, *args)
    for name, value in attributes.items():
        object.__setattr__(error, name, value)  # works even for a frozen type
    for what in lost:
        add_note(error, f"it came from a worker process without its {what}, which cannot be pickled")
    return error


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, unless its type does not allow it."""
    with contextlib.suppress(Exception):
        error.add_note(note)


if __name__ == "__main__":
    main()
