"""`run()` in a notebook cell, where an event loop runs already: in a thread of its own."""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def in_cell() -> bool:
    """Tell whether this is the code of a notebook cell."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def run_in_thread(function: Callable[[], T], interrupt: Callable[[BaseException], None]) -> T:
    """Return what `function()` returns in a new thread; Ctrl-C calls `interrupt` and goes on waiting.

    Raises:
        BaseException: whatever `function` raises.

    """
    outcome: list[Callable[[], T]] = []
    context = contextvars.copy_context()

    def target() -> None:
        try:
            value = context.run(function)
        except BaseException as error:
            raised = error

            def fail() -> T:
                raise raised

            outcome.append(fail)
        else:
            outcome.append(lambda: value)

    thread = threading.Thread(target=target, name="trioflow run")
    thread.start()
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt as interruption:
            interrupt(interruption)
    return outcome[0]()
