"""Further attempts depending on the exit code: for `retry=`, and for the predicates of stamina and tenacity."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ...abc import duration, shown, whole
from ._result import CommandError

Attempt = Callable[[], Awaitable[Any]]


def exited_with(*codes: int) -> Callable[[BaseException], bool]:
    """Return a predicate: was this raised because a command has exited with one of these codes?

    Args:
        codes: exit codes; for a signal its negative number: `-signal.SIGSEGV`. No codes at all mean any failure.

    Returns:
        A function of an exception, as stamina's `on=` and tenacity's `retry_if_exception` take it. A command that was
        not started, or that a timeout has ended, has no exit code.

    Raises:
        TypeError: a code that is not a whole number.

    Example:
        >>> exited_with(75, 111)(ValueError())
        False

    """
    for code in codes:
        if not isinstance(code, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"exited_with({shown(code)}): give exit codes, whole numbers")
    chosen = frozenset(codes)

    def has_exited_with(error: BaseException) -> bool:
        code = error.returncode if isinstance(error, CommandError) else None
        return code is not None and (code in chosen or not chosen)

    return has_exited_with


def retry_on_exit(*codes: int, times: int = 1, delay: float = 0.0) -> Callable[[Attempt], Attempt]:
    """Give a command further attempts when it exits with one of these codes, and only then.

    Args:
        codes: exit codes; for a signal its negative number. No codes at all mean any failure of the command itself.
        times: how many further attempts, 0 or more.
        delay: seconds before each further attempt, 0 or more; the job keeps its slot meanwhile.

    Returns:
        A value for a job's `retry=`.

    Raises:
        TypeError, ValueError: an argument that makes no sense.

    Example:
        >>> job = CommandJob(["sh", "-c", "exit 75"], retry=retry_on_exit(75, 111, times=2))
        >>> Scheduler(job).run(), job.attempts, job.raised_exception().returncode
        (True, 3, 75)

    """
    is_meant = exited_with(*codes)
    whole(times, "times", "retry_on_exit()", "")
    duration(delay, "delay", "retry_on_exit()")

    def decorate(attempt: Attempt) -> Attempt:
        async def repeated() -> Any:
            for _ in range(times):
                try:
                    return await attempt()
                except CommandError as error:
                    if not is_meant(error):
                        raise
                await anyio.sleep(delay)
            return await attempt()

        return repeated

    return decorate
