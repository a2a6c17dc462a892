"""A signal handler may interrupt a pool's waits between any two steps, raise, or use the pool; nothing hangs.

A trace function stands in for the handler: it runs at exactly the chosen step. The last test sends real signals.
"""

import random
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from trioflow.compat.pyexpool import ExecPool, Job
from trioflow.compat.pyexpool._callbacks import Latch
from ...jobs.posix.process_trees import Watched
from ...jobs.posix.process_trees import watched as watched
from ...places import PATIENCE
from .pools import program

FILES = (str(Path("compat", "pyexpool")), "threading.py", "contextlib.py")
"""Code in which a handler is tested. In trio's it is not: a trace function may interrupt what no handler can."""


class Interrupted(BaseException):
    """The exception that a handler raises."""


def interrupted(step: int, body: Callable[[], Any], handler: Callable[[], Any]) -> bool:
    """Call `body`, and `handler` before the given step; return whether `body` has that many steps."""
    steps = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal steps
        if not any(name in frame.f_code.co_filename for name in FILES):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            steps += 1
            if steps == step:
                sys.settrace(None)
                handler()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        body()
    except Interrupted:
        pass
    finally:
        sys.settrace(before)
    return steps >= step


def fail(*_: Any) -> None:
    raise Interrupted


def opens_soon(latch: Latch) -> bool:
    """Return whether another thread can open a latch and waiters see it."""
    threads = [threading.Thread(target=latch.wait, daemon=True) for _ in range(2)]
    threads.append(threading.Thread(target=latch.open, daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return latch.wait(0) and not any(thread.is_alive() for thread in threads)


def looks(latch: Latch) -> None:
    latch.wait(1e-6)


@pytest.mark.parametrize("handler", [fail, looks, Latch.open])
@pytest.mark.parametrize("body", [looks, Latch.open])
def test_latch_survives_interruption_at_any_step(body: Callable[[Latch], Any], handler: Callable[[Latch], Any]) -> None:
    """A signal handler that raised once left the lock of a `threading.Event` held."""
    for step in range(1, 1000):
        latch = Latch()
        was_there = interrupted(step, partial(body, latch), partial(handler, latch))
        assert opens_soon(latch)
        if not was_there:
            return
    pytest.fail("it never ended")


def test_a_pool_works_after_an_interruption_of_join_at_any_step() -> None:
    pool = ExecPool(1)
    for step in range(random.randrange(1, 5), 2000, 4):
        assert pool.execute(Job("stub")) == 0
        was_there = interrupted(step, lambda: pool.join(PATIENCE), fail)
        pool.join()
        pool.alive = True  # after jobs were terminated it is not
        if not was_there:
            return
    pytest.fail("join never ended")


IN_ANOTHER_THREAD = """
class Stop(BaseException):
    pass

def stop(number, frame):
    raise Stop

def receive():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    os.kill(os.getpid(), signal.SIGUSR1)

signal.signal(signal.SIGUSR1, stop)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
with ExecPool(1) as pool:
    pool.execute(Job("j", args=["sleep", "1000"]))
    try:
        threading.Timer(0.1, receive).start()
        pool.join()
    except Stop:
        print("stopped")
"""


SLOW_HANDLER = """
signal.signal(signal.SIGALRM, lambda *_: time.sleep(1))
pool = ExecPool(1)
pool.execute(Job("j", args=["sleep", "1000"]))
signal.setitimer(signal.ITIMER_REAL, 0.05)
in_time = pool.join(0.5)
signal.setitimer(signal.ITIMER_REAL, 0)  # if this process has not run meanwhile, the signal may still come
print(in_time)
"""


def test_join_times_out_even_if_a_handler_returns_after_the_deadline(watched: Watched, tmp_path: Path) -> None:
    """Before Python 3.13, a queue waits without a limit when a handler has used up all the time; `join` does not."""
    assert program(SLOW_HANDLER, tmp_path, seconds=PATIENCE) == (0, "False\n")
    assert watched.gone_in_time(), watched.alive()


def test_a_signal_received_by_another_thread_ends_join_by_its_handler(watched: Watched, tmp_path: Path) -> None:
    assert program(IN_ANOTHER_THREAD, tmp_path, seconds=2 * PATIENCE) == (0, "stopped\n")
    assert watched.gone_in_time()


DELETIONS = """
import random

class Stop(BaseException):
    pass

def stop(number, frame):
    global pool
    del pool
    raise Stop

signal.signal(signal.SIGALRM, stop)
for number in range(int(sys.argv[2])):
    pool = ExecPool(1)
    pool.execute(Job("j", args=["sleep", "1000"]))
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-4))
        pool.join()
    except Stop:
        pass
"""


@pytest.mark.parametrize("number", [20, pytest.param(3000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
def test_pool_deleted_by_a_handler_at_random_leaves_no_process(watched: Watched, tmp_path: Path, number: int) -> None:
    assert program(DELETIONS, tmp_path, arguments=[str(number)], seconds=2 * PATIENCE + number / 5) == (0, "")
    assert watched.gone_in_time()
