"""`First`: a nested scheduler that has its result as soon as enough of its jobs have succeeded."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Unpack, cast, overload

from ._core.job._arguments import result_of
from ._core.job._job_options import check_number, seconds
from ._core.job._option_descriptors import Option, set_docs_and_signature
from ._core.parts._first_rule import winners_of
from ._scheduler import Scheduler, SchedulerOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._core.job._job import AbstractJob
    from ._core.job._requirements import Required
    from ._core.run._run import Run

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


def _check_enough(value: Any, name: str, subject: str | Callable[[], str]) -> int:
    """Check the option `enough`: a whole number, 1 or more."""
    number = check_number(value, name, subject)
    if not number:
        raise ValueError(f"{name}={number} of {subject if isinstance(subject, str) else subject()}: give 1 or more")
    return number


def _check_stagger(value: Any, name: str, subject: str | Callable[[], str]) -> float | None:
    """Check the option `stagger`: as a time limit, but infinity does not mean None, which starts all at once."""
    return value if isinstance(value, float) and value == inf else seconds(value, name, subject)


class First(Scheduler, Generic[T_co]):
    """A nested scheduler that has succeeded as soon as `enough` of its jobs have; the others are then cancelled.

    Its result, which another job gets if the `First` is among its arguments, is the result of the first job that
    succeeded; with `enough` > 1, it is the list of their results, in the order in which they succeeded. The jobs that
    were cancelled have unwound when the `First` settles. Each job takes needs, rates and tokens like any other. The
    `First` takes one slot of the window in which it stands, as any nested scheduler does.

    A member that another member requires does not compete: `First(Sequence(connect, ask), other)` waits for `ask` or
    `other`. With `run_if="failed"`, a member is a fallback of those that it requires, and competes with them.

    If so many jobs have failed that the others cannot be enough, the rest is cancelled, and the `First` is FAILED, with
    an `ExceptionGroup` of their failures; with a `BudgetSpent`, if that is the failure of each. A job of a `First` is
    critical only if its own `critical` is True, or the `critical_jobs` of the `First`. Its failure then ends the
    `First` at once, although enough others could still succeed.

    **A `First` is one job** for enclosing schedulers: their counts, `results()` and `failures()` have the `First`, and
    not its jobs, whether these failed, lost, or never started. If its running jobs decide the result after a `drain()`,
    it ends as without one.

    A journal records which jobs have decided the result. A later run restores the `First` as a whole, without starting
    any of its jobs, if these can be restored. Otherwise, or if the `First` runs alone, the journal is asked about each
    job before any starts, and the recorded ones count first, in the same order.

    Args:
        jobs_or_sequences: the jobs that compete, as for a `Scheduler`.
        enough: how many of them have to succeed, 1 or more.
        stagger: seconds between the starts, more than 0: a job starts when the one before it has failed, or this long
            after the one before it has started (infinity: only when that has settled). None starts all at once.
        options: those of a `Scheduler`, and of every job.

    Raises:
        TypeError: an argument is not a job, or an option has the wrong type.
        ValueError: a number is out of range, or a job is already in another scheduler.

    Example:
        >>> async def ask(server, seconds):
        ...     await anyio.sleep(seconds)
        ...     return server
        >>> answer = First(Job(ask, "far", 5), Job(ask, "near", 0))
        >>> tell = Job(ask, answer, 0)
        >>> Scheduler(answer, tell).run(), answer.result(), tell.result()
        (True, 'near', 'near')

    """

    __slots__ = ("_enough", "_stagger")

    _can_be_input = True

    enough: Option[int] = Option(1, _check_enough)
    stagger: Option[float | None] = Option(None, _check_stagger)
    _enough: int
    _stagger: float | None

    @overload
    def __init__(
        self: First[T], *jobs: AbstractJob[T], enough: Literal[1] = 1, stagger: float | None = None,
        **options: Unpack[SchedulerOptions],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: First[list[T]], *jobs: AbstractJob[T], enough: int, stagger: float | None = None,
        **options: Unpack[SchedulerOptions],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: First[Any], *jobs_or_sequences: Required, enough: int = 1, stagger: float | None = None,
        **options: Unpack[SchedulerOptions],
    ) -> None: ...  # fmt: skip
    def __init__(
        self,
        *jobs_or_sequences: Required,
        enough: int = 1,
        stagger: float | None = None,
        **options: Unpack[SchedulerOptions],
    ) -> None:
        self._enough, self._stagger = 1, None  # pyright: ignore[reportIncompatibleVariableOverride]
        all_options: Any = {**options, "enough": enough, "stagger": stagger}
        super().__init__(*jobs_or_sequences, **all_options)

    if TYPE_CHECKING:  # the result of a `Scheduler` is a bool

        def result(self, *, default: Any = None) -> T_co:  # type: ignore[override]
            """Return the result of the job that was first; see `AbstractJob.result`."""
            raise NotImplementedError

        def __await__(self) -> Generator[Any, Any, T_co]:  # type: ignore[override]
            """Wait until the job has settled, and return its result."""
            raise NotImplementedError

    def _nested_result(self, run: Run) -> Any:
        super()._nested_result(run)
        results = [result_of(job) for job in winners_of(run)]
        return results[0] if self._enough == 1 else results


set_docs_and_signature(First, cast(Any, First).__init__)
