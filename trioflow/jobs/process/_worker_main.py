"""The program of a worker process, which receives calls through a socket, makes them, and sends back the results.

The program uses only the standard library, so that a worker need not import trioflow. The socket is its standard input.
A message to a worker consists of the length of a pickle in eight bytes, the memory limit of the call in eight bytes,
and the pickle. A message from a worker consists of a byte, which is 1 for an answer and 0 for a progress report, the
length of a pickle in eight bytes, and the pickle. The first message is an answer: the program is imported. The
first progress report of a call says that it is loaded, with all modules that it needs: its function is called next.
Both have the stamps of the program's files that were imported for them, so that other texts are noticed.
"""

from __future__ import annotations

import binascii
import contextlib
import gc
import linecache
import os
import pickle
import struct
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable
from multiprocessing import current_process, spawn
from typing import Any, BinaryIO

if sys.platform != "win32":
    import resource

REQUEST_HEADER = struct.Struct("!QQ")
ANSWER_HEADER = struct.Struct("!?Q")
"""The headers of a message to a worker and from it: the length of the pickle and the memory limit of the call, or 0;
whether it is an answer, and the length."""
REMOTE_JOB_MODULE = "trioflow: where a job is called elsewhere"
"""The key under which `current_job()` finds this module in `sys.modules`. A script is not listed there by its name."""
MAX_JOINED_BYTES = 1 << 16
"""How many bytes of a message are copied behind its header, so that a single system call sends a short message."""
PROGRESS_INTERVAL = 0.01
"""The minimum time between two progress reports, in seconds. Earlier reports are dropped, unless the fraction is 1."""


