"""`Adaptive`, a window that adapts to the capacity of a server.

Each run has a part of its own, `AdaptiveWindow`, which gives the run another number of slots as `jobs_window = n` does.
The number changes like the congestion window of TCP: it grows by one for each window's worth of successes, and shrinks
by a fraction on a sign of overload. Chiu and Jain 1989 ("Analysis of the Increase and Decrease Algorithms for
Congestion Avoidance in Computer Networks") show that, among the linear rules, additive increase and multiplicative
decrease converges to a fair and efficient share. Jacobson 1988 brought it to TCP. The fraction is the fraction of CUBIC
(RFC 9438).

A queue at the server raises the latency before anything fails. Therefore, the current latency is compared with the
lowest latency, as in TCP Vegas (Brakmo and Peterson 1994) and in the gradient limit of Netflix's concurrency-limits. If
their ratio is small, the window may grow. If it is large, the window shrinks in proportion. Both latencies are means
over at least a window's worth of jobs. Jobs may become longer over time, so an old lowest latency is discarded and
measured again with half the window. Otherwise, a queue caused by the window itself could pass for normal latency. BBR
does the same (Cardwell et al. 2016, ProbeRTT).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final, final

from ._core.admission._window import VariableWindow
from ._core.base import _user_code
from ._core.base._text_forms import short_repr
from ._core.job import _errors, _job_options
from ._core.job._job import AbstractJob, has_moved_on, takes_slot
from ._core.run import _instruments, _run
from ._core.words._job_queries import latest_start
from ._hints import explain_form

SLOWER_ON: Final = (_errors.Throttled, TimeoutError)
BACKOFF_FACTOR: Final = 0.7
"""The fraction of the window that remains after a failure caused by overload: CUBIC's beta."""
STEADY_RATIO: Final = 1.5
"""The window grows while the ratio of the current to the lowest latency is at most this."""
OVERLOAD_RATIO: Final = 2.0
"""The window shrinks if the ratio of the current to the lowest latency is above this."""
MIN_REMAINING_FRACTION: Final = 0.5
"""The minimum fraction of the window that remains when the latency rises or the lowest latency is measured again."""
MIN_JOBS_IN_MEAN: Final = 10
"""The minimum number of jobs in a mean latency. With fewer, a slow job could look like a queue."""
MAX_LOWEST_AGE: Final = 100
"""The lowest latency is discarded, and measured again, after this many higher mean latencies."""


