"""Functions for threads and processes, in a module that a process imports at once."""

import time


def forty_two_at_once() -> int:
    return 42


def block() -> None:
    """Work for a time that cannot be interrupted; in pieces, so that it lasts longer if the process is held up."""
    for _ in range(30):
        time.sleep(0.01)


def fail_at_once() -> None:
    raise ValueError("broken")
