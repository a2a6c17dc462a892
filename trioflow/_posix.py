"""The names of POSIX, and of Linux alone, that trioflow uses: this is the one list, and other modules take them here.

Where the system lacks a name, it is a placeholder: it can be imported and stored, and raises when it is used. So each
module can be imported everywhere. What cannot work without a name calls `require` when it is created.
"""

from __future__ import annotations

import errno
import importlib
import os
import select
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    if sys.platform != "win32":
        import fcntl as fcntl
        import resource as resource
        import termios as termios
        from os import O_NOCTTY as O_NOCTTY
        from os import O_NONBLOCK as O_NONBLOCK
        from os import POSIX_SPAWN_CLOSE as POSIX_SPAWN_CLOSE
        from os import POSIX_SPAWN_DUP2 as POSIX_SPAWN_DUP2
        from os import PRIO_PGRP as PRIO_PGRP
        from os import PRIO_PROCESS as PRIO_PROCESS
        from os import WNOHANG as WNOHANG
        from os import environb as environb
        from os import fchmod as fchmod
        from os import fork as fork
        from os import geteuid as geteuid
        from os import getloadavg as getloadavg
        from os import getpriority as getpriority
        from os import killpg as killpg
        from os import mkfifo as mkfifo
        from os import posix_spawnp as posix_spawnp
        from os import pread as pread
        from os import pwrite as pwrite
        from os import set_blocking as set_blocking
        from os import setpriority as setpriority
        from os import sysconf as sysconf
        from os import wait4 as wait4
        from select import PIPE_BUF as PIPE_BUF
        from select import POLLIN as POLLIN
        from select import POLLOUT as POLLOUT
        from select import poll as poll
        from signal import SIGCHLD as SIGCHLD
        from signal import SIGCONT as SIGCONT
        from signal import SIGKILL as SIGKILL
        from signal import SIGPIPE as SIGPIPE
        from signal import SIGSTOP as SIGSTOP
        from signal import SIGXFSZ as SIGXFSZ
        from socket import AF_UNIX as AF_UNIX
        from socket import recv_fds as recv_fds
        from socket import send_fds as send_fds
    if sys.platform == "linux":
        from os import pidfd_open as pidfd_open
        from os import sched_getaffinity as sched_getaffinity
        from os import sched_setaffinity as sched_setaffinity

IS_THERE: Final = sys.platform != "win32"
"""Whether the system has process groups, signals and descriptors as POSIX describes them."""
BINARY: Final[int] = getattr(os, "O_BINARY", 0)
"""The flag of `os.open` without which Windows changes newlines."""
SIGINFO_SIZE: Final = 128
"""Bytes of a `siginfo_t` on Linux; on macOS it has 104."""
MODULES: Final = ("fcntl", "resource", "termios")

INSTEAD_OF_A_COMMAND: Final = "use ThreadJob(subprocess.run, [...], check=True)"
INSTEAD_OF_WORKERS: Final = "give the scheduler processes=ProcessPoolExecutor(), of concurrent.futures"


def require(what: str, instead: str = INSTEAD_OF_A_COMMAND) -> None:
    """Reject `what`, if it cannot work on this system.

    Raises:
        NotImplementedError: the system is not POSIX; the error says what to use.

    """
    if not IS_THERE:
        raise NotImplementedError(f"{what} needs a POSIX system, and this is {sys.platform}: {instead}")


def on_fork(in_child: Any) -> None:
    """Call a function in each child that this process forks, where a process can fork."""
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=in_child)


def has_exited(pid: int, waits: bool = False) -> bool:
    """Return whether a child has exited, and leave it to be reaped; with `waits`, return when it has.

    macOS has the call that this takes, but Python before 3.13 does not pass it on there.

    Raises:
        ChildProcessError: there is no such child, or it has been reaped.

    """
    posix: Any = os
    options = posix.WEXITED | posix.WNOWAIT | (0 if waits else posix.WNOHANG)
    if sys.platform == "linux" and hasattr(os, "waitid"):
        return os.waitid(os.P_PID, pid, options) is not None
    import ctypes

    info, by_pid = ctypes.create_string_buffer(SIGINFO_SIZE), 1
    while ctypes.CDLL(None, use_errno=True).waitid(by_pid, pid, info, options) < 0:
        if (number := ctypes.get_errno()) != errno.EINTR:
            raise OSError(number, os.strerror(number))  # Python chooses the subclass by the number
    return any(info.raw)  # all zeros: none has exited


class Missing:
    """A name that the system lacks."""

    def __init__(self, name: str) -> None:
        self._name: Final = name

    def __repr__(self) -> str:
        return f"<{self._name}, which {sys.platform} lacks>"

    def __getattr__(self, name: str) -> Missing:
        if name.startswith("__"):  # a question of Python, of inspect or copy
            raise AttributeError(name)
        return Missing(f"{self._name}.{name}")

    def __call__(self, *args: object, **options: object) -> NoReturn:
        """Raise an error with the name."""
        raise NotImplementedError(f"{self._name} is missing on {sys.platform}")


def __getattr__(name: str) -> Any:
    """Return the value of a name at each use (PEP 562), or a placeholder."""
    if name.startswith("__"):
        raise AttributeError(name)
    if name in MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            return Missing(name)
    for module in (os, select, signal, socket):
        if hasattr(module, name):
            return getattr(module, name)
    return Missing(name)
