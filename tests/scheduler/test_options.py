"""The options of schedulers and jobs: declared once, set while no run is in progress, in effect in the next run."""

import ast
import inspect
import typing
from collections.abc import Callable
from typing import Any, NamedTuple
import anyio
import pytest
from trioflow import (
    AbstractJob,
    CommandJob,
    Job,
    Pool,
    Retry,
    Scheduler,
    Sequence,
    Service,
    StopReason,
    current_job,
)
from trioflow._core.job._job_options import JobOptions
from trioflow._core.job._option_descriptors import Option, ReadOnlyOption
from trioflow._core.run._current import current_worker_var
from trioflow._scheduler import SchedulerOptions
from trioflow.abc import Instrument
from tests.bodies import (
    BLOCKED,
    CANCELLED,
    FAILED,
    SUCCEEDED,
    fail,
    fail_now,
    nap,
    nothing,
    timed,
)
from tests.conftest import Virtual

OF_JOBS = AbstractJob._declared_options
OF_SCHEDULERS = Scheduler._declared_options
FIXED = {
    name for name, option in OF_SCHEDULERS.items() if isinstance(option, ReadOnlyOption)
}


class Effect(NamedTuple):
    """A scenario that runs once without an option, and once with it."""

    scheduler: Scheduler
    target: AbstractJob[Any]
    value: Any
    observe: Callable[[float], Any]
    """Returns what differs, after a run that took so many seconds."""
    before: Any
    after: Any


