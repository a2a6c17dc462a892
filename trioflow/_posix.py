"""The names of the standard library that trioflow uses and that exist only on POSIX systems, or only on Linux.

All other modules take these names from here. A name that the system lacks is replaced by a placeholder, which can be
imported and stored, and raises when it is called. So every module can be imported on every system. Classes that cannot
work without such a name call `require` when an object is created.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import select
import signal
import socket
import stat
import sys
from typing import Any, Final, NoReturn

IS_POSIX: Final = sys.platform != "win32"
O_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
"""The flag of `os.open` that keeps Windows from translating newlines. It is 0 on other systems."""
NO_FOLLOW: Final[int] = (
    O_BINARY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
)
"""The flags of `os.open` for a file that others may have replaced: no link is followed, and no pipe is waited for."""
SIGINFO_SIZE: Final = 128
"""The size of a `siginfo_t` on Linux, in bytes. On macOS, it is 104."""

WORKER_PROCESSES_HINT: Final = (
    "give the scheduler processes=ProcessPoolExecutor(), of concurrent.futures"
)


def require(
    feature: str, hint: str = "use ThreadJob(subprocess.run, [...], check=True)"
) -> None:
    """Raise an error if this is not a POSIX system.

    Args:
        feature: the name of the feature that needs a POSIX system, for the error message.
        hint: the replacement on other systems, for the error message.

    Raises:
        NotImplementedError: this is not a POSIX system.

    """
    if not IS_POSIX:
        raise NotImplementedError(
            f"{feature} needs a POSIX system, but this is {sys.platform}: {hint}"
        )


def on_fork(callback: Any) -> None:
    """Register a function to be called in each child that this process forks. On Windows, do nothing."""
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=callback)


def is_ready(descriptor: int, event: int, seconds: float | None = 0.0) -> bool:
    """Return whether a read (`POLLIN`) or a write (`POLLOUT`) would not block. Wait up to `seconds` for that.

    None is no limit. At the end of a file, a read does not block. poll() also takes descriptors above 1,023.
    """
    poll = __getattr__("poll")()
    poll.register(descriptor, event)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def has_exited(pid: int, waits: bool = False) -> bool:
    """Return whether a child process has exited, without reaping it. With `waits`, wait until it has.

    macOS has the system call `waitid`, but Python offers it there only since 3.13, so this uses `ctypes`.

    Raises:
        ChildProcessError: there is no such child, or it has been reaped.

    """
    posix: Any = os
    options = posix.WEXITED | posix.WNOWAIT | (0 if waits else posix.WNOHANG)
    if sys.platform == "linux" and hasattr(os, "waitid"):
        return os.waitid(os.P_PID, pid, options) is not None
    import ctypes

    info = ctypes.create_string_buffer(SIGINFO_SIZE)
    by_pid = 1
    while ctypes.CDLL(None, use_errno=True).waitid(by_pid, pid, info, options) < 0:
        if (number := ctypes.get_errno()) != errno.EINTR:
            # Python chooses the subclass by the number.
            raise OSError(number, os.strerror(number))
    # All bytes are zero if the child has not exited.
    return any(info.raw)


KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def describe_irregularity(status: os.stat_result) -> str | None:
    """Describe the kind of a file if a run would not write to it, or None if it is a regular file with a single name.

    A file that has just been removed has no name, and is regular, too.
    """
    if not stat.S_ISREG(status.st_mode):
        return KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
    if status.st_nlink > 1:
        return f"a file with {status.st_nlink} hard links"
    return None


def open_regular(path: str | os.PathLike[str], flags: int, mode: int = 0o666) -> int:
    """Open a regular file, and return its descriptor.

    All files whose names the user has not given are opened by this function. Others may have put something under such a
    name: a link could lead to any file of the user, and a named pipe or a device could block the program or never end.

    Args:
        path: the file, which is not opened if it is a symbolic link.
        flags: the flags of `os.open`.
        mode: the permissions of a new file, before the umask is subtracted.

    Raises:
        OSError: the file cannot be opened, or is not a regular file, or is to be written and has several names.

    """
    with contextlib.suppress(FileNotFoundError):
        # Opening a device can have effects.
        _check(os.lstat(path), flags)
    descriptor = os.open(path, flags | NO_FOLLOW, mode)
    try:
        _check(os.fstat(descriptor), flags)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(status: os.stat_result, flags: int) -> None:
    irregularity = describe_irregularity(status)
    if irregularity is not None and not (
        stat.S_ISREG(status.st_mode) and flags & os.O_RDWR == 0
    ):
        raise OSError(errno.EINVAL, f"it is {irregularity}")


MAX_STREAM_SIZE: Final = 16 << 20
"""The maximum number of bytes that are kept of a pipe or a device that the user has named. It may never end."""


def read_named(path: str | os.PathLike[str], max_stream_size: int = 0) -> bytes:
    """Read a whole file that the user has named.

    Args:
        path: the file.
        max_stream_size: how much is read of a pipe or a device, in bytes. With 0, it is refused, since it could block.

    Raises:
        OSError: the file cannot be read, or is a pipe or a device that is refused, or has more.

    """
    mode = os.stat(path).st_mode
    is_stream = (
        not stat.S_ISREG(mode) and not stat.S_ISDIR(mode) and str(path) != os.devnull
    )
    kind = KINDS.get(stat.S_IFMT(mode), "a special file")
    if is_stream and not max_stream_size:
        raise OSError(
            errno.EINVAL,
            f"it is {kind} and not a regular file, and could block",
            str(path),
        )
    with open(path, "rb") as file:
        data = file.read(max_stream_size + 1 if is_stream else -1)
    if is_stream and len(data) > max_stream_size:
        raise OSError(
            errno.EFBIG,
            f"it is {kind} with more than {max_stream_size >> 20} MiB",
            str(path),
        )
    return data


class MissingName:
    """A placeholder for a name that the system lacks."""

    def __init__(self, name: str) -> None:
        self._name: Final = name

    def __repr__(self) -> str:
        return f"<{self._name}, which {sys.platform} lacks>"

    def __getattr__(self, name: str) -> MissingName:
        if name.startswith("__"):
            # Python, `inspect` and `copy` probe for special methods.
            raise AttributeError(name)
        return MissingName(f"{self._name}.{name}")

    def __call__(self, *args: object, **options: object) -> NoReturn:
        """Raise an error that names the missing function."""
        raise NotImplementedError(f"{self._name} is missing on {sys.platform}")


def __getattr__(name: str) -> Any:
    """Return a module, or a function or constant of `os`, `select`, `signal` or `socket` (PEP 562).

    If the system lacks it, return a placeholder.
    """
    if name.startswith("__"):
        raise AttributeError(name)
    if name in ("fcntl", "resource", "termios"):
        try:
            # Asked for before and after each command.
            return globals().setdefault(name, importlib.import_module(name))
        except ImportError:
            return MissingName(name)
    for module in (os, select, signal, socket):
        if hasattr(module, name):
            return getattr(module, name)
    return MissingName(name)
