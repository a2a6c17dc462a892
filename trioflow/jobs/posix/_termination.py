"""The end of a process and of its group: a grace period, then SIGKILL until no member is alive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from ... import _posix as posix

if TYPE_CHECKING:
    from ...abc import RunHandle
    from ._processes import Process

MIN_POLL_INTERVAL: Final = 0.001
MAX_POLL_INTERVAL: Final = 0.064
"""The bounds, in seconds, of the interval between two checks for the end of a group. No event reports this end."""
ZOMBIE_CHECK_THRESHOLD: Final = 0.008
"""Once the interval between two checks has reached this many seconds, each check also looks for groups of zombies."""
KILL_INTERVAL: Final = 0.5
"""The interval, in seconds, at which SIGKILL is repeated, to see whether the remaining members can be signaled."""

PauseFunction = Callable[[float], Awaitable[None]]
"""A function that waits until the run's clock shows a given time, and may do other work, such as forwarding output."""


async def end_process(run: RunHandle, process: Process, grace: float) -> None:
    """Wait up to `grace` seconds for a process to exit. If it has not exited by then, kill its group, and wait on.

    A cancellation does not interrupt the wait.
    """
    wait = partial(run.wait_readable, process.exit_descriptor)
    if not (grace and await run.outlast(partial(wait, run.clock() + grace))):
        process.signal_group(posix.SIGKILL)
        await run.outlast(wait)


async def wait_until_empty(run: RunHandle, process: Process, deadline: float, pause_until: PauseFunction) -> bool:
    """Wait until the group of a reaped process has no living members, or until the run's clock shows `deadline`.

    Return False if the group still has living members at the deadline.
    """
    pause = MIN_POLL_INTERVAL
    while process.has_remaining_members():
        if pause >= ZOMBIE_CHECK_THRESHOLD and process.has_only_zombies_left():
            return True
        now = run.clock()
        if now >= deadline:
            return False
        await pause_until(min(now + pause, deadline))
        pause = min(2 * pause, MAX_POLL_INTERVAL)
    return True


async def end_group(run: RunHandle, process: Process, grace_deadline: float, pause_until: PauseFunction) -> bool:
    """Wait until the group of a reaped process has no living members. After the grace period, kill those that are left.

    A cancellation does not interrupt the wait. Return False if this program may not signal the living members, because
    they belong to another user.
    """

    def pause_shielded(deadline: float) -> Awaitable[None]:
        return run.outlast(lambda: pause_until(deadline))

    while not await wait_until_empty(run, process, grace_deadline, pause_shielded):
        if not process.signal_group(posix.SIGKILL):
            return False
        grace_deadline = run.clock() + KILL_INTERVAL
    return True