class WorkerCall:
    """A call of a function in this worker process. `current_job()` returns it, so the function can report progress."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._next_report_at = 0.0
        self._is_over = False

    def progress(self, fraction: float | None = None) -> None:
        """Report progress, and the fraction of the call's work that is done. See `AbstractJob.progress`.

        Raises:
            TypeError, ValueError: the fraction is not a number from 0 to 1.
            RuntimeError: the call has ended.

        """
        if fraction is not None:
            if isinstance(fraction, (bool, str)) or not hasattr(fraction, "__float__"):
                raise TypeError(f"fraction={fraction!r}: give a fraction from 0 to 1")
            if not 0 <= fraction <= 1:
                raise ValueError(
                    f"fraction={fraction!r}: give a fraction from 0 to 1, such as 0.4 for 40 %"
                )
        with self._lock:
            if self._is_over:
                raise RuntimeError(
                    "progress(): the function of the ProcessJob has ended; call it while it runs"
                )
            now = time.monotonic()
            if now < self._next_report_at and fraction != 1:
                return
            self._next_report_at = now + PROGRESS_INTERVAL
            if fraction is not None:
                fraction = float(fraction)
            send_message(self._stream, False, pickle.dumps(fraction))

    def __getattr__(self, name: str) -> Any:
        """Raise an error for any other attribute of a job, because the job itself is in another process."""
        raise AttributeError(
            f"current_job().{name}: in the process of a ProcessJob, current_job() can only report progress(); "
            f"give the function what it needs as arguments, or use a ThreadJob"
        )

    def report_loaded(self) -> None:
        """Say that the call is loaded, so that its time begins."""
        send_message(self._stream, False, stamps_of_new_files())

    def send_answer(self, message: bytes) -> None:
        """Send the answer of the call. After that, the call can no longer report progress."""
        with self._lock:
            self._is_over = True
            send_message(self._stream, True, message)


own_files: set[str] = set()
"""The files of the program whose texts it knows, and that this process has not imported."""
module_count = 0
looked_at = time.time()
"""The number of modules when files were last looked for, and when that was."""


def stamp_of_text(text: bytes) -> tuple[int, int]:
    return len(text), binascii.crc32(text)


def stamps_of_new_files() -> bytes:
    """Return a pickle of the stamps of the program's files that were imported since the last call, or no bytes.

    From then on, tracebacks quote the texts that were imported, whatever the files say. A file that has been saved
    since the import began may have another text by now: it has no stamp, and is not quoted.
    """
    global module_count, looked_at
    since = looked_at
    looked_at = time.time()
    if module_count == len(sys.modules) or not own_files:
        return b""
    module_count = len(sys.modules)
    found: dict[str, tuple[int, int]] = {}
    for module in [*sys.modules.values()]:
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str) and file in own_files:
            own_files.discard(file)
            with contextlib.suppress(OSError), open(file, "rb") as opened:
                text = opened.read()
                is_certain = os.fstat(opened.fileno()).st_mtime < since
                lines = list[str]()
                if is_certain:
                    found[file] = stamp_of_text(text)
                    lines = linecache.getlines(file)
                # Without a time, `linecache.checkcache` leaves an entry alone.
                linecache.cache[file] = len(text), None, lines, file
    if not found:
        return b""
    return pickle.dumps(found)


current_call: WorkerCall | None = None


def main() -> None:
    """Serve calls until the other end of the socket is closed."""
    global current_call
    if sys.platform == "win32":
        return
    sys.modules[REMOTE_JOB_MODULE] = sys.modules[__name__]
    stream: Any = take_over_stdin()
    # Otherwise, a child would keep the socket open after the death of this process.
    os.register_at_fork(after_in_child=stream.close)
    preparation, _ = receive_request(stream)
    if not preparation:
        return
    data = pickle.loads(preparation)
    prepare_process(data)
    own_files.update(data.get("own_files", ()))
    with contextlib.suppress(ConnectionError):
        # The controlling program was killed.
        send_message(stream, True, stamps_of_new_files())
    while (request := receive_request(stream))[0]:
        current_call = WorkerCall(stream)
        message = call_and_pickle(*request, current_call.report_loaded)
        # Not left to the exit of the interpreter, which comes late.
        flush_output()
        try:
            current_call.send_answer(message)
        except ConnectionError:
            # The controlling program was killed.
            return
        current_call = None
    # The exit of the interpreter looks for no garbage, which takes most of its 14 ms.
    gc.freeze()


def prepare_process(preparation: dict[str, Any]) -> None:
    """Copy sys.path, sys.argv, the directory and the main module of the controlling program to this process.

    Args:
        preparation: the data from `multiprocessing.spawn.get_preparation_data`, and the program's name for its main
            module.

    """
    process: Any = current_process()
    # The main module is imported as in multiprocessing's own workers:
    # https://github.com/python/cpython/blob/v3.11.7/Lib/multiprocessing/spawn.py#L128.
    process._inheriting = True
    try:
        spawn.prepare(preparation)
    finally:
        process._inheriting = False
    sys.modules.setdefault(
        preparation.get("main_name", "__main__"), sys.modules["__main__"]
    )


def flush_output() -> None:
    for output in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            # The stream is closed or broken, or the user has replaced it.
            output.flush()


def take_over_stdin() -> Any:
    """Return a stream for the socket that is standard input, and replace standard input by an empty file."""
    socket_descriptor = os.dup(0)
    null_descriptor = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_descriptor, 0)
    os.close(null_descriptor)
    return os.fdopen(socket_descriptor, "r+b", buffering=0)


def receive_request(stream: object) -> tuple[bytearray, int]:
    """Receive the next message, and return it with the memory limit of its call.

    If the other end has closed the connection, return an empty message and 0.
    """
    header = read_exactly(stream, REQUEST_HEADER.size)
    if not header:
        return header, 0
    length, memory_limit = REQUEST_HEADER.unpack(header)
    return read_exactly(stream, length), memory_limit


def read_exactly(stream: Any, size: int) -> bytearray:
    """Read exactly `size` bytes from a raw stream. Return no bytes if the stream ends before that."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        try:
            count = stream.readinto(view)
        except ConnectionError:
            # The program has exited without reading the last answer.
            count = 0
        if not count:
            return bytearray()
        view = view[count:]
    return data


def send_message(stream: BinaryIO, is_answer: bool, message: bytes) -> None:
    write_all(
        stream, ANSWER_HEADER.pack(is_answer, len(message)) + message[:MAX_JOINED_BYTES]
    )
    write_all(stream, memoryview(message)[MAX_JOINED_BYTES:])