class Starts(Instrument):
    def __init__(self) -> None:
        self.labels: list[str] = []

    def before_run(self, scheduler: Scheduler) -> None:
        self.labels.clear()

    def job_started(self, scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        self.labels.append(job.label)

    def order(self, seconds: float) -> str:
        return "".join(self.labels)


class Slow(AbstractJob[None]):
    """A job that takes long to shut down."""

    async def co_run(self) -> None: ...

    async def co_shutdown(self) -> None:
        await anyio.sleep(9)


def took(seconds: float) -> float:
    return seconds


def for_job(
    job: Job[Any],
    value: Any,
    before: Any,
    after: Any,
    *others: Any,
    look: Callable[[Job[Any]], Any] = lambda job: job.state,
) -> Effect:
    return Effect(
        Scheduler(job, *others), job, value, lambda _: look(job), before, after
    )


def for_scheduler(
    value: Any, before: Any, after: Any, look: Callable[[Scheduler], Any]
) -> Effect:
    scheduler = Scheduler(Job(nothing, label="a"))
    return Effect(scheduler, scheduler, value, lambda _: look(scheduler), before, after)


def in_order(
    name: str,
    value: Any,
    before: str,
    after: str,
    *jobs: AbstractJob[Any],
    **options: Any,
) -> Effect:
    """Check an option of the last job, or of the scheduler, by the order of starts."""
    starts = Starts()
    scheduler = Scheduler(*jobs, instruments=[starts], **options)
    target = jobs[-1] if name in OF_JOBS else scheduler
    return Effect(scheduler, target, value, starts.order, before, after)


def counting() -> Effect:
    """Check an option by how often a job is called."""
    calls: list[int] = []

    async def body() -> None:
        calls.append(0)
        await fail_now()

    def number(_: float) -> int:
        return [len(calls), calls.clear()][0] or 0

    job = Job(body)
    return Effect(Scheduler(job), job, Retry(2, first=0), number, 1, 3)


def sharing_tasks() -> Effect:
    """Jobs that run one after the other share tasks; one of them may have its own."""
    tasks: list[Any] = []

    async def body() -> None:
        tasks.append(
            current_worker_var.get()
        )  # its worker: a task that somebody keeps is not shared from then on

    def is_shared(_: float) -> bool:
        return [tasks[1] is tasks[2], tasks.clear()][0] or False

    jobs = [Job(body) for _ in range(5)]
    return Effect(Scheduler(Sequence(jobs)), jobs[2], True, is_shared, True, False)


def ended(
    name: str,
    value: Any,
    after: StopReason,
    *jobs: AbstractJob[Any],
    job: AbstractJob[Any],
) -> Effect:
    """Check an option by the stop reason of the run."""
    scheduler = Scheduler(job, *jobs)
    target = scheduler if name not in OF_JOBS or job is jobs else job
    return Effect(
        scheduler,
        target,
        value,
        lambda _: scheduler.stop_reason,
        StopReason.FAILED,
        after,
    )


def lasting(
    value: Any, before: float, after: float, *jobs: AbstractJob[Any], **options: Any
) -> Effect:
    """Check an option of the scheduler by the duration of the run."""
    scheduler = Scheduler(*jobs, **options)
    return Effect(scheduler, scheduler, value, took, before, after)


def needing() -> Effect:
    job = Job(nap, 1)
    return Effect(
        Scheduler(Job(nap, 1, needs={"cpu": 1}), job, pool=Pool(cpu=1)),
        job,
        {"cpu": 1},
        took,
        1,
        2,
    )


def watching() -> Effect:
    starts = Starts()
    return for_scheduler((starts,), "", "a", lambda _: starts.order(0))


def settling() -> Effect:
    told: list[str] = []
    return for_scheduler(
        lambda job: told.append(job.label), "", "a", lambda _: "".join(told)
    )


def named(*labels: str, **options: Any) -> list[Job[Any]]:
    return [Job(nap, 1, label=label, **options) for label in labels]


EFFECTS: dict[str, Callable[[], Effect]] = {
    "label": lambda: for_job(Job(nothing, label="old"), "new", "old", "new", look=lambda job: job.path),
    "critical": lambda: ended("critical", True, StopReason.CRITICAL, job=Job(fail_now)),
    "forever": lambda: for_job(Job(nap, 9), True, SUCCEEDED, CANCELLED, Job(nap, 1)),
    "timeout": lambda: for_job(Job(nap, 9), 1.0, SUCCEEDED, FAILED),
    "idle_timeout": lambda: for_job(Job(nap, 9), 1.0, SUCCEEDED, FAILED),
    "on_timeout": lambda: for_job(Job(nap, 9, timeout=1), "move_on", FAILED, SUCCEEDED),
    "own_task": sharing_tasks,
    "retry": counting,
    "run_if": lambda: for_job(Job(nap, 1, required=(bad := Job(fail, 1))), "settled", BLOCKED, SUCCEEDED, bad),
    "keep_result": lambda: for_job(  # a result that is not kept is gone after the last job that uses it
        first := Job(nap, 1, "value"), False, "value", "none", Job(nap, 1, first),
        look=lambda job: job.result(default="none"),
    ),
    "redact": lambda: for_job(Job(nap, 1), True, "nap(1)", "nap(…)", look=lambda job: job.label),
    "log": lambda: for_job(Job(fail_now), False, True, False, look=lambda job: job.log),
    "priority": lambda: in_order("priority", 1, "ab", "ba", *named("a", "b"), jobs_window=1),
    "expected_duration": lambda: in_order(
        "expected_duration", 5.0, "ab", "ba", *named("a", "b", expected_duration=1), jobs_window=1
    ),
    "needs": needing,
    "jobs_window": lambda: lasting(1, 1, 2, *named("a", "b")),
    "shutdown_timeout": lambda: lasting(3.0, 1, 3, Slow()),
    "cleanup_timeout": lambda: lasting(
        2.0, 6, 3, bad := Job(fail, 1, critical=True), Job(nap, 9, run_if="failed", required=bad)
    ),
    "critical_jobs": lambda: ended("critical_jobs", True, StopReason.CRITICAL, job=Job(fail_now)),
    "policy": lambda: in_order(
        "policy", "depth-first", "abcd", "acdb", a := Job(nap, 1, label="a"), *named("b"),
        Job(nap, 1, label="c", required=a), Job(nap, 1, label="d", required=a), jobs_window=1,
    ),
    "pool": lambda: lasting(Pool(cpu=1), 1, 2, *named("a", "b", needs={"cpu": 1}), pool=Pool(cpu=2)),
    "instruments": watching,
    # only an open block drops jobs: see `test_keep_jobs_takes_effect_in_the_next_block`
    "keep_jobs": lambda: for_scheduler(False, True, False, lambda scheduler: scheduler.keep_jobs),
    "hold": lambda: lasting(True, 1, 9, Job(fail), timeout=9),  # it is held until its timeout
    "on_job_settled": lambda: settling(),
    "durations": lambda: in_order("durations", {"a": 1, "b": 5}, "ab", "ba", *named("a", "b"), jobs_window=1),
    # processes do not run in virtual time: the effect is tested in `tests/jobs/process`
    "processes": lambda: for_scheduler("local", None, "local", lambda scheduler: scheduler.processes),
}  # fmt: skip
"""How to see that an option is in effect. Options of journals are tested in tests/journal."""
IN_JOURNALS = {"save": "json", "key": "what it does", "version": 2, "reads": "in", "writes": "out", "journal": "run.db",
               "restore_if": bool}  # fmt: skip
VALUES: dict[str, Any] = {
    **{name: make().value for name, make in EFFECTS.items()},
    **IN_JOURNALS,
}


def test_each_option_that_can_be_set_has_a_case_in_these_tests() -> None:
    assert VALUES.keys() | FIXED == OF_SCHEDULERS.keys()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[pytest.mark.fast_way("asyncio")] if name == "own_task" else []
        )
        for name in EFFECTS
    ],
)  # with direct isolation on asyncio, each job has its own task
def test_an_option_set_between_runs_is_in_effect_in_the_next_one(
    virtual: Virtual, name: str
) -> None:
    case = EFFECTS[name]()

    async def run() -> Any:
        _, seconds = await timed(case.scheduler)
        return case.observe(seconds)

    assert virtual(run) == case.before
    setattr(case.target, name, case.value)
    assert getattr(case.target, name) == case.value
    assert virtual(run) == case.after


