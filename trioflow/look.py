"""Let `trioflow look PID` look into this program, on Python 3.11 to 3.13; newer ones need nothing in the program.

`trioflow run` and `trioflow batch` do so for their runs, and the environment variable `TRIOFLOW_LOOK=1` for any
program, from its first run on.
"""

from __future__ import annotations

from .view.look import _answers


def enable(*, steer: bool = True) -> None:
    """Answer `trioflow look` until the program ends, also while a job blocks the event loop.

    This starts a thread, which waits at a socket that only the same user can use. It changes nothing in the runs by
    itself. A second call only changes `steer`.

    Args:
        steer: whether `trioflow look` may also pause, resume, drain and cancel runs, and change their windows.

    Raises:
        NotImplementedError: the system has no Unix sockets.
        OSError: the socket cannot be created.

    Example:
        >>> import trioflow.look
        >>> trioflow.look.enable()

    """
    _answers.answer_thread.may_steer = steer
    _answers.answer_thread.start()
