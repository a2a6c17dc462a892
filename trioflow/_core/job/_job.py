"""`AbstractJob`: the work, requirements and outcome of a job, and the fields that a run works on.

The private fields below the line "for a run" are written by runs (`_run`, `_worker`), and set back by `_reset`.
Everything here is bookkeeping in memory: only `wait_settled` waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from collections.abc import Set as AbstractSet
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
    get_args,
    overload,
)

from .. import backend as _backend
from ..base import _amounts
from ..base._reprs import short_repr
from ..base._states import IDLE, JobState, OnTimeout, RunIf
from . import _errors, _job_options, _labels, _option_descriptors, _requirements
from ._ancestors import enclosing_schedulers, outermost
from ._option_descriptors import Option, RareOption, ReadOnlyOption, SchedulingOption, SlowPathOption
from ._outcome import DROPPED, Failure, RunExtras, no_result_error

if TYPE_CHECKING:
    from typing_extensions import TypeIs
    from typing_extensions import TypeVar as TypeVarWithDefault

    from ..._scheduler import Scheduler
    from ..base._amounts import AmountSpec, Need
    from ..run._run import Run
    from ..run._worker import Worker
    from ..scheduler._base_scheduler import BaseScheduler
    from ._job_options import JobOptions, JobSave, Retry
    from ._requirements import Required
    from ._work_spec import Work

if TYPE_CHECKING:  # with a default: a bare `AbstractJob` has any result
    T = TypeVarWithDefault("T", default=Any)
else:
    T = TypeVar("T")
D = TypeVar("D")

NO_DEFAULT: Final = object()
"""A placeholder for a default that was not given."""


class BoxStyle(NamedTuple):
    """The style of a kind of job in pictures and legends: `class BoxJob(JobKind, box=BoxStyle("sandbox", "box3d"))`.

    Subclasses inherit it.
    """

    name: str
    """The name of the kind in a legend."""
    shape: str = "box"
    """The shape of its box in Graphviz."""
    brackets: tuple[str, str] = "[", "]"
    """The brackets that make the shape of its box in Mermaid."""
    rounded: bool = False
    """Whether Graphviz rounds the corners of the box."""
    place: int = 8
    """Its position in a legend, from 0; ties are in the order of the names."""


def _check_box(box: BoxStyle, subject: str) -> BoxStyle:
    is_tuple = isinstance(box.brackets, tuple)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_tuple or [type(bracket) for bracket in box.brackets] != [str, str]:
        raise TypeError(
            f"brackets={short_repr(box.brackets)} of {subject}: give two texts, such as brackets=('[', ']')"
        )
    return BoxStyle(
        _job_options.text(box.name, "name", subject),
        _job_options.text(box.shape, "shape", subject),
        box.brackets,
        _job_options.flag(box.rounded, "rounded", subject),
        _job_options.number(box.place, "place", subject),
    )


def _reject_hiding_attributes(kind: type[AbstractJob[Any]]) -> None:
    """Reject a class attribute that hides an attribute of jobs that the engine or a view reads.

    Raises:
        AttributeError: there is such an attribute.

    """
    of_jobs: list[Any] = [base for base in kind.__mro__[1:] if issubclass(base, AbstractJob)]
    bases = [base for base in of_jobs if base.__module__.startswith("trioflow")]
    for name, value in vars(kind).items():
        base = next((base for base in bases if name in vars(base)), AbstractJob)
        hidden, is_option = vars(base).get(name), name in kind._declared
        if not hasattr(hidden, "__set__"):
            is_refused = callable(hidden) and not callable(value)
        else:  # an attribute that only some kinds have, such as `last_result`, is there to be overridden
            is_its_own = isinstance(value, property) or not kind._is_scheduler
            is_refused = is_option or name in vars(AbstractJob) or not is_its_own
        if is_refused:
            advice = f"pass {name}= to super().__init__()" if is_option else "choose another name"
            raise AttributeError(f"class {kind.__name__}: {name!r} hides that of {base.__name__}; {advice}", name=name)


class ForeverOption(Option[bool, bool]):
    """Whether a job runs beside the others."""

    def store(self, job: AbstractJob[Any], value: Any) -> None:
        """Check and store the value; only ordinary jobs are on the hot path."""
        super().store(job, value)
        job._slow_path = job._slow_path or DEFAULT_SLOW_PATH
        if job._scheduler is not None:  # a required job must not be a forever job
            job._scheduler._members.unchecked = True


def _get_label(job: AbstractJob[Any]) -> str:
    if job._label is not None:
        return job._label
    try:
        return job._default_label()
    except Exception:  # from the name of a user's object
        return type(job).__name__


def _get_needs(job: AbstractJob[Any]) -> dict[str, Any]:
    needs = job._needs()
    return {
        name: _amounts.need_as_numbers(amount)
        for name, amount in needs.items()
        if name not in _job_options.RUN_RESOURCES
    }


class AbstractJob(Generic[T]):
    """Work to do as soon as all its requirements have settled: the base class of every kind of job.

    A subclass defines `async def co_run(self)`, which returns the job's result. It may define
    `async def co_shutdown(self)`, which each run calls once at its end, whether the job was started or not. It has to
    call `super().__init__(**options)`. It may use any attribute name without a leading underscore that is not an
    attribute, method or option of this class.

    Each option is an attribute too. It can be set while no run is in progress, and takes effect in the next run;
    `label` can be set at any time, and `required` and `scheduler` only by methods.

    Args:
        label: the name of the job as users see it; None for a default label made from its work. It may be set during a
            run too.
        critical: whether its failure ends the run of its scheduler. None leaves this to the scheduler's
            `critical_jobs`, then to the scheduler's own `critical`, and so on outwards; if all are None, it is False.
        forever: whether it runs beside the other jobs, and is cancelled when all of those have settled. It takes no
            slot of the window, and no job may require it, unless it is a `Service`.
        required: its requirements: jobs, Sequences, None, or collections of these; see `requires`.
        scheduler: a scheduler to add it to.
        timeout: seconds that each call of `co_run` may take, more than 0; None or infinity for no limit.
        idle_timeout: seconds, more than 0, that each call may go on without a sign of life: a call of `progress()`, for
            a command also its output, and for a scheduler any event of one of its jobs, at any depth. None or infinity
            for no limit. The consequences are those of `timeout`, with a `JobTimeout` that names the missing sign.
        on_timeout: what happens after the timeout: "fail" with `JobTimeout`, "restart" the call, or "move_on", which
            makes the job SUCCEEDED with the result None.
        restarts: the most restarts in one attempt, 0 or more; after these the job fails. None for no limit. It needs
            `on_timeout="restart"`.
        retry: the number of further attempts when it raises an `Exception`, 0 or more; or any decorator of an async
            function, such as those of stamina and tenacity, which then decides. A restart belongs to the same attempt.
        run_if: "settled" runs the job whatever the outcome of its requirements; "succeeded" only if all of them
            succeeded; "failed" only if at least one of them failed.
        keep_result: whether the result is kept. False drops it when the last job that has it as an argument has
            started.
        own_task: whether the job gets a task of its own; on a scheduler, whether each job in it does, nested ones
            included. Otherwise a task may run several jobs, one after the other, unless one of them has left a
            reference to it, such as a key in a dictionary of sessions. Only code that identifies the current task by a
            number, such as `id(task)`, needs this: a job would find there the data of an earlier one. On asyncio the
            loop's task factory makes the tasks.
        redact: True keeps its arguments (of a command, its command line and environment) out of labels, logs, traces
            and reports, because they are secret.
        save: how a journal stores the result: "default", by the journal's own default; "json"; "pickle"; a pair of
            functions (dump, load), of which the first returns JSON data; or None: the result is not stored, and the job
            runs in each run.
        key: the identity of the job's work for a journal, in place of its function, arguments and files: any JSON data.
        version: the version of the job's code for a journal: if it has changed, the job runs again.
        priority: of the ready jobs of a scheduler, those with the highest number start first, whatever its policy.
        expected_duration: seconds that the job is expected to take, finite, 0 or more; None if unknown. The policy of
            its scheduler and the monitor's estimate use it.
        needs: its share of pools while it runs: names and amounts, such as {"cpu": 2, "ram": "4 GiB"}. It starts when
            all of it is free at once. Each name is looked up in the pool of the nearest enclosing scheduler that has
            it. A scheduler takes its needs for its whole run, and is then the pool of its members for these names.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: a number is out of its range, `on_timeout` or `run_if` is unknown, or the scheduler cannot accept
            the job.

    Example:
        >>> class Greeting(AbstractJob):
        ...     async def co_run(self):
        ...         return "hello"
        >>> Greeting(label="greet", timeout=5)
        <Greeting `greet` idle>

    """

    __slots__ = (
        "__weakref__",
        "_critical",
        "_extras",
        "_finished_at",
        "_forever",
        "_label",
        "_outcome",
        "_pending",
        "_required",
        "_rule",
        "_scheduler",
        "_scheduling",
        "_slow_path",
        "_started_at",
        "_state",
        "_successors",
        "_worker",
    )

    # Whether a worker may call `_function(*_args)` itself, without `_slow_path`, to save the coroutine of `co_run`.
    _is_called_directly: ClassVar[bool] = False
    # Whether its class defines a `co_shutdown` of its own.
    _has_own_shutdown: ClassVar[bool] = False
    # Whether its class defines a `check_before_run` of its own.
    _has_own_check: ClassVar[bool] = False
    # Whether it is a forever job that may be required, since it reports when it is ready.
    _is_service: ClassVar[bool] = False
    # Whether its result has to come from `result()`, not just from its outcome.
    _has_own_result: ClassVar[bool] = False
    # Whether the job itself is passed when it is an argument of another one; then it is not an input.
    _is_passed_as_itself: ClassVar[bool] = False
    # ---- the arguments of the class, described in `__init_subclass__`
    _box: ClassVar[BoxStyle] = BoxStyle("async function", "box", ("(", ")"), rounded=True, place=0)
    _keeps_time: ClassVar[bool] = False
    _cannot_be_interrupted: ClassVar[str | None] = None
    # Whether it runs commands, and so has a `last_result` and a `_command_line()`, which traces show.
    _runs_commands: ClassVar[bool] = False
    # Whether it has a `status_text()`, which views call while it runs.
    _has_status_text: ClassVar[bool] = False
    # The limiter from which its body itself takes a token, in place of one of the window's.
    _own_limiter: Any = None
    # The callbacks of a `JobKind`: after success, and before it settles.
    _callbacks: tuple[Callable[[Any], object] | None, Callable[[Any], object] | None] | None = None
    # Whether it is a scheduler; to be read only by `is_scheduler`.
    _is_scheduler: ClassVar[bool] = False

    _label: str | None
    _critical: bool | None
    _forever: bool
    _slow_path: _job_options.SlowPathOptions | None
    _scheduling: _job_options.SchedulingOptions | None
    _rule: _job_options.TriggerRule | None
    _scheduler: BaseScheduler | None
    # The requirements, in the order added: a tuple, or a dict if there are at least MANY_REQUIREMENTS.
    _required: tuple[AbstractJob[Any], ...] | dict[AbstractJob[Any], None]
    # ---- for a run
    _state: JobState
    _outcome: Any  # the value if SUCCEEDED; a Failure if FAILED or BLOCKED; None before
    _started_at: float | None
    _finished_at: float | None
    _extras: RunExtras | None
    # The number of requirements that have not settled; below 0 if no run has counted them. Valid only while IDLE.
    _pending: int
    # The jobs whose `_pending` counts this job, set in a run until the job has settled. A single one is kept as itself,
    # a few in a tuple: lists for all would keep the garbage collector busy.
    _successors: AbstractJob[Any] | tuple[AbstractJob[Any], ...] | list[AbstractJob[Any]] | None
    _worker: Worker | None  # the worker that runs it, while RUNNING

    # Each option of the class by its name.
    _declared: ClassVar[dict[str, Option[Any, Any]]]

    # ---- its options: `JobOptions` has the types of the arguments
    label: Option[str, str | None] = Option(None, _job_options.label, getter=_get_label, settable_in_run=True)
    critical: Option[bool | None] = Option(None, _job_options.flag_or_none)
    forever: Option[bool] = ForeverOption(False, _job_options.flag)
    required: ReadOnlyOption[AbstractSet[AbstractJob[Any]], Required] = ReadOnlyOption(
        None, "requires()", _requirements.Requirements
    )
    scheduler: ReadOnlyOption[Scheduler | None, BaseScheduler | None] = ReadOnlyOption(None, "add() of a scheduler")
    timeout: Option[float | None] = SlowPathOption(None, _job_options.seconds)
    idle_timeout: Option[float | None] = SlowPathOption(None, _job_options.seconds)
    on_timeout: Option[OnTimeout] = SlowPathOption("fail", _job_options.one_of(get_args(OnTimeout)))
    restarts: Option[int | None] = SlowPathOption(None, _job_options.whole_number)
    own_task: Option[bool] = SlowPathOption(False, _job_options.flag)
    retry: Option[Retry] = SlowPathOption(None, _job_options.retry)
    run_if: Option[RunIf] = RareOption("settled", _job_options.one_of(get_args(RunIf)), "_rule")
    keep_result: Option[bool] = RareOption(True, _job_options.flag, "_rule")
    redact: Option[bool] = SlowPathOption(False, _job_options.flag)
    save: Option[JobSave] = SlowPathOption("default", _job_options.save)
    key: Option[Any, object] = SlowPathOption(None, _job_options.accept)
    version: Option[Any, object] = SlowPathOption(None, _job_options.accept)
    priority: Option[int] = SchedulingOption(0, _job_options.priority)
    expected_duration: Option[float | None] = SchedulingOption(None, _job_options.duration_or_none)
    needs: Option[dict[str, Any], Mapping[str, Need] | None] = SchedulingOption(None, _job_options.needs, _get_needs)

    def __init__(self, *, _inputs: tuple[AbstractJob[Any], ...] = (), **options: Unpack[JobOptions]) -> None:
        self._label = self._critical = self._scheduler = self._scheduling = self._rule = None
        self._successors = self._outcome = self._started_at = self._finished_at = self._extras = self._worker = None
        self._forever = False
        self._pending = -1
        self._state = IDLE
        self._slow_path = None if self._is_called_directly else DEFAULT_SLOW_PATH
        if _inputs:
            self._rule = _job_options.TriggerRule("settled", True, _inputs)
            self._required = _requirements.extend_requirements((), _inputs)
        else:
            self._required = ()
        if options:
            self._store_options(options)

    def _store_options(self, options: JobOptions) -> None:
        """Check and store the options: first those that errors show, last those that other jobs see."""
        required = options.pop("required", None)
        scheduler = None
        remaining: dict[str, Any] = options  # type: ignore[assignment]
        if remaining:
            label, scheduler = remaining.pop("label", None), remaining.pop("scheduler", None)
            if label is not None:
                self._label = (
                    label if type(label) is str else _job_options.text(label, "label", f"a new {type(self).__name__}")
                )
        if remaining:
            if remaining.get("redact"):
                self._slow_path = REDACTED
            declared, changed = self._declared, False
            for name, value in remaining.items():
                option = declared.get(name)
                if option is None:
                    raise self._unknown_option(name)
                if value is not option.default:
                    option.store(self, value)
                    changed = True
            if changed:
                self._check_options()
        if required is not None:
            plain = _requirements.flatten_simple(required, state_of)
            if plain is None or self._required:
                self.requires(required)
            else:  # no cycle is possible yet, and no scheduler needs to know
                self._required = _requirements.extend_requirements((), plain)
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
        **kwargs: Any,
    ) -> None:
        """Record the arguments of the class; the others are inherited.

        Args:
            box: the style of its jobs in pictures and legends.
            keeps_time: whether `co_run` itself ends the work after the job's timeout, and raises its `JobTimeout`. Then
                a late end is not logged, unless the work cannot be interrupted.
            cannot_be_interrupted: the reason why the work goes on after a cancellation, and the remedy: for the log.
            kwargs: arguments for other base classes.

        Raises:
            TypeError: a `box` that is not a `BoxStyle`, or has a field of a wrong type.
            AttributeError: the class has an attribute that hides an option or a property of all jobs, or a method by a
                value that cannot be called.

        """
        super().__init_subclass__(**kwargs)
        if not cls.__module__.startswith("trioflow."):
            _reject_hiding_attributes(cls)
        if box is not None:
            if not isinstance(box, BoxStyle):  # pyright: ignore[reportUnnecessaryIsInstance]
                advice = f"give a trioflow.abc.BoxStyle, BoxStyle({cls.__name__.lower()!r}, 'box')"
                raise TypeError(f"box={short_repr(box)} of class {cls.__name__}: {advice}")
            cls._box = _check_box(box, f"the BoxStyle of class {cls.__name__}")
        if keeps_time is not None:
            cls._keeps_time = keeps_time
        if cannot_be_interrupted is not None:
            cls._cannot_be_interrupted = cannot_be_interrupted
        # recorded here, so that a run need not check each job
        cls._has_own_shutdown = cast(Any, cls).co_shutdown is not cast(Any, AbstractJob).co_shutdown
        cls._has_own_check = cast(Any, cls).check_before_run is not cast(Any, AbstractJob).check_before_run
        cls._has_own_result = cls._is_service or cast(Any, cls).result is not cast(Any, AbstractJob).result

    async def co_run(self) -> T:
        """Do the job's work and return its result; each kind of job defines this.

        Raises:
            NotImplementedError: the class does not define it.

        """
        raise NotImplementedError(f"{type(self).__name__} must define async def co_run(self)")

    def check_before_run(self) -> None:
        """Raise an error if the job cannot run in its place: then the run is rejected, and nothing starts.

        Each run calls it, and so does `add` to a running scheduler. By default it does nothing.
        """

    async def co_shutdown(self) -> None:
        """Release the job's resources. Each run calls this once at its end, even for jobs that were not started.

        By default it does nothing.
        """

    def for_journal(self) -> Work | None:
        """Return the identity of its work to a journal, and the files that it reads and writes.

        Any run with a journal may call it, when all requirements have settled. None, the default, means the class
        and the attributes without a leading underscore. Jobs that call functions are identified by name and arguments.
        """
        return None

    def close(self) -> None:
        """Release unused resources of the job permanently, such as a coroutine object. By default it does nothing."""

    @property
    def granted(self) -> Mapping[str, Any]:
        """The job's resources while it runs: for named things a list, otherwise the amount."""
        grant = self._grant()
        return {} if grant is None else grant.to_dict()

    def used(self, **amounts: Need) -> None:
        """Correct the job's use of a `Rate` when the real amount is known.

        The difference is taken now, or available again to others. The job itself does not wait. Each call gives the
        amount used since the attempt began. It may come from a thread of the job.

        Args:
            amounts: the names of rates, each with an amount or a dict by key, as in `needs`. All others stay.

        Raises:
            RuntimeError: the job is not running.
            ValueError: the job does not need this name; it is not a rate; a key is unknown; or an amount is out of
                range.
            TypeError: an amount is not a number.

        Example:
            >>> async def ask():
            ...     current_job().used(api={"tokens": 950})
            >>> pool = Pool(api=Rate(tokens=1000, per=3600))
            >>> Scheduler(Job(ask, needs={"api": {"tokens": 800}}), pool=pool).run(), round(pool.free["api"]["tokens"])
            (True, 50)

        """
        worker = self._worker
        if worker is None:
            raise RuntimeError(f"used() of {self.label!r}: it is {self._state.value}; call it while the job runs")
        worker.run.pools.correct(self, amounts)

    def is_critical(self) -> bool:
        """Return the effective value of `critical`.

        It is the first that is not None of: the job's own `critical`, its scheduler's `critical_jobs`, its scheduler's
        `critical`, and so on outwards. If all are None, it is False.
        """
        if self._critical is not None:
            return self._critical
        for around in enclosing_schedulers(self):
            if around.critical_jobs is not None:
                return around.critical_jobs
            if around._critical is not None:
                return around._critical
        return False

    # ---- its place in the graph

    @property
    def path(self) -> str:
        r"""The labels from inside the outermost scheduler down to the job, joined by "/".

        No other job has the same path. If several jobs of a scheduler have the same label, "#2" is appended to that of
        the second, and so on. A "/" in a label becomes "\/" if the path could otherwise be that of a job in a nested
        scheduler. If the job is in no scheduler, its path is its label.
        """
        return _labels.path(self)

    def requires(self, *requirements: Required, remove: bool = False) -> Self:
        """Make the job wait until other jobs have settled, whatever their outcome.

        Args:
            requirements: jobs, Sequences (which mean their last job), None (which is skipped), or collections of
                these.
            remove: whether to remove these requirements instead.

        Returns:
            The job itself.

        Raises:
            TypeError: an argument is none of these.
            CycleError: a requirement is the job itself; or its scheduler is running, and a requirement waits for the
                job already.
            MissingRequirement: its scheduler is running, and a requirement is not in it.
            ValueError: its scheduler is running, and a requirement is a forever job; or, with `remove`, a requirement
                is an input.
            KeyError: with `remove`, an argument is not required.
            RuntimeError: its scheduler is running, and the job is no longer IDLE, or `remove` was given, or the call
                comes from another thread.

        Example:
            >>> a, b = AbstractJob(label="a"), AbstractJob(label="b")
            >>> b.requires(a, None, [a])
            <AbstractJob `b` idle>
            >>> list(b.required)
            [<AbstractJob `a` idle>]

        """
        if remove and _job_options.flag(remove, "remove", self._name_for_errors):
            self._reject_during_run("requires(..., remove=True)")
            self._drop_requirements(self._flatten(requirements))
            return self
        required = self._required
        new = [job for job in dict.fromkeys(self._flatten(requirements)) if job not in required]
        if self in new:
            raise _errors.CycleError([self])
        scheduler = self._scheduler
        if scheduler is not None:
            scheduler._admit_requirements(self, new)
        self._required = _requirements.extend_requirements(required, new)
        return self

    def _flatten(self, requirements: tuple[Any, ...]) -> Iterable[AbstractJob[Any]]:
        plain = _requirements.flatten_simple(requirements, state_of)
        if plain is not None:
            return plain
        return _requirements.flatten(requirements, f"requires() of {self._name_for_errors()}", "_last_jobs")

    def _drop_requirements(self, jobs: Iterable[AbstractJob[Any]]) -> None:
        dropped = set(jobs)
        for job in dropped:
            if job not in self._required:
                raise KeyError(f"{self.label!r} does not require {job.label!r}: there is nothing to remove")
            if self._rule is not None and job in self._rule.inputs:
                raise ValueError(
                    f"{self.label!r} has {job.label!r} as an argument, and needs its result: "
                    f"to pass the job itself, write ref(job)"
                )
        if self._scheduler is not None:
            self._scheduler._members.unchecked = True
        self._required = _requirements.extend_requirements((), [job for job in self._required if job not in dropped])

    # ---- its state and outcome

    @property
    def state(self) -> JobState:
        """The state of the job."""
        return self._state

    def is_idle(self) -> bool:
        """Return whether the job is IDLE: it waits for its requirements, or for a run to begin."""
        return self._state is JobState.IDLE

    def is_scheduled(self) -> bool:
        """Return whether the job is SCHEDULED: it waits for a slot or a resource."""
        return self._state is JobState.SCHEDULED

    def is_running(self) -> bool:
        """Return whether the job is RUNNING."""
        return self._state is JobState.RUNNING

    def is_done(self) -> bool:
        """Return whether the job ran to its end: SUCCEEDED or FAILED."""
        return self._state is JobState.SUCCEEDED or self._state is JobState.FAILED

    def is_succeeded(self) -> bool:
        """Return whether the job SUCCEEDED. A ready service has not until the run ends it, though it has a result."""
        return self._state is JobState.SUCCEEDED

    def is_settled(self) -> bool:
        """Return whether the job is in a final state."""
        return self._state.is_settled

    @property
    def started_at(self) -> float | None:
        """The start of its first attempt that counts: seconds on the backend's clock."""
        return self._started_at

    @property
    def finished_at(self) -> float | None:
        """The time at which it settled: seconds on the backend's clock."""
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
        """The number of attempts started in this run; a restart after a timeout belongs to the same attempt.

        An attempt that raised `Throttled` does not count.
        """
        return (self._started_at is not None) + (self._extras.further_attempts if self._extras is not None else 0)

    @property
    def timed_out(self) -> bool:
        """Whether its timeout has cancelled it at least once in this run."""
        return self._extras is not None and self._extras.timed_out

    @property
    def fraction_done(self) -> float | None:
        """The fraction of its work that is done, from 0 to 1: last reported in its latest call, or None."""
        return None if self._extras is None else self._extras.fraction

    def progress(self, fraction: float | None = None) -> None:
        """Report a sign of life and the fraction of the work that is done, which becomes `fraction_done`.

        The monitor, listings with details and `explain` show it, and the monitor's estimate uses it. For a job with an
        `idle_timeout` each call is a sign of life. Any thread may call it, at any rate; a fraction may also go down.

        Args:
            fraction: from 0 to 1; None for only a sign of life.

        Raises:
            TypeError, ValueError: `fraction` is not a number from 0 to 1.
            RuntimeError: the job is not running.

        Example:
            >>> async def count(number):
            ...     for done in range(number):
            ...         current_job().progress(done / number)
            ...         await anyio.sleep(0)
            >>> job = Job(count, 4, idle_timeout=5)
            >>> Scheduler(job).run(), job.fraction_done
            (True, 0.75)

        """
        if fraction is not None:
            fraction = _job_options.fraction(fraction, "fraction", self._name_for_errors)
        worker = self._worker
        if worker is None:
            raise RuntimeError(f"progress() of {self.label!r}: it is {self._state.value}; call it while the job runs")
        worker.run.note_progress(self, fraction)

    @property
    def restored(self) -> bool:
        """Whether it did not run, because the journal of the run had its result."""
        return self._extras is not None and self._extras.restored

    @overload
    def result(self) -> T: ...
    @overload
    def result(self, *, default: D) -> T | D: ...
    def result(self, *, default: object = NO_DEFAULT) -> object:
        """Return the job's result, or raise the reason why it has none. It may be called any number of times.

        Args:
            default: returned if the job has no result, for any reason; without it the reason is raised.

        Returns:
            The return value of the job; for a service that is ready, the argument of `started()`.

        Raises:
            BaseException: the job's exception, if it is FAILED, with the first traceback each time.
            RequirementFailed: it is BLOCKED.
            JobCancelled: it is CANCELLED.
            JobSkipped: it is SKIPPED.
            JobNotDone: it has not settled, or its result was dropped because of `keep_result=False`.

        """
        if self._outcome is not DROPPED and (self._state is JobState.SUCCEEDED or self._is_ready()):
            return cast(T, self._outcome)
        if default is not NO_DEFAULT:
            return default
        raise no_result_error(self)

    def raised_exception(self) -> BaseException | None:
        """Return the job's exception if it is FAILED, its `RequirementFailed` if it is BLOCKED, and otherwise None."""
        return self._outcome.exception if isinstance(self._outcome, Failure) else None

    def cancel(self) -> None:
        """Cancel the job if it is running, or keep it from starting. If it has settled, do nothing.

        This does not count as a critical failure.

        Raises:
            RuntimeError: its scheduler is not running, or the call comes from another thread.

        """
        run = None if self._scheduler is None else self._scheduler._run
        if run is None:
            raise RuntimeError(f"cancel() of {self.label!r}: its scheduler is not running")
        run.cancel_job(self)

    async def wait_settled(self) -> None:
        """Wait until the job has settled. This is always a checkpoint.

        If its scheduler has not run yet, this waits for the first run.

        Raises:
            JobNotDone: the run ended without reaching the job, or the job is in no scheduler.
            RuntimeError: the call comes from a job that has to settle before this one, or from another thread.

        """
        await _backend.current().checkpoint()
        if self._state.is_settled:
            return
        if self._scheduler is None:
            raise _errors.JobNotDone(f"{self.label!r} is {self._state.value}: no run is going to reach it")
        await self._scheduler._wait_settled(self)

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait until the job has settled, as `wait_settled` does, and return its result.

        Raises:
            BaseException: what `result` raises.
            JobNotDone: the job has not settled, and no run is in progress; or the run ended without reaching it.
            RuntimeError: the call comes from a job that has to settle before this one, or from another thread.

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
        if not self._state.is_settled and all(around._run is None for around in enclosing_schedulers(self)):
            home = None if self._scheduler is None else outermost(self._scheduler)
            if home is None and is_scheduler(self):
                self._reject_wait_cycle()
                raise _errors.JobNotDone(
                    f"{self.label!r} is the outermost scheduler, which settles nowhere: to run it, write "
                    f"`await s.co_run()`, where s is this scheduler"
                )
            call = "add it to a scheduler, and" if home is None else f"with {home.label!r},"
            raise _errors.JobNotDone(
                f"{self.label!r} is {self._state.value}, and no run is in progress: {call} await its co_run() first"
            )
        await self.wait_settled()
        return self.result()

    # ---- for the rest of the package

    def _default_label(self, depth: int = _labels.MAX_DEPTH) -> str:
        """Return the default label of the job; jobs among its arguments are shown `depth` deep."""
        return type(self).__name__

    def _label_as_argument(self, depth: int) -> str:
        """Return the text of this job in the default label of another one; nested calls are `depth` deep."""
        return self._default_label(depth) if self._label is None else self._label

    def _failure_kind(self) -> object:
        """Return a key: the failures of jobs with equal keys are counted together; see `FailureLog`."""
        return type(self)

    def _name_for_errors(self) -> str:
        return repr(self.label)

    def _reject_during_run(self, what: str) -> None:
        run = self._innermost_run()
        if run is not None:
            raise RuntimeError(
                f"{what} of {self.label!r}: not while {run.scheduler.label!r} runs; do it before the run"
            )

    def _innermost_run(self) -> Run | None:
        """Return the innermost run in progress that contains the job."""
        return None if self._scheduler is None else self._scheduler._innermost_run()

    def _check_options(self) -> None:
        """Check options that depend on each other."""
        options = self._slow_path
        if options is None:
            return
        if options.on_timeout != "fail" and options.timeout is options.idle_timeout is None:
            raise ValueError(
                f"on_timeout={options.on_timeout!r} of {self._name_for_errors()}: there is no timeout; "
                f"give timeout= or idle_timeout= too, or no on_timeout"
            )
        if options.restarts is not None and options.on_timeout != "restart":
            raise ValueError(
                f"restarts={short_repr(options.restarts)} of {self._name_for_errors()}: nothing is restarted; "
                f"give on_timeout='restart' too"
            )

    def _unknown_option(self, name: str) -> TypeError:
        return _job_options.unknown_job_option_error(name, repr(self._label or type(self).__name__), type(self))

    def _needs(self) -> Mapping[str, AmountSpec]:
        return {} if self._scheduling is None else self._scheduling.needs

    def _may_repeat(self) -> bool:
        """Return whether the job may be called more than once in one run."""
        options = self._slow_path
        if options is None:
            return False
        is_timed = options.timeout is not None or options.idle_timeout is not None
        return options.retry is not None or (options.on_timeout == "restart" and is_timed)

    def _release_inputs(self, *, last_call: bool = False) -> None:
        """Drop the results that only this job still needed; call it as soon as its arguments are filled in.

        If the job may be called again, its inputs' results are kept, unless this is the `last_call`.
        """
        rule = self._rule
        if rule is None or not rule.drops_results:
            return
        if not last_call and (self._may_repeat() or self._needs()):  # a job with needs may be throttled
            return
        extras = self._ensure_extras()
        if extras.inputs_released:
            return
        extras.inputs_released = True
        for job in rule.inputs:
            input_extras = job._extras
            if job._scheduler is None or job in job._scheduler._members.used_outside:
                continue  # a nested scheduler may run again and need it
            if input_extras is not None and input_extras.consumers:
                input_extras.consumers -= 1
                if not input_extras.consumers and job._state is JobState.SUCCEEDED:
                    job._outcome = DROPPED

    def _grant(self) -> Any:
        """Return the `Grant` of its resources, or None."""
        return None if self._extras is None else self._extras.grant

    def _ensure_extras(self) -> RunExtras:
        """Return the rare facts of the job, created at the first call."""
        self._extras = self._extras or RunExtras()
        return self._extras

    def _has_run_state(self) -> bool:
        """Return whether a run has changed any of its fields."""
        return self._state is not IDLE or self._pending >= 0 or self._successors is not None

    def _reset(self) -> None:
        """Forget the last run."""
        self._state = IDLE
        self._outcome = self._started_at = self._finished_at = self._extras = self._successors = self._worker = None
        self._pending = -1

    def _forget_call(self) -> None:
        """Release what only another run would need; the job has settled, and its scheduler will be closed."""

    def _needs_shutdown(self) -> bool:
        """Return whether `co_shutdown` has anything to do; called only if the class defines one."""
        return True

    def _call_once(self) -> Awaitable[T]:
        """Call the job once, and return its awaitable; workers do this for all jobs off the hot path."""
        return self.co_run()

    def _is_ready(self) -> bool:
        """Return whether the job is a ready service, which counts as succeeded as a requirement."""
        return self._state is JobState.RUNNING and self._extras is not None and self._extras.ready

    def _is_one_shot(self) -> bool:
        """Return whether the job can run only once."""
        return False

    def _is_spent(self) -> bool:
        """Return whether the job can run only once, and has done so."""
        return False

    def _all_jobs(self) -> Iterable[AbstractJob[Any]]:
        return (self,)

    def _last_jobs(self) -> Iterable[AbstractJob[Any]]:
        return (self,)

    def __repr__(self) -> str:
        """Show kind, label and state."""
        return f"<{type(self).__name__} `{_labels.printable(self.label)}` {self._state.value}>"


