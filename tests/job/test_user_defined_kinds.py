"""Support in `trioflow.abc` for users' kinds: a base with hooks, a handle on the run, time limits, thread events."""

import io
import os
import threading
import time
from pathlib import Path
from typing import Any
import anyio
import pytest
import trio
import trioflow.abc
from trioflow import (
    AbstractJob,
    Job,
    JobCancelled,
    JobState,
    JobTimeout,
    Pool,
    Rate,
    Retry,
    Scheduler,
    StopReason,
    Throttled,
)
from trioflow._core.job._job_options import file_path
from trioflow._core.run._requirement_counts import users_of
from trioflow.abc import (
    BoxStyle,
    JobKind,
    RunHandle,
    ThreadEvent,
    Work,
    arguments_of,
    original_arguments_of,
    run_of,
)
from trioflow.view import listing
from ..bodies import task_now
from ..conftest import Virtual

HOOKS = sorted(
    name
    for name in dir(JobKind)
    if not name.startswith("_") and not hasattr(AbstractJob, name)
)


class Echo(JobKind[Any]):
    """Returns its arguments, after a nap for each."""

    def __init__(self, *given: Any, nap: float = 0.0, **options: Any) -> None:
        super().__init__(*given, **options)
        self.nap = nap

    async def co_run(self) -> Any:
        await anyio.sleep(self.nap)
        return arguments_of(self)

    def default_label(self, depth: int) -> str:
        given = original_arguments_of(self)
        words = [
            trioflow.abc.label_inside(one, depth) if isinstance(one, Echo) else one
            for one in given
        ]
        return f"echo {' '.join(words)}"


