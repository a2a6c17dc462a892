"""Let `trioflow look PID` look into this program, on Python 3.11 to 3.13; newer ones need nothing in the program.

`trioflow run` does so for its runs, and the environment variable `TRIOFLOW_LOOK=1` for any program, from its first run
on.
"""

from __future__ import annotations

from .view.look._answers import answer_thread


def enable() -> None:
    """Answer `trioflow look` until the program ends, also while a job blocks the event loop.

    This starts a thread, which waits at a socket that only the same user can use. It changes nothing in the runs. A
    second call has no effect.

    Raises:
        NotImplementedError: the system has no Unix sockets.
        OSError: the socket cannot be created.

    Example:
        >>> import trioflow.look
        >>> trioflow.look.enable()

    """
    answer_thread.start()
