"""Let `trioflow look PID` look into this program, on Python 3.11 to 3.13. Later versions need nothing in the program.

`reload` gives a running program its mended code, as `trioflow steer PID reload` does.

`trioflow run` and `trioflow batch` do so for their runs, and the environment variable `TRIOFLOW_LOOK=1` for any
program, from its first run on.
"""

from __future__ import annotations

from .view.look import _answers

__all__ = ["enable", "reload"]


def enable(*, steer: bool = True) -> None:
    """Answer `trioflow look` until the program ends, also while a job blocks the event loop.

    This starts a thread, which waits at a socket that only the same user can use. It changes nothing in the runs by
    itself. A second call only changes `steer`.

    Args:
        steer: whether `trioflow steer`, and the page of `trioflow look`, may change runs, such as pause or cancel them.

    Raises:
        NotImplementedError: the system has no Unix sockets.
        OSError: the socket cannot be created.

    Example:
        >>> import trioflow.look
        >>> trioflow.look.enable()

    """
    _answers.answer_thread.may_steer = steer
    _answers.answer_thread.start()


def reload() -> str:
    """Give each function and method whose code has changed in the program's own files its new code in place.

    *Provisional*: a minor release may change it.

    It gets the new code wherever it is kept, and whatever it is decorated with. New imports, functions, classes and
    constants run. Other statements do not run again: if any of them has changed, nothing is taken. Calls in progress go
    on with the code that they began with. Worker processes of a `ProcessJob` begin anew.

    `trioflow run` remembers the code of a file as it loads the file, and a run with `hold=True` remembers it as it
    begins. The logs of the runs in progress name the functions that were taken. Annotations and docstrings of functions
    stay as they were.

    Returns:
        A text that names the functions that were taken, and the objects that keep old code or its results, such as
        "reloaded publish.py: upload".

    Raises:
        RuntimeError: the loaded code is not known, no file has changed, or some change cannot be taken. The message
            names the change, with its file and line, and all is as it was.

    Example:
        >>> from trioflow.look import reload
        >>> def mend_and_try_again(scheduler: Scheduler) -> None:
        ...     print(reload())
        ...     scheduler.try_again()

    """
    from .view.look._reload import reload as reload_changed

    return reload_changed()