@pytest.mark.parametrize("name", VALUES)
def test_setting_an_option_during_a_run_raises_with_its_name(
    virtual: Virtual, name: str
) -> None:
    """During a run, options of its jobs cannot be set, at any depth and in any state; only labels can. `jobs_window`
    can be in a scheduler that has not begun, and elsewhere a number for a number."""
    refused: list[str] = []

    def attempt(jobs: list[AbstractJob[Any]]) -> None:
        for job in jobs:
            before = getattr(job, name)
            try:
                setattr(job, name, VALUES[name])
            except RuntimeError as error:
                refused.append(str(error))
                assert getattr(job, name) == before

    async def body() -> None:
        attempt(schedulers if name not in OF_JOBS else [*schedulers, *jobs])

    settled, running, idle = Job(nothing), Job(body), Job(nothing, label="idle")
    idle.requires(running)
    inner, later = (
        Scheduler(Job(nap, 1), label="inner"),
        Scheduler(Job(nothing), label="later", required=running),
    )
    whole = Scheduler(Sequence(settled, running), idle, inner, later, label="whole")
    schedulers: list[AbstractJob[Any]] = [whole, inner, later]
    jobs: list[AbstractJob[Any]] = [settled, running, idle, *inner, *later]
    assert virtual(whole.co_run)
    if name == "label":
        assert not refused
    elif name == "jobs_window":
        assert len(refused) == 2
        assert all(
            "during a run a number can only be replaced by a number" in one
            for one in refused
        )
    else:
        for_next_try = name in ("timeout", "idle_timeout")  # of the settled job
        assert (
            len(refused)
            == len(schedulers) + (name in OF_JOBS) * len(jobs) - for_next_try
        )
        assert all(
            one.startswith(f"{name} of '") and "not allowed while '" in one
            for one in refused
        )


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [("required", (), "requires()"), ("scheduler", None, "add()")],
)
def test_setting_required_or_scheduler_raises_and_names_the_method_to_call(
    name: str, value: Any, instead: str
) -> None:
    job = Job(nothing, label="x")
    with pytest.raises(
        AttributeError, match=f"^{name} of 'x' cannot be set: call {instead[:-2]}"
    ):
        setattr(job, name, value)


@pytest.mark.parametrize(
    "name",
    [name for name in VALUES if name not in ("label", "redact", "key", "version")],
)
def test_a_wrong_value_of_an_option_is_rejected_and_changes_nothing(name: str) -> None:
    scheduler = Scheduler(label="s")
    before, wrong = getattr(scheduler, name), object()
    with pytest.raises((TypeError, ValueError), match=f"{name}.* of 's'"):
        setattr(scheduler, name, wrong)
    assert getattr(scheduler, name) == before
    with pytest.raises((TypeError, ValueError), match=f"{name}.* of 's'"):
        Scheduler(label="s", **{name: wrong})


def test_on_timeout_without_a_timeout_has_no_effect() -> None:
    """A library may hand on the timeout of its caller, None for no limit, beside what it does after a timeout."""
    job = Job(anyio.sleep, 0, timeout=None, on_timeout="move_on")
    group = Scheduler(job, timeout=2, on_timeout="move_on")
    group.timeout = None
    assert Scheduler(group).run(backend="asyncio")


def test_forever_of_a_service_cannot_be_set_to_false() -> None:
    async def serve(*, task_status: Any) -> None: ...

    service = Service(serve, label="x")
    with pytest.raises(ValueError, match="forever=False of 'x'"):
        service.forever = False
    assert service.forever