class Owner(AbstractJob[None]):
    """A plain job of a user's whose attributes have the names of the hooks of kinds."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in HOOKS:
            setattr(self, name, 7)

    async def co_run(self) -> None:
        return None


def test_subclasses_of_abstract_job_may_use_the_names_of_job_kind_hooks(
    virtual: Virtual,
) -> None:
    assert {"command_line", "default_label", "failure_group", "last_result"} <= set(
        HOOKS
    )
    job = Owner(label="own", redact=True)
    scheduler = Scheduler(job)
    assert virtual(scheduler.co_run)
    assert "<Owner own>" in listing(scheduler)
    assert "own" in scheduler.graph().source


def test_jobs_among_the_arguments_of_a_job_kind_are_inputs(virtual: Virtual) -> None:
    """Jobs among the arguments of a JobKind are required, added with it, replaced by results and shown in its label."""
    first = Echo("a")
    second = Echo(first, "b")
    scheduler = Scheduler(Echo(second))
    assert list(second.required) == [first]
    assert virtual(scheduler.co_run)
    assert second.result() == (("a",), "b")  # it is kept, whoever has used it
    assert second.label == "echo echo a b"


def test_inputs_are_filled_in_with_an_overridden_result_method(
    virtual: Virtual,
) -> None:
    """A kind that overrides `result()` passes on the value of that method, not the return value of `co_run`."""

    class Loud(Echo):
        def result(self, **given: Any) -> Any:
            return str(super().result(**given)).upper()

    last = Echo([loud := Loud("a")], loud)
    assert virtual(Scheduler(last).co_run)
    assert last.result() == (["('A',)"], "('A',)")


def test_keep_result_false_drops_a_result_used_by_a_job_kind(virtual: Virtual) -> None:
    first = Job(anyio.sleep, 0, keep_result=False)
    assert virtual(Scheduler(Echo(first, label="second")).co_run)
    assert first.result(default="dropped") == "dropped"


@pytest.mark.parametrize(
    "field", ["arguments", "options", "reads", "writes", "appends", "begins_anew"]
)
def test_work_stores_each_field_as_a_tuple(field: str) -> None:
    """`Work` stores a single string or path as a tuple of one, and reads an iterator once to store its items."""
    for given in ("main.c", Path("main.c")):
        assert getattr(Work(what="compile", **{field: given}), field) == (given,)
    assert getattr(Work(what="compile", **{field: iter(["a", "b"])}), field) == (
        "a",
        "b",
    )


@pytest.mark.parametrize(
    ("path", "advice"), [("", "give a path"), ("a\0b", "a path cannot contain NUL")]
)
def test_file_path_rejects_empty_paths_and_nul_characters(
    path: str, advice: str
) -> None:
    """`file_path` rejects paths with a NUL, and empty ones, which mostly come from a variable that is not set."""
    with pytest.raises(ValueError, match=f"target=.* of Compress: {advice}"):
        file_path(path, "target", "Compress")


def test_check_before_run_of_a_subclass_of_job_is_called() -> None:
    """`check_before_run` of a subclass of `Job` is called, although plain jobs take a fast path without this hook."""

    class Careful(Job[None]):
        def check_before_run(self) -> None:
            raise ValueError("not here")

    with pytest.raises(ValueError, match="not here"):
        Scheduler(Careful(anyio.sleep, 0)).run()


def test_label_of_a_redacted_job_has_only_the_name_of_its_kind() -> None:
    assert Echo("password", redact=True).label == "Echo …"


def test_subclasses_inherit_box_and_cannot_be_interrupted() -> None:
    class Star(
        JobKind[None], box=BoxStyle("star", "star"), cannot_be_interrupted="it shines"
    ):
        pass

    class SmallStar(Star):
        pass

    source = Scheduler(SmallStar(label="s"), Echo("a"), Echo("b")).graph().source
    assert "shape=star" in source
    assert SmallStar._cannot_be_interrupted == "it shines"


def test_failures_of_a_failure_group_are_one_line_of_log(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(JobKind[None]):
        async def co_run(self) -> None:
            raise OSError("broken")

    class Grouped(Broken):
        def failure_group(self) -> object:
            return original_arguments_of(self)

    class Other(Broken):
        pass

    def failures(*jobs: Any) -> int:
        caplog.clear()
        virtual(Scheduler(jobs).co_run)
        return sum(
            "failed: OSError" in record.getMessage() for record in caplog.records
        )

    assert (
        failures(
            Grouped(group, label=f"{group}{n}") for group in "ab" for n in range(3)
        )
        == 2
    )
    assert (
        failures(kind(label=f"{n}") for kind in (Broken, Other) for n in range(3)) == 2
    )


@pytest.mark.parametrize("value", [None, 3])
def test_a_default_label_that_is_no_text_is_the_name_of_the_class(
    virtual: Virtual, value: Any
) -> None:
    """A `default_label` without a `return` broke each view, `repr` included, and each error that named the job."""

    class Nameless(Echo):
        def default_label(self, depth: int) -> str:
            return value  # type: ignore[no-any-return]

    nameless = Nameless("a")
    outer = Echo(nameless)
    scheduler = Scheduler(nameless, outer)
    assert virtual(scheduler.co_run)
    assert (nameless.label, nameless.path) == ("Nameless", "Nameless")
    assert "Nameless" in repr(nameless)
    assert "Nameless" in listing(scheduler, details=True)


@pytest.mark.parametrize("makes_list", [False, True])
def test_a_broken_failure_group_ends_no_run(virtual: Virtual, makes_list: bool) -> None:
    """A key of the log that raises, or that cannot be a key, ended the run, and left it in place of the failure."""

    class Broken(JobKind[None]):
        async def co_run(self) -> None:
            raise ValueError("its own failure")

        def failure_group(self) -> object:
            if makes_list:
                return ["no key"]
            raise OSError("not that")

    broken, other = Broken(label="broken"), Echo("a", nap=1)
    scheduler = Scheduler(broken, other)
    assert not virtual(scheduler.co_run)
    assert isinstance(broken.raised_exception(), ValueError)
    assert scheduler.stop_reason is StopReason.FAILED
    assert other.result() == ("a",)


def test_on_succeeded_and_on_settled_can_read_the_outcome(virtual: Virtual) -> None:
    """`on_succeeded` and `on_settled` are called after the last attempt, and see the outcome and the state to come."""
    seen: list[Any] = []

    def note(job: JobKind[Any]) -> None:
        seen.append((job.label, job.state.value, job.result(default="none")))

    def raised(job: JobKind[Any]) -> None:
        with pytest.raises(JobCancelled):
            job.result()
        seen.append((job.label, "cancelled"))

    done = Echo("x", label="done", on_succeeded=note, on_settled=note)
    cut = Echo("y", label="cut", nap=9, on_succeeded=note, on_settled=raised)
    virtual(Scheduler(done, cut, timeout=1).co_run)
    assert seen == [
        ("done", "succeeded", ("x",)),
        ("done", "succeeded", ("x",)),
        ("cut", "cancelled"),
    ]
    assert done.result() == ("x",)


@pytest.mark.parametrize("raises", [False, True])
def test_a_job_that_a_callback_adds_waits_until_the_callbacks_are_over(
    virtual: Virtual, raises: bool
) -> None:
    """A job that `on_succeeded` adds gets the final outcome as its input, also if that raises."""
    received: list[Any] = []

    async def receive(value: Any) -> None:
        received.append(value)

    def add(job: Any) -> None:
        added.append(job.scheduler.add(Job(receive, job)))
        assert job.result() == ("x",)
        if raises:
            raise OSError("broken")

    added: list[Job[None]] = []
    virtual(Scheduler(Echo("x", on_succeeded=add)).co_run)
    assert received == ([] if raises else [("x",)])
    assert added[0].state is (JobState.BLOCKED if raises else JobState.SUCCEEDED)


def test_retry_of_a_job_with_callbacks_can_be_read_and_set(virtual: Virtual) -> None:
    seen: list[Any] = []
    job = Echo(on_settled=seen.append, label="a")
    assert job.retry is None
    job.retry = 3
    assert job.retry == Retry(3, first=0)
    assert virtual(Scheduler(job).co_run)
    assert seen == [job]


class Unlucky(JobKind[None]):
    """Fails at each attempt; the second does not count, because it is throttled."""

    calls = 0

    async def co_run(self) -> None:
        self.calls += 1
        raise Throttled("api", after=1) if self.calls == 2 else ValueError(self.calls)


@pytest.mark.parametrize(
    "callbacks", [{}, {"on_settled": str}], ids=["plain", "callbacks"]
)
def test_attempts_before_a_throttled_attempt_are_counted(
    virtual: Virtual, callbacks: dict[str, Any]
) -> None:
    job = Unlucky(retry=1, needs={"api": 1}, **callbacks)
    virtual(Scheduler(job, pool=Pool(api=Rate(calls=10, per=1))).co_run)
    assert job.calls == 3


@pytest.mark.parametrize("wrong", [7, anyio.sleep])
def test_a_callback_that_is_not_a_plain_function_raises(wrong: Any) -> None:
    """`on_succeeded` has to be a plain function, because nothing would await an async one."""
    with pytest.raises(
        TypeError, match=r"on_succeeded=.* of 'Echo': .*give a plain function"
    ):
        Echo(on_succeeded=wrong)


class Limited(JobKind[str], keeps_time=True):
    """Works for some seconds, with a sign of life each, in a block that its time limit cancels."""

    async def co_run(self) -> str:
        seconds, cancels = arguments_of(self)
        run = run_of(self)
        with run.time_limit(self, "ticks", cancels=cancels) as limit:
            for _ in range(seconds):
                await run.sleep_until(run.clock() + 1)
                limit.heartbeat()
                assert limit.is_over is (run.clock() >= limit.deadline)
                if limit.is_over:
                    raise limit.error()
            await anyio.sleep(1.5)
        return "ended"


@pytest.mark.parametrize("cancels", [False, True])
def test_a_time_limit_fails_the_job_with_job_timeout(
    virtual: Virtual, cancels: bool
) -> None:
    job = Limited(9, cancels, timeout=3.5 if cancels else 3)
    virtual(Scheduler(job).co_run)
    error = job.raised_exception()
    assert isinstance(error, JobTimeout)
    assert (job.timed_out, job.elapsed, error.__context__) == (True, job.timeout, None)


def test_a_time_limit_that_cancels_respects_idle_timeout(virtual: Virtual) -> None:
    """With `idle_timeout`, signs of life postpone the deadline of a time limit, and its error says what was missing."""
    alive, silent = (
        Limited(5, True, idle_timeout=2, label="alive"),
        Limited(3, True, idle_timeout=1.25, label="silent"),
    )
    virtual(Scheduler(alive, silent).co_run)
    assert alive.result() == "ended"
    assert silent.elapsed == 4.25
    assert "no ticks for 1.25 s" in str(silent.raised_exception())


class Late(JobKind[bool], keeps_time=True):
    """Holds the loop until its timeout, while there is something to read."""

    async def co_run(self) -> bool:
        reading, writing = os.pipe()
        os.write(writing, b"x")
        with run_of(self).time_limit(self) as limit:
            time.sleep(0.02)  # noqa: ASYNC251 - to hold the loop
            found = await limit.wait_readable(reading)
        os.close(reading)
        os.close(writing)
        return found


def test_wait_readable_returns_false_after_the_timeout(backend: str) -> None:
    job = Late(timeout=0.02, idle_timeout=0.02)
    assert Scheduler(job).run(backend=backend)
    assert job.result() is False


class Counted(JobKind[None], keeps_time=True):
    """Works in blocks in which its `idle_timeout` counts, and does something else in between."""

    async def co_run(self) -> None:
        run = run_of(self)
        with run.time_limit(self, "ticks", counts=False) as limit:
            for seconds in (2, 2, 4):
                await anyio.sleep(9)
                assert not limit.is_over
                with limit.counting():
                    await anyio.sleep(seconds)
            raise limit.error()


def test_idle_timeout_counts_only_inside_counting_blocks(virtual: Virtual) -> None:
    job = Counted(idle_timeout=3)
    virtual(Scheduler(job).co_run)
    assert isinstance(job.raised_exception(), JobTimeout)
    assert job.elapsed == 9 + 2 + 9 + 2 + 9 + 4


class Reader(JobKind[list[bool]], keeps_time=True):
    """Holds the loop for longer than its `idle_timeout`, while something is written to the pipe that it reads."""

    async def co_run(self) -> list[bool]:
        reading, writing = os.pipe()
        try:
            with run_of(self).time_limit(self) as limit:
                time.sleep(0.02)  # noqa: ASYNC251 - to hold the loop
                os.write(writing, b"x")
                found = [await limit.wait_readable(reading)]
                found.append(
                    await limit.wait_readable(reading)
                )  # it has given no sign of life
                limit.heartbeat()
                time.sleep(0.02)  # noqa: ASYNC251
                found.append(await limit.wait_readable(reading))
                os.read(reading, 1)
                found.append(await limit.wait_readable(reading))
                assert limit.is_over
                return found
        finally:
            os.close(reading)
            os.close(writing)


def test_wait_readable_finds_late_data_once_after_the_idle_timeout(
    backend: str,
) -> None:
    """A delayed job finds late data once after each deadline, and is out of time unless it calls `heartbeat()`."""
    job = Reader(idle_timeout=0.01)
    assert Scheduler(job).run(backend=backend)
    assert job.result() == [True, False, True, False]


@pytest.mark.parametrize(
    ("timeout", "found"),
    [(None, "has no deadline, because no timeout is in effect"), (5, "has 5 s left")],
    ids=["none", "early"],
)
def test_error_of_a_time_limit_that_is_not_over_raises(
    virtual: Virtual, timeout: float | None, found: str
) -> None:
    class Hasty(JobKind[None], keeps_time=True):
        async def co_run(self) -> None:
            await anyio.sleep(1)
            raise run_of(self).time_limit(self).error()

    job = Hasty(timeout=timeout, label="hasty")
    virtual(Scheduler(job).co_run)
    error = job.raised_exception()
    assert type(error) is RuntimeError
    assert (
        str(error)
        == f"error() of the time limit of 'hasty', which {found}: call it when `is_over`"
    )


def test_a_box_that_is_no_box_style_raises_when_the_class_is_created() -> None:
    with pytest.raises(
        TypeError,
        match=r"box='box' of class Boxed: give a trioflow\.abc\.BoxStyle, BoxStyle\('boxed', 'box'\)",
    ):
        type("Boxed", (JobKind,), {}, box="box")


@pytest.mark.parametrize(
    "bad", [{"name": 1}, {"shape": None}, {"brackets": "[]"}, {"rounded": "no"}]
)
def test_an_invalid_box_style_raises_when_the_class_is_created(
    bad: dict[str, Any],
) -> None:
    """An invalid BoxStyle raises when the class is created, and not when a graph is drawn, perhaps hours later."""
    with pytest.raises(
        (TypeError, ValueError),
        match=rf"{next(iter(bad))}=.* of the BoxStyle of class Boxed: give ",
    ):
        type("Boxed", (JobKind,), {}, box=BoxStyle(**{"name": "boxed", **bad}))


def test_signs_of_life_reach_enclosing_schedulers(virtual: Virtual) -> None:
    """The signs of life of a job also postpone the `idle_timeout` of the nested scheduler that contains the job."""
    inner = Scheduler(Limited(5, False), idle_timeout=2, label="inner")
    virtual(Scheduler(inner).co_run)
    assert inner.is_succeeded()


def closed_at_once(run: RunHandle) -> Any:
    """Make something whose `close` is a plain method."""
    return io.StringIO()


class Asking(JobKind[tuple[bool, bool]], keeps_time=True):
    """Returns whether its limit needs signs of life, and whether one after the block moves the deadline."""

    async def co_run(self) -> tuple[bool, bool]:
        with run_of(self).time_limit(self) as limit:
            deadline = limit.deadline
        await anyio.sleep(1)
        self.progress()
        return limit.needs_signs, limit.deadline != deadline


def test_a_time_limit_needs_signs_of_life_only_with_an_idle_timeout(
    virtual: Virtual,
) -> None:
    own, around, neither = Asking(idle_timeout=3), Asking(), Asking(timeout=3)
    virtual(Scheduler(own, Scheduler(around, idle_timeout=3), neither).co_run)
    assert [job.result() for job in (own, around, neither)] == [
        (True, False),
        (True, False),
        (False, False),
    ]


class Waiting(JobKind[list[bool]], keeps_time=True):
    async def co_run(self) -> list[bool]:
        happens, never = ThreadEvent(), ThreadEvent()
        happens.set()
        with run_of(self).time_limit(self) as limit:
            return [await limit.wait(happens), await limit.wait(never)]


def test_a_time_limit_ends_a_wait_for_a_thread_event(virtual: Virtual) -> None:
    job = Waiting(timeout=2)
    virtual(Scheduler(job).co_run)
    assert (job.result(), job.elapsed) == ([True, False], 2)


def test_an_object_shared_by_a_run_whose_close_is_not_async_raises(
    virtual: Virtual,
) -> None:
    class User(JobKind[Any]):
        async def co_run(self) -> Any:
            return run_of(self).shared(closed_at_once)

    job = User()
    virtual(Scheduler(job).co_run)
    with pytest.raises(
        TypeError,
        match=r"^closed_at_once returned a StringIO .* whose close\(\) is not async",
    ):
        job.result()


def test_an_object_shared_by_a_run_needs_no_close(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    def cache(_: RunHandle) -> dict[str, int]:
        return {}

    class User(JobKind[Any]):
        async def co_run(self) -> Any:
            return run_of(self).shared(cache)

    first, second = User(), User()
    scheduler = Scheduler(first, second)
    assert virtual(scheduler.co_run)
    shared = first.result()
    assert shared is second.result()
    assert virtual(scheduler.co_run)
    assert first.result() is not shared
    assert not caplog.records


def test_an_object_shared_by_a_run_is_made_once_and_closed_last(
    virtual: Virtual,
) -> None:
    """All jobs of a run, nested ones included, get the same shared object, which is closed after the last shutdown. A
    second run makes another."""
    log: list[str] = []

    class Shared:
        def __init__(self, run: RunHandle) -> None:
            log.append(f"made at {run.clock() - run.clock():g}")

        async def close(self) -> None:
            log.append("closed")

    class User(JobKind[Any]):
        async def co_run(self) -> Any:
            return run_of(self).shared(Shared)

        async def co_shutdown(self) -> None:
            log.append("shut down")

    first, second = User(), User()
    scheduler, shared = Scheduler(first, Scheduler(second)), list[Any]()
    for _ in range(2):
        assert virtual(scheduler.co_run)
        assert first.result() is second.result()
        assert first.result() not in shared
        shared.append(first.result())
        assert log == ["made at 0", "shut down", "shut down", "closed"]
        log.clear()


def test_a_wait_for_a_thread_event_ends_when_it_is_set_or_at_the_deadline(
    backend: Any,
) -> None:
    class Waits(JobKind[Any]):
        async def co_run(self) -> Any:
            run, never, ended, other = (
                run_of(self),
                ThreadEvent(),
                ThreadEvent(),
                ThreadEvent(),
            )
            in_time = await never.wait(run.clock() + 0.01)
            threading.Timer(0.02, ended.set).start()
            first = await ended.wait(run.clock() + 60)
            threading.Timer(0.02, other.set).start()
            return in_time, first, await other.wait()

    job = Waits()
    assert Scheduler(job).run(backend=backend)
    assert job.result() == (False, True, True)


def test_a_report_of_a_job_is_logged(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    class Reports(JobKind[None]):
        async def co_run(self) -> None:
            run_of(self).report("the lamp is broken", self)

    virtual(Scheduler(Reports()).co_run)
    assert "the lamp is broken" in caplog.text


class Forgets(JobKind[None]):
    """Counts the calls of `forget_run`, and notes which jobs use its result."""

    forgotten = 0
    users: tuple[Any, ...] = ()

    async def co_run(self) -> None:
        self.users = tuple(users_of(self))

    def forget_run(self) -> None:
        self.forgotten += 1


def test_forget_run_is_called_before_each_run_but_the_first(virtual: Virtual) -> None:
    job = Forgets()
    scheduler = Scheduler(job)
    for forgotten in (0, 1, 2):
        virtual(scheduler.co_run)
        assert job.forgotten == forgotten


def test_users_of_returns_the_jobs_that_use_the_result(virtual: Virtual) -> None:
    job, other = Forgets(), Echo("a")
    user, waits, half = Echo(job), Echo("b", required=job), Echo(other, required=job)
    virtual(Scheduler(job, other, user, waits, half).co_run)
    assert job.users == (user,)


def test_run_of_a_job_outside_a_run_raises() -> None:
    with pytest.raises(
        RuntimeError, match="'alone' needs a run: put it in a Scheduler"
    ):
        run_of(Echo(label="alone"))


def test_a_function_job_for_plain_functions_rejects_async_ones() -> None:
    class MoonJob(trioflow.abc.FunctionJob[Any], calls_in="the moon"):
        def __init__(self, function: Any, *args: Any, **options: Any) -> None:
            super().__init__(function, args, None, options)  # type: ignore[arg-type]

        async def co_run(self) -> Any:
            return trioflow.abc.call_of(self)()

    with pytest.raises(
        TypeError, match=r"MoonJob\(sleep\): an async function cannot run in the moon"
    ):
        MoonJob(anyio.sleep)
    job = MoonJob(pow, 2, 3)
    assert Scheduler(job).run()
    assert (job.result(), job.label) == (8, "pow(2, 3)")


class Counts(JobKind[int], keeps_time=True):
    """Its time limit ends its work; returns how many requests to cancel its task are open afterwards."""

    async def co_run(self) -> int:
        try:
            with run_of(self).time_limit(self, cancels=True):
                await anyio.sleep(9)
        except JobTimeout:
            pass
        return 0 if trio.lowlevel.in_trio_run() else task_now().cancelling()


def test_a_time_limit_takes_back_its_request_to_cancel(virtual: Virtual) -> None:
    """On asyncio, a body that has handled its timeout is not taken for one that is being cancelled."""
    job = Counts(timeout=1)
    assert virtual(Scheduler(job).co_run)
    assert job.result() == 0


def test_objects_that_jobs_share_are_closed_the_last_first(backend: str) -> None:
    """The one that was made later may use an earlier one."""
    ends: list[str] = []

    class Shared:
        def __init__(self, run: RunHandle) -> None: ...

        async def close(self) -> None:
            ends.append(type(self).__name__)

    class First(Shared): ...

    class Second(Shared): ...

    class Third(Shared): ...

    class Uses(JobKind[None]):
        async def co_run(self) -> None:
            for make in (First, Second, Third, Second):
                run_of(self).shared(make)

    assert Scheduler(Uses(), Uses()).run(backend=backend)
    assert ends == ["Third", "Second", "First"]
