"""What to do, what it requires, and what became of it: `AbstractJob` and the fields a run works on.

A run (`_run`, `_worker`) writes the private fields below the line "of a run"; nobody else does. Everything here is
bookkeeping in memory: nothing waits but `wait_settled`.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, TypeVar, cast

from . import _backend, _errors, _labels, _options, _requirements
from ._outcomes import FREED, Failure, RunFacts, no_result
from ._settings import Settings
from ._states import JobState, OnTimeout, RunIf

if TYPE_CHECKING:
    from ._run import Run
    from ._scheduler import BaseScheduler
    from ._worker import Worker

T = TypeVar("T")

IDLE: Final = JobState.IDLE  # a member of an enumeration takes as long to look up as all else that is set here


class AbstractJob(Settings, Generic[T]):
    """Something to do, once all that it requires has settled: the base of every kind of job.

    A subclass defines `async def co_run(self)`, whose value is the job's result, and may define
    `async def co_shutdown(self)`, which each run calls once at its end, whether the job was started or not. It calls
    `super().__init__(**options)` and may use any attribute name without a leading underscore that is no attribute,
    method or option of this class.

    Args:
        label: the name under which people see the job; None makes one out of what it does.
        critical: whether its failure ends the run of its scheduler; None leaves it to the scheduler's
            `critical_jobs`, then to the scheduler's own `critical`, and so on outwards; False in the end.
        forever: whether it runs beside the others until all of those have settled, and is cancelled then. It takes
            no slot of the window, and nothing may require it.
        required: what it requires: jobs, Sequences, None, or collections of these; see `requires`.
        scheduler: a scheduler to add it to at once.
        timeout: seconds that each call of `co_run` may take, more than 0; None or infinity for no limit.
        on_timeout: what happens then: "fail" with `JobTimeout`, "restart" it, or "move_on" with the result None.
        restarts: how often at most "restart" starts it again before it fails, 0 or more; None for no limit.
        retry: how many further attempts it has when it raises an `Exception`, 0 or more; or any decorator of an async
            function, such as those of stamina and tenacity, which then decides. A restart belongs to its attempt.
        run_if: "settled" runs it whatever became of all it requires; "succeeded" only if all of them succeeded;
            "failed" only if one of them failed.
        keep_result: False gives the result up when the last job that has it as an argument has started.
        own_task: gives the job a task of its own, which no other job shares before or after it. Jobs share
            underlying tasks otherwise, one after the other: what is keyed by the current task needs this.

    Raises:
        TypeError: an option of the wrong type.
        ValueError: a number out of its range, an unknown `on_timeout`, or a scheduler that can't take the job.

    Example:
        >>> class Greeting(AbstractJob):
        ...     async def co_run(self):
        ...         return "hello"
        >>> Greeting(label="greet", timeout=5)
        <Greeting `greet` idle>

    """

    __slots__ = (
        "__weakref__",
        "_facts",
        "_finished_at",
        "_outcome",
        "_pending",
        "_required",
        "_started_at",
        "_state",
        "_successors",
        "_worker",
    )

    # Whether a worker calls `_function(*_args)` itself, of jobs with no `_limits`: one coroutine less than `co_run`.
    _called_in_frame: ClassVar[bool] = False
    # Whether its class defines a `co_shutdown` of its own.
    _shuts_down: ClassVar[bool] = False
    # Whether a job runs for ever but may be required, because it says when it is ready.
    _is_service: ClassVar[bool] = False
    # Whether it is handed over as it is when it is an argument of a job, and is no dependency then.
    _is_passed_as_it_is: ClassVar[bool] = False
    # Whether `co_run` keeps the job's timeout itself, and raises its `JobTimeout`.
    _limits_itself: ClassVar[bool] = False

    # What must settle before: a tuple, or a dict from MANY_REQUIREMENTS on; the order is that of being added.
    _required: tuple[AbstractJob[Any], ...] | dict[AbstractJob[Any], None]
    # ---- of a run: written by it alone
    _state: JobState
    _outcome: Any  # the value if SUCCEEDED; a Failure if FAILED or BLOCKED; None before
    _started_at: float | None
    _finished_at: float | None
    _facts: RunFacts | None
    # How many of the required have not settled yet. Below 0: no run has counted them. Meaningful while IDLE.
    _pending: int
    # Those whose `_pending` counts this job; there while a run is under way and the job has not settled. One alone
    # stands for itself, a few in a tuple: lists for all would be what the collector spends most time on.
    _successors: AbstractJob[Any] | tuple[AbstractJob[Any], ...] | list[AbstractJob[Any]] | None
    _worker: Worker | None  # who runs it; there while RUNNING

    def __init__(
        self,
        *,
        label: str | None = None,
        critical: bool | None = None,
        forever: bool = False,
        required: Any = None,
        scheduler: BaseScheduler | None = None,
        timeout: float | None = None,
        on_timeout: OnTimeout = "fail",
        restarts: int | None = None,
        own_task: bool = False,
        retry: _options.Retry = None,
        run_if: RunIf = "settled",
        keep_result: bool = True,
        _inputs: tuple[AbstractJob[Any], ...] = (),
    ) -> None:
        self._label = label if label is None else str(label)
        self._critical = critical
        self._forever = forever
        self._scheduler = None
        self._required = ()
        self._successors = self._outcome = self._started_at = self._finished_at = self._facts = self._worker = None
        self._pending = -1
        self._state = IDLE
        if timeout is None and on_timeout == "fail" and restarts is None and not own_task and retry is None:
            self._limits = None if self._called_in_frame and not forever else _options.NO_LIMITS
        else:
            who = self._name_for_errors()
            self._limits = _options.limits(timeout, on_timeout, restarts, own_task, retry, who)
        if run_if == "settled" and keep_result and not _inputs:
            self._rule = None
        else:
            self._rule = _options.rule(run_if, keep_result, _inputs, self)
            self._required = _requirements.extended((), _inputs)
        if required is not None:
            plain = _requirements.plainly(required, AbstractJob)
            if plain is None or self._required:
                self.requires(required)
            else:  # there can be no cycle yet, and no scheduler to tell
                self._required = _requirements.extended((), plain)
        if scheduler is not None:
            scheduler.add(self)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Note what the class defines, so that a run need not look at each job."""
        super().__init_subclass__(**kwargs)
        cls._shuts_down = cast(Any, cls).co_shutdown is not cast(Any, AbstractJob).co_shutdown

    async def co_run(self) -> T:
        """Do the job's work and return its result; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} must define async def co_run(self)")

    async def co_shutdown(self) -> None:
        """Release what the job holds; called once at the end of each run, started or not. Does nothing here."""

    def close(self) -> None:
        """Give up for good whatever the job holds that was never used. Does nothing here."""

    # ---- what it is

    @property
    def scheduler(self) -> BaseScheduler | None:
        """The one scheduler that the job is in, or None."""
        return self._scheduler

    @property
    def required(self) -> AbstractSet[AbstractJob[Any]]:
        """What it requires, a view in the order in which it was added; only `requires` writes it."""
        return _requirements.Requirements(self)

    @property
    def path(self) -> str:
        r"""The labels from inside the outermost scheduler down to the job, joined by "/".

        Of siblings with equal labels the second has "#2" behind its own, and so on; a "/" within a label is "\/".
        A job that is in no scheduler, or is the outermost one, has its label as path.
        """
        return _labels.path(self)

    def requires(self, *requirements: Any, remove: bool = False) -> Self:
        """Let the job wait until others have settled, whatever becomes of them.

        Args:
            requirements: jobs, Sequences (their last job is meant), None (nothing), or collections of these.
            remove: takes these requirements away instead.

        Returns:
            The job itself.

        Raises:
            TypeError: something that is none of these.
            CycleError: the job itself, or, while its scheduler runs, something that waits for it already.
            ValueError: while its scheduler runs, a requirement that runs for ever.
            KeyError: with `remove`, something that it does not require.
            RuntimeError: while its scheduler runs, `remove`, a job that is not IDLE any more, or another thread.

        Example:
            >>> a, b = AbstractJob(label="a"), AbstractJob(label="b")
            >>> b.requires(a, None, [a])
            <AbstractJob `b` idle>
            >>> list(b.required)
            [<AbstractJob `a` idle>]

        """
        if remove:
            self._refuse_during_run("requires(..., remove=True)")
            self._drop_requirements(self._flatten(requirements))
            return self
        required = self._required
        new = [job for job in dict.fromkeys(self._flatten(requirements)) if job not in required]
        if self in new:
            raise _errors.CycleError([self])
        scheduler = self._scheduler
        if scheduler is not None:
            scheduler._unchecked = True
            if scheduler._run is not None:
                scheduler._run.admit_requirements(self, new)
        self._required = _requirements.extended(required, new)
        return self

    def _flatten(self, requirements: tuple[Any, ...]) -> Iterable[AbstractJob[Any]]:
        plain = _requirements.plainly(requirements, AbstractJob)
        if plain is not None:
            return plain
        return _requirements.flatten(requirements, f"requires() of {self._name_for_errors()}", "_last")

    def _drop_requirements(self, jobs: Iterable[AbstractJob[Any]]) -> None:
        dropped = set(jobs)
        for job in dropped:
            if job not in self._required:
                raise KeyError(f"{self.label!r} does not require {job.label!r}: there is nothing to remove")
        self._refuse_dropping(dropped)
        if self._scheduler is not None:
            self._scheduler._unchecked = True
        self._required = _requirements.extended((), [job for job in self._required if job not in dropped])

    def _refuse_dropping(self, jobs: Iterable[AbstractJob[Any]]) -> None:
        for job in jobs:
            if self._rule is not None and job in self._rule.inputs:
                raise ValueError(
                    f"{self.label!r} has {job.label!r} as an argument, and needs its result: "
                    f"to hand over the job itself, write ref(job)"
                )

    # ---- what became of it

    @property
    def state(self) -> JobState:
        """Where the job is in its life."""
        return self._state

    def is_idle(self) -> bool:
        """Tell whether it waits for what it requires, or no run has begun."""
        return self._state is JobState.IDLE

    def is_scheduled(self) -> bool:
        """Tell whether it waits for nothing but a slot."""
        return self._state is JobState.SCHEDULED

    def is_running(self) -> bool:
        """Tell whether it runs right now."""
        return self._state is JobState.RUNNING

    def is_done(self) -> bool:
        """Tell whether it ran to its end: SUCCEEDED or FAILED."""
        return self._state is JobState.SUCCEEDED or self._state is JobState.FAILED

    def is_settled(self) -> bool:
        """Tell whether it is in a final state."""
        return self._state.is_settled

    @property
    def started_at(self) -> float | None:
        """When its first attempt started: seconds on the backend's clock."""
        return self._started_at

    @property
    def finished_at(self) -> float | None:
        """When it settled: seconds on the backend's clock."""
        return self._finished_at

    @property
    def elapsed(self) -> float | None:
        """Seconds from its start to its end, or until now while it runs; None if it never started."""
        if self._started_at is None:
            return None
        if self._finished_at is not None:
            return self._finished_at - self._started_at
        return self._worker.run.clock() - self._started_at if self._worker is not None else None

    @property
    def attempts(self) -> int:
        """How many attempts were started in this run; a restart by timeout belongs to the same attempt."""
        if self._started_at is None:
            return 0
        return 1 + (self._facts.further_attempts if self._facts is not None else 0)

    @property
    def timed_out(self) -> bool:
        """Whether its timeout has cut it at least once in this run."""
        return self._facts is not None and self._facts.timed_out

    def result(self) -> T:
        """Return what the job returned; whatever else became of it is raised.

        Raises:
            BaseException: what the job raised, if it FAILED: again and again, with its first traceback.
            JobCancelled: it is CANCELLED.
            JobSkipped: it is SKIPPED.
            JobNotDone: it has not settled.

        """
        if self._outcome is not FREED and (self._state is JobState.SUCCEEDED or self._is_ready()):
            return cast(T, self._outcome)
        raise no_result(self)

    def raised_exception(self) -> BaseException | None:
        """Return what it raised if it FAILED, why it cannot run if it is BLOCKED, else None."""
        return self._outcome.exception if isinstance(self._outcome, Failure) else None

    def cancel(self) -> None:
        """End the job if it runs, or keep it from starting; does nothing if it has settled. Never critical.

        Raises:
            RuntimeError: no run of its scheduler is under way, or another thread.

        """
        self._run_under_way("cancel()").cancel_job(self)

    async def wait_settled(self) -> None:
        """Wait until the job is in a final state; a checkpoint in any case.

        Before the first run of its scheduler it waits for that.

        Raises:
            JobNotDone: the run ended without reaching the job, or the job is in no scheduler.
            RuntimeError: the job itself calls.

        """
        backend = _backend.current()
        if self._worker is not None and backend.is_current(self._worker.task):
            raise RuntimeError(f"{self.label!r} waits for itself to settle: that would never end")
        await backend.checkpoint()
        while not self._state.is_settled:
            if self._scheduler is None or self._scheduler._will_not_reach():
                raise _errors.JobNotDone(f"{self.label!r} is {self._state.value}: no run is going to reach it")
            self._facts = self._facts or RunFacts()
            if self._facts.event is None:
                self._facts.event = backend.event()
            await self._facts.event.wait()

    # ---- for the house

    def _run_under_way(self, what: str) -> Run:
        if self._scheduler is None or self._scheduler._run is None:
            raise RuntimeError(f"{what} of {self.label!r}: its scheduler is not running")
        return self._scheduler._run

    def _was_in_a_run(self) -> bool:
        """Tell whether a run has left anything in its fields."""
        return self._state is not JobState.IDLE or self._pending >= 0 or self._successors is not None

    def _reset(self) -> None:
        """Forget the last run."""
        self._state = JobState.IDLE
        self._outcome = self._started_at = self._finished_at = self._facts = self._successors = self._worker = None
        self._pending = -1

    def _has_shutdown(self) -> bool:
        """Tell whether `co_shutdown`, where a class defines one, has anything to do."""
        return True

    def _is_ready(self) -> bool:
        """Tell whether it is a service that has said so: it counts as succeeded for those that require it."""
        return self._state is JobState.RUNNING and self._facts is not None and self._facts.ready

    def _is_one_shot(self) -> bool:
        """Tell whether it can start only once."""
        return False

    def _is_spent(self) -> bool:
        """Tell whether it has had its only start."""
        return False

    def _members(self) -> Iterable[AbstractJob[Any]]:
        return (self,)

    def _last(self) -> Iterable[AbstractJob[Any]]:
        return (self,)

    def __repr__(self) -> str:
        """Show kind, label and state."""
        return f"<{type(self).__name__} `{_labels.printable(self.label)}` {self._state.value}>"
