"""The server of a run's worker processes: a new interpreter that forks them, instead of one interpreter for each.

This program itself cannot fork them: it has threads and an event loop, and a lock that another thread holds at that
moment would stay held forever in the child. `multiprocessing` has a server too, but it is started once in a program,
with the environment and the standard streams of that moment, and does not end with a run.

```
this program ── socket: fork this socket's worker; how did that one end? ──► server
    │                                                                         │ fork
    ├── socket: functions, what they return ────────────────────────────────► worker
    └── pidfd: has it exited? ──────────────────────────────────────────────► worker
```

A worker is not a child of this program, so the server reaps it when it is told to. Until then nothing else gets its
pid, and its group can be signalled as that of a child.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import sys
from collections.abc import Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import anyio

from ... import _posix as posix
from ..posix._guard import Guard
from ..posix._processes import Process, spawn
from ..posix._sockets import send_with_descriptors
from . import _worker_main

if TYPE_CHECKING:
    from ...abc import RunHandle

OURS: Final = f"{__package__}._job"
"""A main module that runs a ProcessJob imports this."""
PATIENCE: Final = 1.0
"""Seconds that the server has to reap those that ended before anybody knew them, before it is killed."""


def is_sound() -> bool:
    """Return whether workers may be forked on this system.

    It must tell how many threads the server has, and when a process that is not a child has exited: by `/proc` and a
    pidfd, which only Linux has. On macOS, moreover, the system's libraries start threads of their own.
    """
    try:
        os.close(posix.pidfd_open(os.getpid()))
    except (NotImplementedError, OSError):  # no Linux; a kernel before 5.3, or a sandbox that does not know the call
        return False
    return os.path.isdir(_worker_main.THREADS)


class ForkServer:
    """The server, and this end of its socket.

    Args:
        run: the run that it works for.
        path: sys.path of the workers.
        modules: those that it imports before it forks.

    Raises:
        OSError: no more processes or descriptors are allowed.

    """

    def __init__(self, run: RunHandle, path: Sequence[str], modules: Sequence[str]) -> None:
        self._run: Final = run
        self._guard: Final = run.shared(Guard)
        self._turn: Final = anyio.Lock()  # who holds it may use the socket
        self._begun: Final[list[tuple[socket.socket, Any]]] = []  # of workers whose pids nobody has waited for
        self.environment: Final = self._guard.environment(None)
        self._control, theirs = socket.socketpair(posix.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        try:
            self._control.send(pickle.dumps((list(path), list(modules), self._guard.has_terminal)))
            command = [sys.executable, "-P", _worker_main.__file__, "server"]
            self._process: Final[Process] = spawn(self._guard, command, stdin=theirs.fileno())
        except BaseException:
            self._control.close()
            raise
        finally:
            theirs.close()

    async def fork(self) -> tuple[socket.socket, Process, Any] | None:
        """Return this end of the socket of a new worker, its process and its output; None if this server forks none.

        Raises:
            OSError: no more processes or descriptors are allowed.

        """
        begun = self._begun.pop() if self._begun else await self._request()
        if begun is None:
            return None
        ours, output = begun
        try:
            answer = await self._received(ours)
        except BaseException:  # cancelled; the next one who wants a worker gets this one
            self._begun.append(begun)
            raise
        try:
            pid = _worker_main.NUMBER.unpack(answer)[0] if answer else _worker_main.NOT_CLEAN
            if pid < 0:
                raise OSError(-pid, f"{os.strerror(-pid)}: a worker process could not be forked")
            if pid != _worker_main.NOT_CLEAN:
                return ours, Process(self._guard, pid, is_child=False), output
        except BaseException:
            ours.close()
            raise
        ours.close()
        return None

    async def _request(self) -> tuple[socket.socket, Any] | None:
        """Ask for a worker, and return this end of its socket and its output, or None if the server has ended."""
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            with own_output() as (output, descriptors):
                async with self._turn:
                    await send_with_descriptors(self._control, b"", [theirs.fileno(), *descriptors])
            return ours, output
        except ConnectionError:
            ours.close()
            return None
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()

    async def reap(self, process: Process) -> bool:
        """Reap a worker that has exited; return False if the server has ended, and nobody knows how it ended."""
        async with self._turn:
            with contextlib.suppress(ConnectionError):
                await send_with_descriptors(self._control, _worker_main.NUMBER.pack(process.pid), [])
                # Whatever is cancelled, because otherwise this answer would be the next one's.
                if answer := await self._run.outlast(partial(self._received, self._control)):
                    process.was_reaped(os.waitstatus_to_exitcode(_worker_main.NUMBER.unpack(answer)[0]))
                    return True
        return False

    async def _received(self, own: socket.socket) -> bytes:
        """Return a number that comes through a socket, packed, or nothing at its end."""
        while True:
            try:
                return own.recv(_worker_main.NUMBER.size)
            except BlockingIOError:
                await anyio.wait_readable(own)
            except ConnectionResetError:
                return b""

    async def close(self) -> None:
        """End the server; all workers that anybody knows have been reaped."""
        run, process = self._run, self._process
        self._control.close()
        has_begun = bool(self._begun)
        while self._begun:
            self._begun.pop()[0].close()
        until = run.clock() + PATIENCE
        wait = partial(run.wait_readable, process.exit_descriptor)
        if not (has_begun and await run.outlast(partial(wait, until))):
            process.signal(posix.SIGKILL)
            await run.outlast(wait)
        try:
            process.reap()
        finally:
            process.forget()


@contextlib.contextmanager
def own_output() -> Generator[tuple[Any, list[int]]]:
    """Return a way for the output of a worker, and what it has as descriptors 1 and 2 then; None and none without.

    Where a monitor draws, standard output has such ways, and shows by them whose the output is.
    """
    output, stdout, stderr = None, cast(Any, sys.stdout), sys.stderr
    if getattr(stdout, "has_picture", False):
        output = stdout.open_output()
    if output is None:
        yield None, []
        return
    try:
        yield output, [output.descriptor, output.descriptor if getattr(stderr, "has_picture", True) else 2]
    finally:
        os.close(output.descriptor)


def modules_for(preparation: dict[str, Any]) -> list[str]:
    """Return the modules that a server imports: ours if the main module will, and those that the program has named.

    `multiprocessing.set_forkserver_preload` is where programs name them.
    """
    imports_main = "init_main_from_name" in preparation or "init_main_from_path" in preparation
    theirs = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    named: list[str] = getattr(theirs, "_preload_modules", [])
    return [OURS] * imports_main + [name for name in named if name != "__main__"]