@final
class Adaptive(VariableWindow):
    """A `jobs_window` that grows while jobs succeed quickly, and shrinks when the server is overloaded.

    Use it when you do not know how many calls a server takes at once, and the jobs are alike.

    *Provisional*: a minor release may change it.

    The size starts at `minimum`. It grows by one for each window's worth of successes if all slots were in use and the
    latency is steady: at most 1.5 times the lowest recent mean. It shrinks to 70 % when an attempt fails with an
    exception of `slower_on`. When the mean latency is more than twice the lowest, it shrinks in proportion, but at most
    by half. After the window has shrunk, jobs that started before are ignored. About once in a hundred windows' worth
    of jobs, the window shrinks to half, to measure the latency without a queue. `scheduler.window_size` is the current
    size.

    This is additive increase and multiplicative decrease, as in TCP (Jacobson 1988, Chiu and Jain 1989), with the
    latency as a sign of congestion, as in TCP Vegas (Brakmo and Peterson 1994) and Netflix's concurrency-limits. The
    latency is the time that an attempt takes, and each attempt counts. Use this for jobs of similar duration, because
    only their latencies can be compared. Put much longer jobs in a separate scheduler.

    Args:
        minimum: the smallest size, 1 or more.
        maximum: the largest size, `minimum` or more.
        slower_on: exception types that mean that the server is overloaded. The default includes `JobTimeout`, which is
            a `TimeoutError`. Add the exceptions of your HTTP library.

    Raises:
        TypeError: a size is not a whole number, or an item of `slower_on` is not an exception type.
        ValueError: a size is out of range.

    Example:
        >>> scheduler = Scheduler(jobs_window=Adaptive(2, 64))
        >>> jobs = scheduler.map(anyio.sleep, [0.001] * 100)
        >>> scheduler.window_size
        2

    """

    __slots__ = ("_slower_on",)

    @explain_form
    def __init__(
        self,
        minimum: int,
        maximum: int,
        slower_on: tuple[type[BaseException], ...] = SLOWER_ON,
    ) -> None:
        lowest = _job_options.check_number(minimum, "minimum", "Adaptive")
        highest = _job_options.check_number(maximum, "maximum", "Adaptive")
        if not 1 <= lowest <= highest:
            sizes = f"Adaptive({short_repr(minimum)}, {short_repr(maximum)})"
            raise ValueError(
                f"{sizes}: the minimum must be at least 1, and the maximum at least the minimum"
            )
        super().__init__(lowest, highest)
        value: Any = slower_on
        types: tuple[Any, ...] = (value,)
        if isinstance(value, Iterable):
            types = tuple(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        for each in types:
            if not (isinstance(each, type) and issubclass(each, BaseException)):
                raise TypeError(
                    f"Adaptive(slower_on={short_repr(slower_on)}): {short_repr(each)} is no exception type"
                )
        self._slower_on: Final[tuple[type[BaseException], ...]] = types

    @property
    def slower_on(self) -> tuple[type[BaseException], ...]:
        """The exception types that make the window shrink."""
        return self._slower_on

    def _make_part(self, run: _run.Run) -> AdaptiveWindow:
        return AdaptiveWindow(run, self)

    def __repr__(self) -> str:
        """Return the call that makes an equal window."""
        slower_on = ""
        if self._slower_on != SLOWER_ON:
            slower_on = f", slower_on={short_repr(self._slower_on)}"
        return f"Adaptive({self.minimum}, {self.maximum}{slower_on})"


class WindowController:
    """The current size of an adaptive window in a run, computed from the latencies of jobs that have ended."""

    def __init__(self, settings: Adaptive) -> None:
        self.settings: Final = settings
        self.size = settings.minimum
        self._shrunk_at = (
            -math.inf
        )  # jobs that started before this time ran in a larger window, and are ignored
        self._successes = 0  # how many jobs have succeeded since the last window's worth was complete or it shrank
        self._was_full = (
            False  # whether all slots were taken when one of these jobs succeeded
        )
        self._latencies: list[float] = []  # those for the next mean
        self._lowest_mean = math.inf
        # The number of higher means after the lowest mean.
        self._lowest_age = 0
        # The latest mean divided by the lowest mean.
        self._latency_ratio = 1.0

    def record_success(self, started_at: float, now: float, is_full: bool) -> None:
        """Record that a job has succeeded. `is_full` tells whether all slots were taken."""
        if started_at < self._shrunk_at:
            return
        self._successes += 1
        self._was_full |= is_full
        self._latencies.append(now - started_at)
        if len(self._latencies) >= max(MIN_JOBS_IN_MEAN, self.size):
            self._adjust_to_mean(sum(self._latencies) / len(self._latencies), now)
        if self._successes >= self.size:
            if self._was_full and self._latency_ratio <= STEADY_RATIO:
                self.size = min(self.settings.maximum, self.size + 1)
            self._successes, self._was_full = 0, False

    def record_overload(self, started_at: float, now: float) -> None:
        """Record that a job has failed because the server is overloaded."""
        if started_at >= self._shrunk_at:
            self._shrink(BACKOFF_FACTOR, now)

    def _adjust_to_mean(self, mean: float, now: float) -> None:
        self._latencies.clear()
        self._lowest_age += 1
        if mean <= self._lowest_mean:
            self._lowest_mean = mean
            self._lowest_age = 0
        self._latency_ratio = mean / self._lowest_mean if self._lowest_mean > 0 else 1.0
        if self._lowest_age >= MAX_LOWEST_AGE:
            self._lowest_mean = math.inf
            self._lowest_age = 0
            self._shrink(MIN_REMAINING_FRACTION, now)
        elif self._latency_ratio > OVERLOAD_RATIO:
            self._shrink(
                max(MIN_REMAINING_FRACTION, STEADY_RATIO / self._latency_ratio), now
            )

    def _shrink(self, fraction: float, now: float) -> None:
        self.size = max(self.settings.minimum, int(self.size * fraction))
        self._shrunk_at = now
        self._successes, self._was_full = 0, False
        self._latencies.clear()
        self._latency_ratio = 1.0


class AdaptiveWindow(_instruments.Part):
    """Sets the number of slots of a run, by its `Adaptive` window, after each attempt of a job that has a slot."""

    def __init__(self, run: _run.Run, settings: Adaptive) -> None:
        self._run = run
        self.controller = WindowController(settings)

    def settled(self, job: AbstractJob[Any]) -> None:
        """Count the last attempt of a job as a success or as overload. Other failures do not count.

        Clean-up jobs have no slot, so they are not counted.
        """
        began = latest_start(job)
        ended = job.finished_at
        if began is not None and ended is not None and job in self._run.line.holders:
            self.attempt_ended(job, began, ended, job.raised_exception())

    def attempt_ended(
        self,
        job: AbstractJob[Any],
        began: float,
        ended: float,
        error: BaseException | None,
    ) -> None:
        """Count an attempt of a job. The window may shrink before the job takes a slot again."""
        if takes_slot(job):
            slower_on = self.controller.settings.slower_on
            line = self._run.line
            # The truth of an exception is the code of its class, which may raise.
            leaves = []
            if error is not None:
                leaves = _user_code.leaf_exceptions(error)
            has_timed_out = has_moved_on(job) and issubclass(
                _errors.JobTimeout, slower_on
            )
            if has_timed_out or any(isinstance(leaf, slower_on) for leaf in leaves):
                self.controller.record_overload(began, ended)
            elif job.is_succeeded():
                self.controller.record_success(began, ended, is_full=line.is_full())
            if self.controller.size != line.size:
                self._run.steering.resize(self._run, self.controller.size)