def write_all(stream: BinaryIO, data: bytes | memoryview) -> None:
    """Write all data to a raw stream. Each write takes a part, at most 2 GiB on Linux."""
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


class MemoryLimit:
    """A context manager that limits the address space of this process, and of processes that it starts.

    This is a class because `contextlib.contextmanager` sets attributes of exceptions that pass through, and so fails
    for exceptions of a frozen type.

    Args:
        byte_count: the limit in bytes, or 0 for no limit.

    """

    def __init__(self, byte_count: int) -> None:
        self._byte_count = byte_count

    def __enter__(self) -> None:
        if self._byte_count and sys.platform != "win32":
            self._original_limits = resource.getrlimit(resource.RLIMIT_AS)
            hard_limit = self._original_limits[1]
            if hard_limit == resource.RLIM_INFINITY:
                soft_limit = self._byte_count
            else:
                soft_limit = min(self._byte_count, hard_limit)
            resource.setrlimit(resource.RLIMIT_AS, (soft_limit, hard_limit))

    def __exit__(self, *_: object) -> None:
        if self._byte_count and sys.platform != "win32":
            resource.setrlimit(resource.RLIMIT_AS, self._original_limits)


class EnvironmentVariables:
    """A context manager that sets environment variables during a call."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._variables = variables
        self._original_values = {name: os.environ.get(name) for name in variables}

    def __enter__(self) -> None:
        os.environ.update(self._variables)

    def __exit__(self, *_: object) -> None:
        for name, value in self._original_values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def call_and_pickle(
    request: bytes | bytearray,
    memory_limit: int = 0,
    report_loaded: Callable[[], object] = lambda: None,
) -> bytes:
    """Make a call, and return a pickle of three values: whether the call returned, its value or exception, and a note.

    Args:
        request: a pickle of the function, its arguments, and the environment variables for the call.
        memory_limit: the limit on the address space during the call, in bytes, or 0 for no limit.
        report_loaded: called when the request is unpickled, which imports the modules that it names.

    """
    try:
        with MemoryLimit(memory_limit):
            function, args, kwargs, variables = pickle.loads(request)
    except BaseException as error:
        return pickle_error(
            error,
            f"in a worker process, which could not load the function or an argument: {safe_text(repr, error)}",
        )
    with contextlib.suppress(ConnectionError):
        # The controlling program was killed, which `main` notices.
        report_loaded()
    try:
        with MemoryLimit(memory_limit), EnvironmentVariables(variables):
            value = function(*args, **kwargs)
    except BaseException as error:
        # The class may have an attribute so named.
        frames: Any = vars(BaseException)["__traceback__"].__get__(error)
        # Without the frame of this function.
        frames = frames and frames.tb_next
        try:
            traceback_text = "".join(
                traceback.format_exception(type(error), error, frames)
            ).rstrip()
        except Exception:
            # From the code of the exception's class.
            traceback_text = "".join(traceback.format_tb(frames)).rstrip()
        return pickle_error(error, f"in a worker process:\n{traceback_text}")
    return pickle_return_value(value, function)


def pickle_return_value(value: object, function: Callable[..., Any]) -> bytes:
    """Return the pickled answer with a function's return value, or with an error if the value cannot be pickled."""
    try:
        return pickle.dumps((True, value, ""), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        name = getattr(function, "__qualname__", repr(function))
        message = f"{name} returned a {type(value).__qualname__}, which cannot be pickled to be sent back: "
        message += safe_text(str, error)
        return pickle_error(TypeError(message), "")


def pickle_error(error: BaseException, note: str) -> bytes:
    """Return the pickled answer for a call that has raised an exception. The receiver adds `note` to the exception."""
    return pickle.dumps((False, take_error_apart(error), note), pickle.HIGHEST_PROTOCOL)


# ---- exceptions. By default, an exception is unpickled by calling its type with its `args`. If the `__init__` of the
# type takes other arguments, this call fails, or returns a different exception.


def take_error_apart(error: BaseException) -> bytes | tuple[Any, ...]:
    """Take an exception apart into values that can be pickled. `rebuild_error` restores the exception from them.

    The values are the type of the exception, its arguments, its attributes, the members if it is a group, and the names
    of the parts that were omitted because they cannot be pickled: a plain pickle loses or changes what a type's
    `__init__` makes of its arguments. If the exception cannot be taken apart, for example a type in C, return its
    pickle. If the pickle does not load, for example because the type cannot be imported by name, return the pickle of a
    RuntimeError.
    """
    error_type: type[BaseException] = type(error)
    try:
        pickle_verified(error_type)
        reduced: Any = find_builtin_type(error_type).__reduce__(error)
        candidate: object = error
        args: Any = reduced[1]
        members: Any = None
        if isinstance(candidate, BaseExceptionGroup):
            # The arguments of a group are its message and its members.
            members = args[1]
            args = args[:1]
        omitted_parts: list[str] = []
        sendable_args: list[Any] = []
        for number, arg in enumerate(args, 1):
            if is_sendable(arg, f"argument {number}", omitted_parts):
                sendable_args.append(arg)
            else:
                sendable_args.append(safe_text(repr, arg))
        state: dict[str, Any] = {}
        if len(reduced) > 2:
            state = reduced[2]
        attributes = {
            name: value
            for name, value in {**state, **attributes_of(error)}.items()
            if is_sendable(value, f"attribute {name!r}", omitted_parts)
        }
        parts = (
            error_type,
            tuple(sendable_args),
            attributes,
            members and tuple(map(take_error_apart, members)),
            omitted_parts,
        )
        if type(rebuild_error(parts)) is not error_type:
            raise TypeError
    except Exception:
        with contextlib.suppress(Exception):
            return pickle_verified(error)
        return pickle_verified(
            RuntimeError(f"{error_type.__qualname__}: {safe_text(str, error)}")
        )
    return parts


def find_builtin_type(error_type: type[BaseException]) -> Any:
    return next(base for base in error_type.__mro__ if base.__module__ == "builtins")


def attributes_of(error: BaseException) -> dict[str, Any]:
    """Return the attributes of an exception.

    `BaseException.__reduce__` leaves out those in slots, and those in the separate `__dict__` of a compiled class.
    """
    attributes = dict[str, Any]()
    for base in type(error).__mro__:
        if "__slots__" not in vars(base):
            continue
        for name, value in vars(base).items():
            if isinstance(value, types.MemberDescriptorType) and hasattr(error, name):
                attributes[name] = getattr(error, name)
    return {**attributes, **vars(error)}


def safe_text(convert: Callable[[Any], str], value: object) -> str:
    """Return `str` or `repr` of a value, or, if that raises an exception, a note that says so."""
    try:
        return convert(value)
    except Exception as error:
        return f"<its __{convert.__name__}__ raised {type(error).__name__}>"


def is_sendable(value: object, description: str, omitted_parts: list[str]) -> bool:
    """Return whether a value can be pickled and unpickled. If not, append its description to `omitted_parts`."""
    try:
        pickle_verified(value)
    except Exception:
        omitted_parts.append(description)
        return False
    return True


def pickle_verified(value: object) -> bytes:
    """Pickle a value, and unpickle it once as a check, because some values can be pickled but not unpickled."""
    pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    pickle.loads(pickled)
    return pickled


def rebuild_error(parts: bytes | tuple[Any, ...]) -> BaseException:
    if isinstance(parts, bytes):
        loaded: BaseException = pickle.loads(parts)
        return loaded
    error_type, args, attributes, members, omitted_parts = parts
    if members is not None:
        args = *args, [rebuild_error(member) for member in members]
    builtin_type = find_builtin_type(error_type)
    error: BaseException = builtin_type.__new__(error_type, *args)
    with contextlib.suppress(Exception):
        # Fails if `__init__` takes other arguments. The attributes are set below.
        builtin_type.__init__(error, *args)
    for name, value in attributes.items():
        # Works even for a frozen type.
        object.__setattr__(error, name, value)
    for description in omitted_parts:
        add_note(
            error,
            f"it came from a worker process without its {description}, which cannot be pickled",
        )
    return error


def add_note(error: BaseException, note: str) -> None:
    with contextlib.suppress(Exception):
        error.add_note(note)
