"""Tools for testing jobs and scenarios, on both backends: virtual time, the exploration of runs.

`explore` runs a scenario many times, each time with other orders, durations and faults, and reports a failure in a few
lines. It is built on virtual time, which tests can also use by itself.

*Provisional*: `FAULTS`, the names of its faults, as `explore` itself.

Under virtual time no task really waits. As soon as all tasks are blocked, the clock jumps to the next deadline. So a
scenario of days runs in milliseconds, and its times can be asserted with ``==``. The clock starts at 0.0. Read it with
`anyio.current_time`, which works on both backends.

>>> import anyio
>>> from trioflow.testing import run_virtual
>>> async def nap() -> float:
...     await anyio.sleep(3600)
...     return anyio.current_time()
>>> run_virtual(nap, backend="trio"), run_virtual(nap, backend="asyncio")
(3600.0, 3600.0)

To start a scenario under virtual time with ``run``, pass the clock in its options::

    scheduler.run(backend="asyncio", backend_options=virtual_options("asyncio"))

Tests that anyio's pytest plugin runs get the clock in the same way::

    @pytest.fixture(params=["trio", "asyncio"])
    def anyio_backend(request):
        return request.param, virtual_options(request.param)

Limits:

- **Virtual time is for virtual jobs.** Threads, processes and sockets work, but the clock does not wait for them. While
  a thread works for a real second, all sleeps in other tasks end at once, and all timeouts expire. The loop really
  waits only when no deadline is left.
- A task that waits without a deadline for an event that never happens waits forever, as in real time.
- The clock stops while any task is busy, for example one that polls, or that swallows a cancellation which is delivered
  again and again. Time passes only while no task can resume.
- Times are as exact as sums of floats. Whole numbers and binary fractions (0.5, 0.25) are exact on both backends. For
  other numbers, asyncio's clock shows exactly the time of each deadline. trio's clock may be a rounding step past it:
  with deadlines at 2.4 and 6.7, it shows 6.700000000000001 at the second deadline.
- While only threads or processes work, the clock may jump to the former deadline of a job that has ended.
- A timeout around a thread that may be abandoned (``abandon_on_cancel``) expires before the thread has begun. On
  asyncio the thread then never begins.
- Tasks that wake at the same time wake in the order that their waits began, on both backends. In real time, trio
  promises no order, and `explore` tries other orders.
"""

from ..clock import VirtualTimeEventLoop as VirtualTimeEventLoop
from ..clock import run_virtual as run_virtual
from ..clock import virtual_options as virtual_options
from ._explore import FAULTS as FAULTS
from ._explore import BrokenRun as BrokenRun
from ._explore import Exploration as Exploration
from ._explore import explore as explore

__all__ = [
    "FAULTS",
    "BrokenRun",
    "Exploration",
    "VirtualTimeEventLoop",
    "explore",
    "run_virtual",
    "virtual_options",
]

for _name in __all__:
    if _name != "FAULTS":
        globals()[_name].__module__ = __name__