AnyJob = AbstractJob[Any]

DEFAULT_SLOW_PATH: Final = _option_descriptors.register_default_record(
    AbstractJob, "_slow_path", _job_options.SlowPathOptions
)
"""The record of a job that leaves the hot path for a reason other than an option. A job on the hot path has None."""
REDACTED: Final = _option_descriptors.replace_field(DEFAULT_SLOW_PATH, "redact", True)
_option_descriptors.register_default_record(AbstractJob, "_scheduling", _job_options.SchedulingOptions)
_option_descriptors.register_default_record(AbstractJob, "_rule", _job_options.TriggerRule)
_option_descriptors.set_docs_and_signature(AbstractJob, AbstractJob.__init__)

state_of: Final = AbstractJob.__dict__["_state"].__get__
"""Returns the state of a job; raises TypeError for anything else, and AttributeError for a job without a state."""


def is_scheduler(job: object) -> TypeIs[BaseScheduler]:
    """Return whether a job is a scheduler; use no other test.

    A user's job may have attributes with any name, so they do not identify a scheduler.
    """
    return isinstance(job, AbstractJob) and job._is_scheduler


def not_a_scheduler_error(value: object, subject: str) -> TypeError:
    """Return the error for a value of `scheduler=` that is not a scheduler."""
    return TypeError(f"scheduler={short_repr(value)} of {subject}: give a Scheduler")
