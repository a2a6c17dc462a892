"""`AbstractJob`: the base class of all jobs, with their options, requirements, state and outcome. Also `RunExtras`.

Runs write the private attributes below the line "for a run", and `_reset` resets them. Nothing here waits, except
`wait_settled` and `await job`.
"""

from __future__ import annotations

from collections.abc import (
    Awaitable,
    Callable,
    Container,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from collections.abc import Set as AbstractSet
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    NamedTuple,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from ... import _hints
from .. import backend as _backend
from ..base import _amounts
from ..base._states import (
    CANCELLED,
    FAILED,
    IDLE,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    JobState,
    OnTimeout,
    RunIf,
    WaitCause,
)
from ..base._text_forms import short_repr
from ..base._user_code import is_from_package
from . import _errors, _job_options, _labels, _option_descriptors, _requirements
from ._ancestors import member_of_run
from ._argument_types import T as T
from ._job_options import BoxStyle, check_text, or_none
from ._option_descriptors import LabelOption, Option, ReadOnlyOption, SharedOption
from ._retry import Retry, check_retry

if TYPE_CHECKING:
    from typing import NoReturn

    from typing_extensions import TypeIs

    from ..._scheduler import Scheduler
    from ..base._amounts import Need
    from ..run._run import Run
    from ..run._worker import Worker
    from ..scheduler._base_scheduler import BaseScheduler
    from ._job_options import AnyPath, JobOptions, JobSave, RetryOption
    from ._requirements import Required, StoredRequirements

D = TypeVar("D")


class NoDefault:
    """What `result()` takes for no default."""

    def __repr__(self) -> str:
        return "NO_DEFAULT"


NO_DEFAULT: Final = NoDefault()


class Throttling(NamedTuple):
    """An attempt that raised `Throttled`, and so does not count. Its times are on the backend's clock."""

    began: float
    ended: float
    closed_until: tuple[tuple[str, float], ...]
    """The keys of the throttled resources, each with the time until which no job that needs it starts."""


class FailedAttempt(NamedTuple):
    """A failed attempt of a job that was attempted again. Its times are on the backend's clock."""

    number: int
    began: float
    ended: float
    error: str
    """The type and the text of the exception, on one line, or "" if it succeeded, and its group was tried again."""
    backed_off_until: float
    """The end of the backoff after it: the next attempt could begin then."""
    had_settled: bool
    """Whether the job had settled, and waited for somebody to try it again, not for a backoff."""


MAX_FAILED_ATTEMPTS: Final = 64
"""The maximum number of failed attempts of a job that are kept: a service may be retried for a year."""


class Restoration(NamedTuple):
    """The facts that a journal has about a job that it restored."""

    settled_at: float | None = None
    """The time when the job settled in the run that ran it, in seconds since 1970, or None if unknown."""
    took: float | None = None
    """The seconds that its attempts ran in that run, or None if unknown."""
    used: tuple[tuple[str, float], ...] = ()
    """The amounts of budgets that the job used in that run, each with the name of the budget."""


class RunExtras:
    """The part of a job's state in a run that few jobs need, created on demand.

    Class attributes hold the defaults, so `(job._extras or RunExtras).fraction` has a value for each job. Any thread
    may read it.
    """

    timed_out_in = 0  # the last attempt that a timeout ended, or 0
    # The state that the job will have, while `on_succeeded` or `on_settled` runs.
    coming_state: JobState | None = None
    # The time of the call of `started()`, which views read even after the run.
    ready_at: float | None = None
    consumer_count = 0  # the number of jobs that have not started and need the result, counted with `keep_result=False`
    drops_results = False  # whether the job is counted as a consumer of inputs that have `keep_result=False`
    # Functions to call once, when the job has settled, or when its run has ended without reaching it.
    listeners: list[Callable[[AnyJob], None]] | None = None
    retry_count = 0  # the number of failed attempts before another
    earlier_retries = 0  # how many of these came before the job was tried again: its `retry` does not count them
    keeps_succeeded = False  # whether the job is a scheduler that is tried again, and keeps its members as they are
    # When the first attempt started, if the job was retried.
    first_started_at: float | None = None
    # If it is cancelled because it runs with a result that was taken back: the jobs in it to put back as it ends.
    repeats: tuple[AnyJob, ...] | None = None
    is_untold = False  # whether `on_settled` was not called with its end, or has raised
    earlier_seconds = 0.0  # how long the earlier attempts ran
    # When the next attempt may start, while the job waits for that.
    backoff_until: float | None = None
    # Amounts of budgets that ended attempts have used, by name.
    earlier_use: dict[str, Any] | None = None
    failed_attempts: tuple[FailedAttempt, ...] = ()  # the last ones
    # The fraction of its work that the job has reported as done.
    fraction: float | None = None
    time_limit: Any = None  # the `TimeLimit` of the current call, if the job has an `idle_timeout`, or is a service
    throttlings: tuple[Throttling, ...] = ()
    # When the first of the last attempts began, which were all throttled.
    throttled_since: float | None = None
    # The cause, beginning and end of each wait in an attempt: for the machine, for imports and files.
    inner_waits: tuple[tuple[WaitCause, float, float], ...] = ()
    grant: Any = None  # the resources of the job, a `Grant`
    runs_once = False  # whether no later run of the scheduler can reach the job
    context: Any = None  # the context of the code that added the job, if it differs from the context of the run
    # How many attempts in a row began and ended at one instant, before another.
    instant_attempts = 0
    has_added_jobs = False  # whether the job has added jobs, in a run with a journal
    # Set if the result comes from the run's journal.
    restoration: Restoration | None = None
    # The first attempt in which its function has got another code, and the code with which that attempt had begun.
    first_code: tuple[int, object] = (-1, None)
    is_known_by_call = False  # whether `map` has added the job in a run with a journal, which the arguments identify
    # Why the run's journal did not restore the job.
    not_restored_reason: str | None = None
    # The first change that makes the job run again, though its journal has it.
    rerun_cause: str | None = None
    # The jobs that the body of this job is awaiting.
    awaited_jobs: tuple[AnyJob, ...] = ()

    def is_empty(self) -> bool:
        """Return whether all attributes that a settled job needs have their defaults."""
        facts = (
            self.retry_count,
            self.consumer_count,
            self.restoration,
            self.not_restored_reason,
            self.timed_out_in,
            self.throttlings,
            self.inner_waits,
        )
        return not any(facts) and self.fraction is self.ready_at is None

    def add_retry(
        self,
        began: float,
        ended: float,
        error: BaseException | None,
        backoff: float,
        *,
        had_settled: bool = False,
    ) -> None:
        """Count another attempt, after a backoff. The last attempt ended with `error`, or with None if it succeeded."""
        self.retry_count += 1
        self.throttled_since = None
        self.earlier_seconds += ended - began
        text = ""
        if error is not None:
            text = _errors.one_line_error(error)
        attempt = FailedAttempt(
            self.retry_count, began, ended, text, ended + backoff, had_settled
        )
        earlier = self.failed_attempts[1 - MAX_FAILED_ATTEMPTS :]
        self.failed_attempts = (*earlier, attempt)

    def begin_anew(self, now: float) -> None:
        """Let the `retry` of a job begin anew, which waits for a requirement again or is tried again."""
        if self.failed_attempts and self.failed_attempts[-1].backed_off_until > now:
            *earlier, last = self.failed_attempts
            self.failed_attempts = (*earlier, last._replace(backed_off_until=now))
        self.backoff_until = self.throttled_since = None
        self.earlier_retries = self.retry_count

    def add_listener(self, listener: Callable[[AnyJob], None]) -> None:
        """Add a function to call once, when the job has settled, or its run has ended without reaching it."""
        self.listeners = self.listeners or []
        self.listeners.append(listener)

    def notify_listeners(self, job: AnyJob) -> None:
        listeners = self.listeners
        self.listeners = None
        for listener in listeners or ():
            listener(job)


def _reject_hiding_attributes(kind: type[AnyJob]) -> None:
    """Reject a user-defined class that hides an attribute of jobs which trioflow reads.

    Raises:
        AttributeError: the class has such an attribute.

    """
    job_classes: list[Any] = [
        base for base in kind.__mro__[1:] if issubclass(base, AbstractJob)
    ]
    bases = [base for base in job_classes if is_from_package(base)]
    for name, value in vars(kind).items():
        base = next((base for base in bases if name in vars(base)), AbstractJob)
        hidden = vars(base).get(name)
        is_option = name in kind._declared_options
        if not hasattr(hidden, "__set__"):
            is_rejected = callable(hidden) and not callable(value)
        else:
            # Properties that only some kinds have, such as `last_result`, may be overridden.
            is_override = isinstance(value, property) or not kind._is_scheduler
            is_rejected = is_option or name in vars(AbstractJob) or not is_override
        if is_rejected:
            advice = "choose another name"
            if is_option:
                advice = f"pass {name}= to super().__init__()"
            raise AttributeError(
                f"class {kind.__name__}: {name!r} hides {base.__name__}.{name}; {advice}",
                name=name,
            )


def overrides(kind: Any, base: Any, method: str) -> bool:
    """Return whether a class has a method of its own in place of the one of a base class."""
    return getattr(kind, method) is not getattr(base, method)


def _get_label(job: AnyJob) -> str:
    """Return the label of a job, or its default label, or the name of its class if that fails, or is no text."""
    if job._label is not None:
        return job._label
    try:
        label: object = job._default_label()
    except Exception:
        # Raised by a user-defined `default_label`, or by an attribute of a user-supplied object.
        label = None
    if not isinstance(label, str):
        label = type(job).__name__
    return label


def _get_needs(job: AnyJob) -> dict[str, Any]:
    """Return the amounts that a job needs from pools, as numbers by name. This is the getter of `needs`."""
    needs: dict[str, Any] = {}
    for name, amount in job._options.needs.items():
        if name not in _job_options.RUN_RESOURCES:
            needs[name] = _amounts.need_as_numbers(amount)
    return needs


class AbstractJob(Generic[T]):
    """The base class of every kind of job: work that starts when all its requirements have settled.

    Use it as the base class of a kind of your own, if no other kind fits.

    A subclass defines `async def co_run(self)`, which returns the job's result. It may define
    `async def co_shutdown(self)`, which each run calls once at its end, whether the job was started or not, and
    `check_before_run(self)`, which raises an error if the job cannot run: the run is then rejected. An `__init__` has
    to call `super().__init__(**options)`. A subclass may use any attribute name without a leading underscore that is
    not an attribute, method or option of this class.

    Each option is also an attribute. It can be set while no run is in progress, and takes effect in the next run.
    `label` can be set at any time, `timeout` and `idle_timeout` of a settled job also during a run, for `try_again()`,
    and `required` and `scheduler` only by methods.

    Args:
        **Place.** Usually you set `label`, and `required` where no result is passed on.

        label: the name of the job for people, or None for a default label made from its work. It may also be set during
            a run.
        redact: whether the job's arguments are secret. True keeps them (of a command, its command line and environment)
            out of labels, logs, traces and reports.
        required: the job's requirements: jobs, Sequences, None, or collections of these. See `requires`.
        scheduler: a scheduler to which the job is added.
        forever: whether the job runs beside the ordinary jobs and is cancelled when all of these have settled. It takes
            no slot of the window, and no job may require it, unless it is a `Service`.

        **Failure.** Usually you set `retry`, and `critical=True` where the rest must not go on without the job.

        critical: the effect of the job's failure on its scheduler. True: it ends the run at once. False: it is
            tolerated, so the run may still succeed, and jobs that require the job for order run. None, if no enclosing
            scheduler has a value of `critical_jobs`: the run goes on with the jobs that do not depend on this job, and
            has failed.
        retry: a `Retry`, which says how often the job is attempted again after an exception. During the backoff before
            an attempt it holds nothing. A number n stands for `Retry(n, first=0)`.
        run_if: "succeeded" runs the job if all its requirements succeeded, "settled" in any case, and "failed" only if
            at least one of its requirements failed. Inputs must always succeed.
        log: whether a failure of the job is logged. On a scheduler, whether failures of its jobs, at any depth, and the
            end of its run are logged. Incidents, such as an instrument that raises, are always logged.

        **Time.** Usually you set `timeout`.

        timeout: seconds that each call of `co_run` may take, more than 0. None or infinity is no limit.
        idle_timeout: seconds, more than 0, for which each call may go on without a sign of life: a call of
            `progress()`, for a command also its output, and for a scheduler any event of a job in it, at any depth.
            None or infinity is no limit. `on_timeout` applies as for `timeout`. The `JobTimeout` names the missing
            sign.
        on_timeout: the consequence of a timeout: "fail" with `JobTimeout`, which `retry` may see, or "move_on", which
            makes the job SUCCEEDED with the result None. Without a timeout, it has no effect.
        expected_duration: the expected duration in seconds, finite, 0 or more, or None if unknown. The policy of the
            scheduler and the monitor's estimate use it.

        **Limits.** Usually you set `needs`. The window is the scheduler's.

        needs: the amounts that the job takes from pools while it runs, by name, such as {"cpu": 2, "ram": "4 GiB"}. For
            a `PerKey`, this is the key. The job starts when all of them are free at the same time. Each name is looked
            up in the pool of the nearest enclosing scheduler that has it. A scheduler holds its needs for its whole
            run, and shares them among its members.
        priority: a whole number. Among the ready jobs of a scheduler, the jobs with the highest priority start first,
            whatever the scheduler's policy.
        keep_result: whether the result is kept. If False, it is dropped when all jobs that have it as an argument have
            started.
        own_task: whether the job gets a task of its own. On a scheduler, whether each job in it does, at any depth.
            Otherwise a task may run several jobs, one after the other, unless a job has left a reference to the task,
            such as a key in a dictionary of sessions. Only code that identifies the current task by a number, such as
            `id(task)`, needs this option: it would find the data of an earlier job. On asyncio the loop's task factory
            makes the tasks.

        **Journal.** Usually you set `reads` and `writes` for files, and `version` when the code of the job changes.

        save: how a journal stores the result: by the journal's own "default", as "json", as "pickle", or by a pair of
            functions (dump, load), of which `dump` returns JSON data. None stores nothing, so that the job runs in each
            run.
        key: the identity of the job's work for a journal, in place of its function, arguments and files: any JSON data.
        version: the version of the job's code for a journal: if it has changed, the job runs again.
        restore_if: a function of the stored result that returns whether it still holds, such as whether a table is
            there. With a journal, it is asked once in each run, before the job would be restored: if the answer is
            false, or the function raises, the job runs again, with the jobs that follow it, and views say why. An
            async function is awaited, another is called in a thread; the look-ups of other jobs wait. *Provisional*.
        reads: the files that the job reads: files, directories, and patterns such as `"src/**/*.h"`. With a journal,
            the job runs again when a file has changed. Files that are not named do not count.
        writes: the files and directories that the job writes, from the directory where its attempt begins. If any is
            missing after the job's success, the job has failed. With a journal, the job runs again when any has
            changed. If it fails, times out or is cancelled, files that it has begun to write are renamed to
            NAME.partial at once. These are the files that were not
            there before, except files of other jobs, and files of `writes` that have become shorter.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: a number is out of its range, `on_timeout` or `run_if` is unknown, or the scheduler cannot accept
            the job.

    Example:
        >>> class Greeting(AbstractJob):
        ...     async def co_run(self):
        ...         return "hello"
        >>> Greeting(label="greet", timeout=5)
        <Greeting greet, idle>

    """

    _label: str | None
    # All options but the label, `required` and `scheduler`.
    _options: _job_options.OptionRecord
    # Whether a worker may call `_function(*_args)` itself, and settle the job, because neither its kind nor its options
    # nor the run ask for more. False is always right, so it stays False once it is False.
    _is_plain: bool
    # The jobs among the arguments, each once. Their results take their places.
    _inputs: tuple[AbstractJob[Any], ...]
    _scheduler: BaseScheduler | None
    # The requirements, in the order that they were added: a tuple, or a dict from MANY_REQUIREMENTS on.
    _required: StoredRequirements
    # ---- for a run
    _state: JobState
    # The result or DROPPED if SUCCEEDED, a Failure if FAILED or BLOCKED, a CancelledOutcome if CANCELLED. The result of
    # a service is already here when it is ready. Otherwise None.
    _outcome: Any
    # When the last attempt started, or None while the job waits for another attempt.
    _started_at: float | None
    _finished_at: float | None
    _extras: RunExtras | None
    # The number of requirements that have not settled and are not ready services, while a run counts them, otherwise 0.
    _pending: int
    # The jobs whose `_pending` counts this job: a single job as an object, more in a list. A list for each job would
    # keep the garbage collector busy.
    _successors: AbstractJob[Any] | list[AbstractJob[Any]] | None
    # The worker that runs the job, while it is RUNNING.
    _worker: Worker | None
    __slots__ = ("__weakref__", *__annotations__)

    # Whether a worker may call `_function(*_args)` itself, without the coroutine of `co_run`, if the job `_is_plain`.
    _is_called_directly: ClassVar[bool] = False
    _has_own_shutdown: ClassVar[bool] = False
    _has_own_check: ClassVar[bool] = False
    _is_service: ClassVar[bool] = False
    # Whether the result must be read by `result()`, because `_outcome` may not be the result.
    _has_own_result: ClassVar[bool] = False
    # Whether the job, among the arguments of another job, is an input. Otherwise, it has no result to pass.
    _can_be_input: ClassVar[bool] = True
    # ---- the class arguments, described in `__init_subclass__`
    _box: ClassVar[BoxStyle] = BoxStyle(
        "async function", "box", ("(", ")"), rounded=True
    )
    _keeps_time: ClassVar[bool] = False
    _cannot_be_interrupted: ClassVar[str | None] = None
    # Whether the job takes a slot of its scheduler's window, unless it is a forever job.
    _takes_slot: ClassVar[bool] = True
    # Whether the job runs commands, and so has a `last_result` and a `_command_line()`, which traces show.
    _runs_commands: ClassVar[bool] = False
    # Whether the class defines `status_text()`, which views call while the job runs.
    _has_status_text: ClassVar[bool] = False
    # The limiter whose token the job's body takes itself, in place of a token of the window.
    _own_limiter: Any = None
    # `on_succeeded` and `on_settled` of a `JobKind`, or None if it has neither.
    _callbacks: (
        tuple[Callable[[Any], object] | None, Callable[[Any], object] | None] | None
    ) = None
    # Whether the job is a scheduler. For any object, use `is_scheduler`.
    _is_scheduler: ClassVar[bool] = False

    _declared_options: ClassVar[dict[str, Option[Any, Any]]]

    # ---- options: `JobOptions` has the types of the arguments
    label: Option[str, str | None] = LabelOption(
        None, or_none(check_text), getter=_get_label, settable_in_run=True
    )
    critical: Option[bool | None] = SharedOption(None, or_none(_job_options.flag))
    forever: Option[bool] = SharedOption(False, _job_options.flag)
    required: ReadOnlyOption[AbstractSet[AbstractJob[Any]], Required] = ReadOnlyOption(
        None, "requires()", _requirements.Requirements
    )
    scheduler: ReadOnlyOption[Scheduler | None, BaseScheduler | None] = ReadOnlyOption(
        None, "add() of a scheduler"
    )
    timeout: Option[float | None] = SharedOption(None, _job_options.seconds)
    idle_timeout: Option[float | None] = SharedOption(None, _job_options.seconds)
    on_timeout: Option[OnTimeout] = SharedOption(
        "fail", _job_options.choice_of(OnTimeout)
    )
    own_task: Option[bool] = SharedOption(False, _job_options.flag)
    retry: Option[Retry | None, RetryOption] = SharedOption(None, check_retry)
    run_if: Option[RunIf] = SharedOption(
        "succeeded", _job_options.choice_of(RunIf, _job_options.NO_CONDITION)
    )
    keep_result: Option[bool] = SharedOption(True, _job_options.flag)
    redact: Option[bool] = SharedOption(False, _job_options.flag)
    log: Option[bool] = SharedOption(True, _job_options.flag)
    save: Option[JobSave] = SharedOption("default", _job_options.check_save)
    key: Option[Any, object] = SharedOption(None, _job_options.accept_any)
    version: Option[Any, object] = SharedOption(None, _job_options.accept_any)
    restore_if: Option[Callable[[Any], object] | None] = SharedOption(
        None, or_none(_job_options.check_restore_if)
    )
    reads: Option[tuple[Any, ...], AnyPath | Iterable[AnyPath]] = SharedOption(
        (), _job_options.check_paths
    )
    writes: Option[tuple[Any, ...], AnyPath | Iterable[AnyPath]] = SharedOption(
        (), _job_options.check_paths
    )
    priority: Option[int] = SharedOption(0, _job_options.check_priority)
    expected_duration: Option[float | None] = SharedOption(
        None, or_none(_job_options.duration)
    )
    needs: Option[dict[str, Any], Mapping[str, Need] | None] = SharedOption(
        None, _job_options.check_needs, _get_needs
    )

    def __init__(
        self,
        *,
        _inputs: tuple[AbstractJob[Any], ...] = (),
        **options: Unpack[JobOptions],
    ) -> None:
        self._initialize(_inputs, options)

    def _initialize(self, inputs: tuple[AnyJob, ...], options: JobOptions) -> None:
        """Set all attributes of a new job. `Job` calls this itself: a call with `**options` would copy them twice."""
        self._label = self._scheduler = None
        self._successors = self._outcome = self._started_at = self._finished_at = (
            self._extras
        ) = self._worker = None
        self._pending = 0
        self._state = IDLE
        self._options = DEFAULT_OPTIONS
        self._is_plain = self._is_called_directly
        self._inputs = inputs
        if inputs:
            self._required = _requirements.extend_requirements((), inputs)
        else:
            self._required = ()
        if options:
            self._store_options(options)

    def _store_options(self, options: JobOptions) -> None:
        """Check and store the options.

        `label` and `redact` come first, because the errors about other options depend on them. `required` and
        `scheduler` come last, when the other options are known to be valid.
        """
        required = options.pop("required", None)
        scheduler = None
        remaining: dict[str, Any] = options  # type: ignore[assignment]
        if remaining:
            label = remaining.pop("label", None)
            scheduler = remaining.pop("scheduler", None)
            if label is not None and type(label) is not str:
                label = _job_options.check_text(
                    label, "label", f"a new {type(self).__name__}"
                )
            self._label = label
        if remaining:
            if remaining.get("redact"):
                self._options = REDACTED_OPTIONS
            changed = False
            for name, value in remaining.items():
                if (option := self._declared_options.get(name)) is None:
                    raise self._unknown_option(name)
                if value is not option.default:
                    option.store(self, value)
                    changed = True
            if changed:
                self._check_options()
        if required is not None:
            jobs = _requirements.flatten_simple(required, state_of)
            if jobs is None or self._required:
                self.requires(required)
            else:
                # Without the checks of `requires`, because a new job is in no cycle and no scheduler.
                self._required = _requirements.extend_requirements((), jobs)
        if scheduler is not None:
            if not is_scheduler(scheduler):
                raise not_a_scheduler_error(scheduler, self._name_for_errors())
            scheduler.add(self)

    def __init_subclass__(
        cls,
        *,
        box: BoxStyle | None = None,
        keeps_time: bool | None = None,
        cannot_be_interrupted: str | None = None,
        takes_slot: bool | None = None,
        **kwargs: object,
    ) -> None:
        """Record the class arguments. An argument that is None is inherited.

        Args:
            box: the style of the jobs' boxes in pictures and legends.
            keeps_time: whether `co_run` itself ends the work after the job's timeout and raises the `JobTimeout`. A
                late end is then not logged, unless the work cannot be interrupted.
            cannot_be_interrupted: why the work goes on after a cancellation, and the remedy, as text for the log.
            takes_slot: whether the jobs take a slot of their scheduler's window, and a token of a limiter. Those that
                only wait for something outside need none, and so start at once.
            kwargs: arguments for other base classes.

        Raises:
            TypeError: `box` is not a `BoxStyle`, or has a field of a wrong type.
            AttributeError: an attribute of the class hides an option or property of all jobs, or hides a method but
                cannot be called.

        """
        super().__init_subclass__(**kwargs)
        if not is_from_package(cls):
            _reject_hiding_attributes(cls)
        if box is not None:
            if not isinstance(box, BoxStyle):  # pyright: ignore[reportUnnecessaryIsInstance]
                advice = f"give a trioflow.abc.BoxStyle, BoxStyle({cls.__name__.lower()!r}, 'box')"
                raise TypeError(
                    f"box={short_repr(box)} of class {cls.__name__}: {advice}"
                )
            cls._box = _job_options.check_box(
                box, f"the BoxStyle of class {cls.__name__}"
            )
        given = {
            "_keeps_time": keeps_time,
            "_cannot_be_interrupted": cannot_be_interrupted,
            "_takes_slot": takes_slot,
        }
        for attribute, value in given.items():
            if value is not None:
                setattr(cls, attribute, value)
        cls._has_own_shutdown = overrides(cls, AbstractJob, "co_shutdown")
        cls._has_own_check = callable(getattr(cls, "check_before_run", None))
        has_own_result = overrides(cls, AbstractJob, "result")
        cls._has_own_result = cls._is_service or has_own_result

    async def co_run(self) -> T:
        """Do the job's work and return its result. Each kind of job defines this method.

        Raises:
            NotImplementedError: the class does not define the method.

        """
        raise NotImplementedError(
            f"{type(self).__name__} must define async def co_run(self)"
        )

    async def co_shutdown(self) -> None:
        """Release the job's resources. Each run calls this once at its end, even for jobs that were not started.

        By default it does nothing.
        """

    def __dir__(self) -> list[str]:
        """Return the public names, which Python suggests for unknown ones, without those whose errors have hints."""
        names: list[str] = []
        for name in super().__dir__():
            is_private = name.startswith("_") and not name.startswith("__")
            is_missing = name in _hints.MISSING_ATTRIBUTES and not hasattr(self, name)
            if not (is_private or is_missing):
                names.append(name)
        return names

    def close(self) -> None:
        """Release resources that the job no longer needs, such as a coroutine object. By default this does nothing."""

    @property
    def granted(self) -> Mapping[str, Any]:
        """The resources that the job has while it runs, by name. Each value is a list of named units, or an amount."""
        grant = self._grant()
        if grant is None:
            return {}
        granted: Mapping[str, Any] = grant.to_dict()
        return granted

    def used(self, **amounts: Need) -> None:
        """Correct the amounts that the job takes from a `Rate` or a `Budget`, when the real amounts are known.

        The difference from the amounts taken so far is taken or given back at once, and the job does not wait for it.
        The amounts count from the beginning of the attempt. A thread of the job may call this.

        Args:
            amounts: an amount for each rate or budget, by name. For a rate, this may be a dict of amounts by key, as in
                `needs`. Amounts that are left out do not change.

        Raises:
            RuntimeError: the job is not running.
            ValueError: the job does not need a resource of this name, the resource is neither a rate nor a budget, a
                key is unknown, or an amount is out of range.
            TypeError: an amount is not a number.

        Example:
            >>> async def ask():
            ...     current_job().used(api={"tokens": 950})
            >>> pool = Pool(api=Rate(tokens=1000, per=3600))
            >>> Scheduler(Job(ask, needs={"api": {"tokens": 800}}), pool=pool).run(), round(pool.free["api"]["tokens"])
            (True, 50)

        """
        self._run_while_running("used()").pools.correct_amounts(self, amounts)

    def _run_while_running(self, call_text: str) -> Run:
        """Return the run of the job for a public method. Raise RuntimeError if the job is not RUNNING."""
        worker = self._worker
        if worker is None:
            raise RuntimeError(
                f"{call_text} of {self.label!r}: it is {self._state.value}; call it while the job runs"
            )
        return worker.run

    def _criticality(self) -> bool | None:
        if self._options.critical is not None:
            return self._options.critical
        level = self._scheduler
        while (
            level is not None and level._critical_jobs is None and level._enough is None
        ):
            level = level._scheduler
        return None if level is None else level._critical_jobs

    # ---- its place in the graph

    @property
    def path(self) -> str:
        r"""The labels of the job's enclosing schedulers, except the outermost, and of the job, joined by "/".

        No other job in the outermost scheduler has the same path. If several members of a scheduler have the same
        label, "#2" is appended to the label of the second, and so on. In a label, "\" precedes each "/" and "\", and a
        "#" before a final number. So only a job in a nested scheduler has the path "eu/db". A job with this label has
        the path "eu\/db". To ask for it costs the same in a scenario of any size.
        """
        return _labels.path_of_job(self)

    @_hints.explain_form
    def requires(
        self,
        *requirements: Required,
        remove: bool = False,
        settled: bool = False,
        order_only: bool = False,
    ) -> Self:
        """Make the job run only after other jobs have succeeded, or with `settled` have settled in any way.

        Args:
            requirements: jobs, Sequences (which mean their last job), None (which is skipped), or collections of
                these.
            remove: whether to remove these requirements instead.
            settled: whether the job runs whatever becomes of these requirements. This also holds if the job has
                required them already, and if it requires them again without `settled`. With `remove`, it has no effect.
            order_only: whether a journal ignores these requirements, as make does with files after `|`: the job
                is restored although they have changed, or have run again. An input then counts by its result alone.
                This, too, holds from then on, and has no effect with `remove`.

        Returns:
            The job itself.

        Raises:
            TypeError: an argument has another type, or `remove`, `settled` or `order_only` is not a bool.
            CycleError: a requirement is the job itself.
            CycleError: the scheduler is running, and a requirement already waits for the job.
            MissingRequirement: the scheduler is running, and a requirement is not in it.
            ValueError: the scheduler is running, and a requirement is a forever job.
            ValueError: with `remove` or `settled`, a requirement is an input, whose result the job needs.
            KeyError: with `remove`, a job is not required.
            RuntimeError: the scheduler is running, and the job is no longer IDLE, or `remove` is True.
            RuntimeError: the scheduler is running, and the call comes from another thread.

        Example:
            >>> a, b = AbstractJob(label="a"), AbstractJob(label="b")
            >>> b.requires(a, None, [a])
            <AbstractJob b, idle>
            >>> list(b.required)
            [<AbstractJob a, idle>]
            >>> async def fail():
            ...     raise OSError("broken")
            >>> test = Job(fail)
            >>> publish, report = Job(anyio.sleep, 0, required=test), Job(anyio.sleep, 0).requires(test, settled=True)
            >>> Scheduler(test, publish, report).run(), publish.state.name, report.state.name
            (False, 'BLOCKED', 'SUCCEEDED')

        """
        if settled is not False:
            settled = _job_options.flag(settled, "settled", self._name_for_errors)
        if order_only is not False:
            order_only = _job_options.flag(
                order_only, "order_only", self._name_for_errors
            )
        if remove is not False and _job_options.flag(
            remove, "remove", self._name_for_errors
        ):
            self._reject_during_run("requires(..., remove=True)")
            self._drop_requirements(self._flatten(requirements))
            return self
        required = self._required
        jobs = dict.fromkeys(self._flatten(requirements))
        new = [job for job in jobs if job not in required]
        if self in new:
            raise _errors.CycleError([self])
        if settled:
            self._reject_inputs(jobs, "settled")
        if (scheduler := self._scheduler) is not None:
            scheduler._add_requirements(self, new)
        self._required = _requirements.extend_requirements(required, new)
        if (settled or order_only) and jobs:
            flags = 0
            if settled:
                flags |= _requirements.SETTLED_ONLY
            if order_only:
                flags |= _requirements.ORDER_ONLY
            self._required = _requirements.add_flags(self._required, jobs, flags)
        if scheduler is not None and scheduler._run is not None:
            scheduler._run.tell_parts()
        return self

    def _flatten(self, requirements: tuple[Any, ...]) -> Iterable[AnyJob]:
        jobs = _requirements.flatten_simple(requirements, state_of)
        if jobs is not None:
            return jobs
        purpose = f"requires() of {self._name_for_errors()}"
        return _requirements.flatten(requirements, purpose, "_last_jobs")

    def _drop_requirements(self, jobs: Iterable[AnyJob]) -> None:
        """Remove requirements, as `requires(..., remove=True)` does outside of a run."""
        dropped = set(jobs)
        if unknown := dropped.difference(self._required):
            raise KeyError(
                f"{self.label!r} does not require {unknown.pop().label!r}: there is nothing to remove"
            )
        self._reject_inputs(dropped, "remove")
        if self._scheduler is not None:
            self._scheduler._members.is_unchecked = True
        if isinstance(self._required, dict):
            flags = self._required
            self._required = {job: flags[job] for job in flags if job not in dropped}
        else:
            self._required = tuple(job for job in self._required if job not in dropped)

    def _reject_inputs(self, jobs: Container[AnyJob], option: str) -> None:
        if found := [job for job in self._inputs if job in jobs]:
            needed = f"{self.label!r} has {found[0].label!r} as an argument, and needs its result"
            raise ValueError(
                f"requires(..., {option}=True): {needed}: to pass the job itself, write ref(job)"
            )

    # ---- its state and outcome

    @property
    def state(self) -> JobState:
        """The state of the job. During its own `on_succeeded` or `on_settled`, this is already its final state."""
        return (self._extras or RunExtras).coming_state or self._state

    def is_idle(self) -> bool:
        """Return whether the job is IDLE: it waits for its requirements or for a run to begin."""
        return self.state is IDLE

    def is_scheduled(self) -> bool:
        """Return whether the job is SCHEDULED: it waits for a slot or a resource."""
        return self.state is SCHEDULED

    def is_running(self) -> bool:
        """Return whether the job is RUNNING."""
        return self.state is RUNNING

    def is_done(self) -> bool:
        """Return whether the job ran to its end: SUCCEEDED or FAILED."""
        return self.state in (SUCCEEDED, FAILED)

    def is_succeeded(self) -> bool:
        """Return whether the job SUCCEEDED. A ready service has a result, but does not succeed until the run ends."""
        return self.state is SUCCEEDED

    def is_settled(self) -> bool:
        """Return whether the job is in a final state."""
        return self.state.is_settled

    @property
    def started_at(self) -> float | None:
        """The time when the job started, in seconds on the backend's clock, or None if it has not started.

        Retries do not change it. After an attempt that raised `Throttled`, the job has not started.
        """
        first = (self._extras or RunExtras).first_started_at
        return self._started_at if first is None else first

    @property
    def finished_at(self) -> float | None:
        """The time when the job settled, in seconds on the backend's clock, or None if it has not settled."""
        return self._finished_at

    @property
    def elapsed(self) -> float | None:
        """The seconds from the job's start to its end, or until now while it runs. None if it never started.

        For a job restored from a journal, the seconds that its attempts took in the run that ran it, or None if
        unknown.
        """
        if (started_at := self.started_at) is None:
            restoration = (self._extras or RunExtras).restoration
            return None if restoration is None else restoration.took
        ended = self._end_or_now()
        return None if ended is None else ended - started_at

    @property
    def took(self) -> float | None:
        """The seconds that the attempts of the job have run, or None if it never started.

        `elapsed` also has the time between attempts: backoffs, waits for a slot, and the wait until `try_again()`. It
        also has the time in which an attempt waited for its machine, for imports of its worker process, or for files.
        """
        extras = self._extras or RunExtras
        if not (extras.retry_count or extras.inner_waits):
            return self.elapsed
        waited = sum(until - since for _, since, until in extras.inner_waits)
        started_at = self._started_at
        ended = self._end_or_now()
        seconds = extras.earlier_seconds - waited
        if started_at is not None and ended is not None:
            seconds += ended - started_at
        return seconds

    def _end_or_now(self) -> float | None:
        """Return when the job has settled, or the time while it runs, or None. Any thread may ask."""
        # Read first: when the worker has left, the time is there.
        worker = self._worker
        finished_at = self._finished_at
        if finished_at is None and worker is not None:
            return worker.run.clock()
        return finished_at

    @property
    def attempts(self) -> int:
        """The number of attempts started in this run. An attempt that raised `Throttled` does not count."""
        count = (self._extras or RunExtras).retry_count
        if self._started_at is not None:
            count += 1
        return count

    @property
    def timed_out(self) -> bool:
        """Whether a timeout has ended a call of the job at least once in this run.

        It has not ended a call that it cancelled, but that returned a value or raised another exception all the same:
        this value or exception is then the outcome.
        """
        return (self._extras or RunExtras).timed_out_in > 0

    def progress(self, fraction: float | None = None) -> None:
        """Report a sign of life, and the fraction of the work that is done.

        The monitor, listings with details and `explain` show the fraction, and the monitor's estimate uses it. For a
        job with an `idle_timeout`, each call is a sign of life. Any thread may call this, as often as it likes. The
        fraction may also decrease.

        Args:
            fraction: the fraction, from 0 to 1, or None to report only a sign of life.

        Raises:
            TypeError, ValueError: `fraction` is not a number from 0 to 1.
            RuntimeError: the job is not running.

        Example:
            >>> async def count(number):
            ...     for done in range(number):
            ...         current_job().progress(done / number)
            ...         await anyio.sleep(0)
            >>> from trioflow.abc import fraction_done
            >>> job = Job(count, 4, idle_timeout=5)
            >>> Scheduler(job).run(), fraction_done(job)
            (True, 0.75)

        """
        if fraction is not None:
            name = self._name_for_errors
            fraction = _job_options.check_fraction(fraction, "fraction", name)
        self._run_while_running("progress()").record_progress(self, fraction)

    @property
    def restored(self) -> bool:
        """Whether the job did not run, because its result was in the journal of the run."""
        return self._extras is not None and self._extras.restoration is not None

    @overload
    def result(self) -> T: ...
    @overload
    def result(self, *, default: D) -> T | D: ...
    def result(self, *, default: object = NO_DEFAULT) -> object:
        """Return the job's result, or raise an exception if it has none. This may be called any number of times.

        Args:
            default: the value to return if the job has no result, instead of raising.

        Returns:
            The return value of the job or, for a service that is ready, the argument of `started()`.

        Raises:
            BaseException: the job is FAILED. It is the job's exception, with the same traceback at each call.
            RequirementFailed: the job is BLOCKED.
            JobCancelled: the job is CANCELLED.
            JobSkipped: the job is SKIPPED.
            JobNotDone: the job has not settled, or its result was dropped because of `keep_result=False`.

        """
        has_result = self.state is SUCCEEDED or self._is_ready()
        if has_result and self._outcome is not _errors.DROPPED:
            return cast(T, self._outcome)
        if default is not NO_DEFAULT:
            return default
        raise _errors.no_result_error(self)

    def raised_exception(self) -> BaseException | None:
        """Return the exception of a FAILED job, the `RequirementFailed` of a BLOCKED job, or None."""
        outcome = self._outcome
        if type(outcome) is not _errors.Failure or self.state is CANCELLED:
            return None
        return outcome.exception

    def cancel(self) -> None:
        """Cancel the job if it is running, or keep it from starting. If it has settled, do nothing.

        This does not count as a critical failure. On asyncio, a running job is cancelled once for each call. From
        another thread than the run's, this takes effect in the next turn of the run's loop, and does nothing after its
        end. After the call of `run()`, before the run is there, the call is kept for the run. If the job's own nested
        scheduler has not begun, or waits for another attempt, that begins with the job cancelled.

        Raises:
            RuntimeError: the scheduler is in no run, or has settled in it.

        """
        call_text = f"cancel() of {self.label!r}"
        if self._scheduler is None:
            if not self._state.is_settled:
                raise RuntimeError(f"{call_text}: its scheduler is not running")
            return
        run = self._scheduler._ask("cancel of a job", call_text, self.cancel)
        if run is not None:
            run.steering.call(run, partial(run.cancel_job, self))

    def try_again(self) -> None:
        """Try the job again in the run in progress, where it failed or succeeded, and the jobs that this has affected.

        The run goes on as if the job had not settled yet. Its `retry` begins anew, and `attempts` counts on. The jobs
        that it has blocked wait for it again. Jobs that have run because of the failure, or in spite of it, do not run
        again, and the log names them. A job that only its own `cancel()` has ended can be tried again, too. From
        another thread than the run's, this takes effect in the next turn of the run's loop, if it still can.

        If the job has succeeded, each job that uses it, at any distance, runs or is decided anew, whatever became of
        it, and so do the jobs whose results these need, if `keep_result=False` has dropped them. A job uses what it
        requires, without `order_only=True`, and what the groups around it require. If one of them is running, cancel
        it first. A body that has awaited the job, or has it by `ref(job)`, does not use it. All these results are gone
        at once, at any depth, and a journal keeps no record of them.

        If nested schedulers around the job have ended, this tries the outermost of them again, which keeps the jobs
        that succeeded, except this job, and what uses it. A callback that gets settled jobs, such as
        `on_job_settled`, may call this, too.

        Raises:
            RuntimeError: the scheduler is not running, or is draining or stopping. Or the job has not ended, was
                skipped or blocked, can run only once, was dropped, or is in a `First`. Or it failed, and an input was
                dropped by `keep_result=False`. Or it succeeded, and a job that uses it is running, or nothing is
                kept of what has succeeded: in an `async with` block, or with `keep_jobs=False`.

        Example:
            >>> disk: list[str] = []
            >>> async def write():
            ...     disk.append("x")
            ...     if len(disk) < 2:
            ...         raise OSError("disk full")
            >>> write_it = Job(write)
            >>> publish = Job(anyio.sleep, 0, required=write_it)
            >>> async def mend():
            ...     await publish.wait_settled()
            ...     print(publish.state.name)
            ...     write_it.try_again()
            >>> Scheduler(write_it, publish, Job(mend)).run(), publish.state.name, write_it.attempts
            BLOCKED
            (True, 'SUCCEEDED', 2)

        """
        member = member_of_run(self)
        call_text = f"try_again() of {self.label!r}"
        if member._scheduler is None:
            raise RuntimeError(f"{call_text}: its scheduler is not running")
        run = member._scheduler._ask("try_again of a job", call_text)
        if run is not None:
            run.try_again(member, (self,))

    async def wait_settled(self) -> None:
        """Wait until the job has settled. This is always a checkpoint.

        If the scheduler has not run yet, this waits for its first run. An outermost scheduler has settled when its run
        in progress has ended.

        Raises:
            JobNotDone: the run ended without reaching the job, its scheduler is closed, or the job is in no scheduler.
            RuntimeError: the call comes from a job that must settle before this job, or from another thread.

        """
        await self._wait(takes_failure=False)

    async def _wait(self, takes_failure: bool) -> None:
        """Wait as `wait_settled` does. With `takes_failure`, a failure of the job belongs to the caller."""
        await _backend.current_backend().checkpoint()
        if self._has_settled():
            return
        if self._scheduler is None:
            why = f"{self.label!r} is {self._state.value}, and in no scheduler"
            raise _errors.JobNotDone(why, "add it to one first")
        await self._scheduler._wait_settled(self, takes_failure)

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait until the job has settled, as `wait_settled` does, and return its result.

        A failure that this raises belongs to the caller: in the run of the job's scheduler it no longer counts, unless
        the job is critical.

        Raises:
            BaseException: any exception that `result` raises.
            JobNotDone: the run ended without reaching the job, its scheduler is closed, or the job is in no scheduler.
            RuntimeError: the call comes from a job that must settle before this job, or from another thread.

        Example:
            >>> async def double(number):
            ...     return 2 * number
            >>> async def main():
            ...     async with Scheduler() as s:
            ...         return await s.add(Job(double, 21))
            >>> anyio.run(main)
            42

        """
        return self._settled_result().__await__()

    async def _settled_result(self) -> T:
        """Wait until the job has settled, and return its result. See `__await__`."""
        is_settled = self._state.is_settled
        if not is_settled and self._scheduler is None and is_scheduler(self):
            self._reject_wait_cycle()
            why = f"{self.label!r} is the outermost scheduler, so no run will settle it"
            raise _errors.JobNotDone(why, "await its co_run() instead")
        await self._wait(takes_failure=True)
        run = self._enclosing_run()
        if run is not None and type(self._outcome) is _errors.Failure:
            run.failures.take(self, self._outcome)
        return self.result()

    # ---- for the rest of the package

    def _default_label(self, depth: int = _labels.MAX_DEPTH) -> str:
        """Return the default label of the job, which may show up to `depth` nested calls."""
        return type(self).__name__

    def _failure_kind(self) -> object:
        """Return a key for the log of failures, which counts the failures of jobs with equal keys together."""
        return type(self)

    def _skip_reason(self) -> str:
        """Return why the job has SUCCEEDED without its work, so that views show it as skipped, or "" if it has not."""
        return ""

    def _name_for_errors(self) -> str:
        return repr(self.label)

    def _reject_during_run(self, action: str) -> None:
        """Raise RuntimeError if a run that contains the job is in progress, or about to begin.

        Args:
            action: the call, for the error.

        """
        if self._scheduler is not None:
            self._scheduler._ask("change", f"{action} of {self.label!r}")

    def _enclosing_run(self) -> Run | None:
        """Return the run in progress of the scheduler that has the job, or None. Any thread may call this."""
        scheduler = self._scheduler
        return None if scheduler is None else scheduler._run

    def _use_options(self, options: _job_options.OptionRecord) -> None:
        self._options = options
        if not options.is_plain:
            self._is_plain = False
        if self._scheduler is not None:
            self._scheduler._members.on_options_changed(self)

    def _check_options(self) -> None:
        """Check options that depend on each other.

        Raises:
            ValueError: two options contradict each other.

        """
        if self._options.has_files and self._is_scheduler:
            raise ValueError(
                f"reads= and writes= of {self._name_for_errors()}: give them to the jobs in it"
            )
        if self._options.restore_if is not None:
            self._check_restore_if()

    def _check_restore_if(self) -> None:
        subject = f"restore_if= of {self._name_for_errors()}"
        if self._is_scheduler:
            raise ValueError(
                f"{subject}: give it to the jobs in it, which are restored one by one"
            )
        if self._is_service or self._options.forever:
            raise ValueError(
                f"{subject}: a service or forever job is never restored; leave it out"
            )
        if self._options.save is None:
            raise ValueError(
                f"{subject}: with save=None, no result is stored; leave out one of the two"
            )

    def _unknown_option(self, name: str) -> TypeError:
        subject = repr(self._label or type(self).__name__)
        return _job_options.unknown_job_option_error(name, subject, type(self))

    def _release_inputs(self, *, last_call: bool = False) -> None:
        """Drop the results of inputs with `keep_result=False` that no other job needs any more.

        Call this when the arguments have been filled in. If the job may be called again, the results are kept, unless
        this is the `last_call`.
        """
        extras = self._extras
        if extras is None or not extras.drops_results:
            return
        # A job with needs may be throttled, and then called again.
        if not last_call and (self._options.retry is not None or self._options.needs):
            return
        extras.drops_results = False
        for job in self._inputs:
            input_extras = job._extras
            if job._scheduler is None or job in job._scheduler._members.users_outside:
                # A job in a nested scheduler needs the result, and that scheduler may run again.
                continue
            if input_extras is not None and input_extras.consumer_count:
                input_extras.consumer_count -= 1
                if not input_extras.consumer_count and (
                    job._state is SUCCEEDED or job._is_ready()
                ):
                    job._outcome = _errors.DROPPED

    def _grant(self) -> Any:
        return (self._extras or RunExtras).grant

    def _ensure_extras(self) -> RunExtras:
        self._extras = self._extras or RunExtras()
        return self._extras

    def _has_run_state(self) -> bool:
        """Return whether a run has changed the job's attributes, so that `_reset` is needed."""
        return (
            self._state is not IDLE or self._pending > 0 or self._successors is not None
        )

    def _reset(self) -> None:
        """Reset the attributes that a run has changed to their state before the first run."""
        listeners = (self._extras or RunExtras).listeners
        self._state = IDLE
        self._outcome = self._started_at = self._finished_at = self._extras = (
            self._successors
        ) = self._worker = None
        self._pending = 0
        if listeners:
            # These wait for the job to settle, whichever run reaches it.
            self._ensure_extras().listeners = listeners

    def _skip_run(self) -> None:
        """Discard what was kept for `co_run`, because a result from the journal takes its place."""

    def _release_call(self) -> None:
        """Release the job's function and arguments, because the job has settled and its scheduler will be closed."""

    def _needs_shutdown(self) -> bool:
        """Return whether `co_shutdown` has anything to do. This is called only if the class defines it."""
        return True

    def _call_once(self) -> Awaitable[T]:
        """Call the job once, and return the awaitable. Workers use this for all jobs off the hot path."""
        return self.co_run()

    def _is_ready(self) -> bool:
        """Return whether the job is a ready service, which counts as succeeded for the jobs that require it."""
        return (
            self._state is RUNNING
            and self._extras is not None
            and self._extras.ready_at is not None
        )

    def _has_settled(self) -> bool:
        """Return whether the job has settled, and no attempt is about to reset its state."""
        if not self._state.is_settled:
            return False
        return self._scheduler is None or not self._scheduler._will_reset(self)

    def _holds_back(self) -> bool:
        """Return whether the jobs that require the job have to wait.

        It has not settled, and is no ready service, or it is about to run anew.
        """
        if self._extras is not None and self._extras.repeats is not None:
            return True
        return not (self._state.is_settled or self._is_ready())

    def _is_one_shot(self) -> bool:
        return self._is_spent()

    def _is_spent(self) -> bool:
        """Return whether the job can run only once, and has done so."""
        return False

    def _all_jobs(self) -> Iterable[AnyJob]:
        """Return the jobs that this object stands for in `add` and `requires`. See `flatten`."""
        return (self,)

    _last_jobs = _all_jobs

    def __reduce__(self) -> NoReturn:
        """Reject copying and pickling.

        Raises:
            TypeError: always.

        """
        raise TypeError(
            f"{self._name_for_errors()} cannot be copied or pickled, because a job belongs to one scheduler of one "
            f"process: build another one, in a function that you call again; to send its value, use its result()"
        )

    def __repr__(self) -> str:
        """Show the kind, the label and the state of the job."""
        return _labels.text_of(self, self._state.value)


AnyJob = AbstractJob[Any]

_options: Final = [
    AbstractJob._declared_options[name] for name in _job_options.OPTION_FIELDS
]
DEFAULT_OPTIONS: Final = _job_options.OptionRecord(
    [each.check(each.default, each.name, "") for each in _options], True
)
REDACTED_OPTIONS: Final = DEFAULT_OPTIONS.replace("redact", True, is_shared=True)
"""The initial record of a job with `redact=True`, so that errors about other options hide its arguments."""
_option_descriptors.set_docs_and_signature(AbstractJob, AbstractJob.__init__)

state_of: Final[Callable[[Any], JobState]] = AbstractJob.__dict__["_state"].__get__
"""It raises for other objects and for uninitialized jobs."""


def is_job(value: object) -> TypeIs[AnyJob]:
    """Return whether an object is a job: its type says so, and not its `__class__`, which may say or raise anything."""
    return issubclass(type(value), AbstractJob)


def is_scheduler(job: object) -> TypeIs[BaseScheduler]:
    """Return whether an object is a scheduler.

    Do not test for attributes instead: a user-defined class may have any attribute.
    """
    return is_job(job) and job._is_scheduler


def with_members(job: AnyJob) -> Iterator[AnyJob]:
    """Yield a job and, if it is a scheduler, the jobs in it, at any depth."""
    yield job
    if is_scheduler(job):
        yield from job.iterate_jobs()


def takes_slot(job: AnyJob) -> bool:
    return job._takes_slot and not job._options.forever


def has_moved_on(job: AnyJob) -> bool:
    """Return whether a job SUCCEEDED only because it has `on_timeout="move_on"`, and its timeout ended it."""
    if job._state is not SUCCEEDED or job.on_timeout != "move_on":
        return False
    # It may have been an earlier attempt that timed out, not the attempt that succeeded.
    return 0 < (job._extras or RunExtras).timed_out_in == job.attempts


def not_a_scheduler_error(value: object, subject: str) -> TypeError:
    return TypeError(f"scheduler={short_repr(value)} of {subject}: give a Scheduler")


for _name, _hint in _hints.ATTRIBUTE_HINTS.items():
    setattr(AbstractJob, _name, _hints.MissingAttribute(_name, _hint))