def test_the_retry_of_a_command_with_callbacks_may_be_set() -> None:
    job = CommandJob(["true"], on_settled=lambda _: None, label="x")
    job.retry = 2
    assert job.retry == Retry(2, first=0)
    with pytest.raises(TypeError, match="retry='no' of 'x'"):
        job.retry = "no"  # type: ignore[assignment]
    assert job.retry == Retry(2, first=0)


def test_keep_jobs_takes_effect_in_the_next_block(virtual: Virtual) -> None:
    """With `keep_jobs=False`, set before a block, jobs that are added in the block are dropped once they settle."""
    scheduler = Scheduler()
    scheduler.keep_jobs = False

    async def main() -> int:
        async with scheduler:
            await scheduler.add(Job(nothing)).wait_settled()
            return len(scheduler)

    assert virtual(main) == 0


def spelt_types(options: Any) -> dict[str, str]:
    return {name: one.__forward_arg__ for name, one in options.__annotations__.items()}


def declared_types(kinds: list[type[AbstractJob[Any]]]) -> dict[str, str]:
    """Return the types of what may be given, as classes declare them: the last one in the brackets."""
    found: dict[str, str] = {}
    for kind in kinds:
        for name, annotation in kind.__annotations__.items():
            if isinstance(vars(kind).get(name), Option):
                types = typing.cast(
                    ast.Subscript, ast.parse(annotation, mode="eval").body
                ).slice
                found[name] = ast.unparse(
                    types.elts[-1] if isinstance(types, ast.Tuple) else types
                )
    return found


@pytest.mark.parametrize(
    ("spelt", "kinds"),
    [
        (JobOptions, [AbstractJob]),
        (SchedulerOptions, [AbstractJob, *Scheduler.__mro__[1::-1]]),
    ],
)
def test_typed_dicts_of_options_have_the_declared_types(
    spelt: Any, kinds: list[type[AbstractJob[Any]]]
) -> None:
    plain = {
        name: text.replace("_pools.", "")
        for name, text in declared_types(kinds).items()
    }
    assert spelt_types(spelt) == plain


@pytest.mark.parametrize("kind", [AbstractJob, Scheduler])
def test_the_signature_shows_each_option_with_its_default(
    kind: type[AbstractJob[Any]],
) -> None:
    """The signature that `help()` shows has each option with the default that a job made without arguments has. That of
    a scheduler has its own options, and those of every job as `**options`."""
    shown = {
        name: one.default
        for name, one in inspect.signature(kind).parameters.items()
        if one.kind is one.KEYWORD_ONLY
    }
    own = kind._declared_options.keys() - (
        OF_JOBS.keys() - {"label", "timeout"} if kind is Scheduler else set()
    )
    assert shown == {name: kind._declared_options[name].default for name in own}
    assert not any(name.startswith("_") for name in inspect.signature(kind).parameters)
    job = kind()
    for name in shown.keys() - FIXED - {"label", "needs"}:
        assert getattr(job, name) == shown[name], name


def test_the_constructor_of_a_scheduler_has_the_types_of_its_options() -> None:
    """The parameters of `Scheduler` have the types of the TypedDict of a `First`, and the defaults that it declares."""
    spelt = spelt_types(SchedulerOptions)
    for name, one in inspect.signature(Scheduler.__init__).parameters.items():
        if one.kind is one.KEYWORD_ONLY:
            assert one.annotation == spelt[name], name
            assert one.default == OF_SCHEDULERS[name].default, name


def test_the_docstring_of_a_scheduler_is_short() -> None:
    """An editor shows the docstring of `Scheduler` beside its name: it has 300 words at most."""
    assert len((Scheduler.__doc__ or "").split()) <= 300


def test_a_subclass_with_its_own_init_has_its_signature() -> None:
    class Own(AbstractJob[None]):
        def __init__(self, size: int) -> None:
            super().__init__(label=str(size))

    assert list(inspect.signature(Own).parameters) == ["size"]


@pytest.mark.parametrize("kind", [AbstractJob, Scheduler])
def test_each_option_has_its_docstring(kind: type[AbstractJob[Any]]) -> None:
    for name, option in kind._declared_options.items():
        text = vars(option).get("__doc__")  # not that of its class
        assert text, name
        if option.settable_in_run:
            assert "during a run" in " ".join(text.split())


def test_options_of_a_job_that_is_in_no_run_may_be_set_by_a_job() -> None:
    other = Job(nap, 1)

    async def prepare() -> None:
        other.timeout = 3
        assert current_job() is not other

    assert Scheduler(Job(prepare)).run(check=True)
    assert other.timeout == 3
