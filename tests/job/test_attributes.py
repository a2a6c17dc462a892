"""Labels tell jobs apart; a user's job may use any attribute that `AbstractJob` lacks."""

import enum
import gc
import itertools
import signal
import subprocess
import sys
import traceback
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock
import anyio
import anyio.lowlevel
import pytest
import trio
from trioflow import (
    AbstractJob,
    CommandJob,
    Job,
    Retry,
    Scheduler,
    ThreadJob,
    Trace,
    current_job,
    ref,
)
from trioflow._core.base._text_forms import fit
from trioflow._core.job import _labels
from trioflow._core.job._job import is_job
from trioflow.view import listing
from ..bodies import nothing
from ..places import PATIENCE
from ..pythons import Python

SCHEDULERS_OWN = sorted(
    name
    for name in dir(Scheduler)
    if not name.startswith("_") and not hasattr(AbstractJob, name)
)


class Busy(AbstractJob[int]):
    """A user's job that names its attributes like those of a scheduler."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(**options)
        setattr(self, name, 7)

    async def co_run(self) -> int:
        await anyio.lowlevel.checkpoint()
        return 1


def test_a_job_may_have_attributes_with_the_names_of_scheduler_attributes(
    backend: str,
) -> None:
    """Attributes such as `critical_jobs` do not make a job a scheduler: it runs, and every view shows it as a job."""
    jobs = {name: Busy(name, label=f"busy-{name}") for name in SCHEDULERS_OWN}
    scheduler = Scheduler(Scheduler(*jobs.values(), label="inner"), label="outer")
    assert scheduler.is_runnable()
    assert scheduler.run(backend=backend)  # type: ignore[arg-type]
    source, listed = scheduler.graph().source, listing(scheduler)
    for name, job in jobs.items():
        assert job.path == f"inner/busy-{name}"
        assert f"busy-{name}" in source
        assert f"<Busy busy-{name}>" in listed
        assert scheduler.explain(job).startswith(f"'busy-{name}' succeeded")


@pytest.mark.parametrize("make", [lambda: Job(anyio.sleep, 1), Scheduler])
def test_setting_an_unknown_attribute_of_a_job_or_scheduler_raises(
    make: Callable[[], Any],
) -> None:
    """A misspelt option set as an attribute, such as `job_windows`, raises instead of being ignored silently."""
    job = make()
    with pytest.raises(AttributeError, match="job_windows") as caught:
        job.job_windows = 3
    if sys.version_info >= (3, 13) and make is Scheduler:
        text = "".join(traceback.format_exception(caught.value))
        assert (
            "jobs_window'" in text.partition("Did you mean")[2]
        )  # the words differ between versions of Python
    assert "job_windows" not in dir(job)


@pytest.mark.parametrize("base", [AbstractJob, Job, CommandJob, Scheduler])
def test_a_job_class_that_hides_an_attribute_of_all_jobs_raises(
    base: type[AbstractJob[Any]],
) -> None:
    """A class with its own `state`, `label` or the like is rejected: views would show wrong values for its jobs."""
    values: list[object] = [5, property(lambda job: 5), lambda job: 5]
    for name, value in itertools.product(
        ["state", "label", "timeout", "path", "attempts", "_state"], values
    ):
        with pytest.raises(
            AttributeError,
            match=rf"class Hiding: '{name}' hides (AbstractJob|BaseScheduler).{name}; ",
        ):
            type("Hiding", (base,), {name: value})


def test_a_class_of_a_package_with_a_similar_name_is_checked_too() -> None:
    """A package named `trioflow_extras` is a user's: its classes may hide no attribute of jobs."""
    with pytest.raises(AttributeError, match="state"):
        type("Hiding", (AbstractJob,), {"__module__": "trioflow_extras", "state": 5})


@pytest.mark.parametrize("name", ["cancel", "is_running", "requires", "co_run"])
def test_a_job_class_may_override_a_method_only_with_a_function(name: str) -> None:
    """A number in place of a method such as `cancel` raises when the class is created, while a function is accepted."""
    with pytest.raises(
        AttributeError,
        match=rf"class Hiding: '{name}' hides \w+.{name}; choose another name",
    ):
        type("Hiding", (Job,), {name: 5})
    type("Deriving", (Job,), {name: lambda job: None})


def test_a_job_with_scheduler_like_attributes_may_be_added_during_the_run(
    backend: str,
) -> None:
    late: list[Busy] = []

    async def adding() -> None:
        scheduler: Any = current_job().scheduler
        for name in SCHEDULERS_OWN:
            late.append(scheduler.add(Busy(name)))

    scheduler = Scheduler(Job(adding))
    assert scheduler.run(backend=backend)  # type: ignore[arg-type]
    assert [job.result() for job in late] == [1] * len(SCHEDULERS_OWN)
    assert len(scheduler) == 1 + len(SCHEDULERS_OWN)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 5), ("idle_timeout", 5), ("own_task", True), ("retry", Retry(2)),
        ("run_if", "failed"), ("save", "pickle"), ("priority", 3), ("expected_duration", 2.0), ("needs", {"cpu": 1}),
        ("keep_result", False), ("redact", True), ("critical", True), ("forever", True),
    ],
)  # fmt: skip
def test_an_option_can_be_reset_to_its_default(name: str, value: Any) -> None:
    job = Job(anyio.sleep, 0, **{name: value})
    usual = getattr(Job(anyio.sleep, 0), name)
    assert getattr(job, name) == value != usual
    setattr(job, name, usual)
    assert getattr(job, name) == usual


def test_requires_returns_the_job() -> None:
    job, other = Job(anyio.sleep, 0), Job(anyio.sleep, 0)
    assert job.requires(other) is job
    assert job.requires(other, remove=True) is job
    assert job.required == set()


# --- objects whose `__class__` is not their type, such as mocks and lazy proxies: their type alone says what is a job
class Proxy:
    """A lazy proxy outside of its context."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("outside of its context")

    @__class__.setter  # the type of `object.__class__` allows it to be set
    def __class__(self, _: Any) -> None: ...


async def same(value: Any) -> Any:
    return value


LIKE_JOBS: dict[
    str, Callable[[], Any]
] = {  # pytest would look at the objects themselves
    "job": lambda: Mock(spec=Job),
    "scheduler": lambda: Mock(spec=Scheduler),
    "any": lambda: Mock(spec=AbstractJob),
    "mock": Mock,
    "proxy": Proxy,
}


@pytest.mark.parametrize("name", LIKE_JOBS)
def test_what_only_says_to_be_a_job_is_a_value(backend: str, name: str) -> None:
    """A run with `Mock(spec=Job)` as an argument looked for the outermost of its endless schedulers, without an end."""
    value = LIKE_JOBS[name]()
    jobs = [
        Job(same, value),
        Job(same, [value]),
        Job(same, {"key": value}),
        Job(same, required=None, kwargs={"value": value}),
    ]
    last = Job(same, jobs[0])
    scheduler = Scheduler(jobs, last)
    assert scheduler.run(backend=backend, instruments=[Trace()])
    assert jobs[0].result() is last.result() is value
    assert jobs[1].result()[0] is jobs[2].result()["key"] is jobs[3].result() is value
    assert "same" in listing(scheduler)
    scheduler.debrief()


@pytest.mark.parametrize("name", ["job", "scheduler", "any", "proxy"])
def test_what_only_says_to_be_a_job_is_no_member_and_no_requirement(name: str) -> None:
    value = LIKE_JOBS[name]()
    for call in (
        lambda: Scheduler(value), lambda: Job(nothing, required=value), lambda: Job(nothing, required=[value]),
        lambda: Job(nothing).requires(value), lambda: Scheduler().explain(value),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=r"is not a job|give a job"):
            call()
    with pytest.raises(KeyError):
        Scheduler().remove(value)
    assert not is_job(value)


SPIN = """
import signal, sys
from trioflow import AbstractJob, Scheduler

class Spin(AbstractJob):
    def check_before_run(self):
        print("checks", flush=True)
        while True:
            pass
    async def co_run(self):
        pass

def alarm(*_):
    raise TimeoutError

signal.signal(signal.SIGALRM, alarm)
try:
    Scheduler(Spin()).run(backend=sys.argv[1])
except BaseException as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGALRM, "TimeoutError")],
)
def test_the_check_before_a_run_hears_signals(
    backend: str, number: int, error: str
) -> None:
    """What a user's object makes long ended by SIGKILL alone: Ctrl-C and what a handler raises waited for the loop."""
    with Python(["-c", SPIN, backend], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "checks\n"
        process.send_signal(number)
        assert process.communicate(timeout=PATIENCE)[0] == f"{error}\n"


# --- default labels show the call, shortened, and run no code of the user's
class Colour(enum.Enum):
    RED = 1


class Hostile:
    """An argument whose own methods all raise."""

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    __str__ = __repr__

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        raise RuntimeError("hash")

    def __len__(self) -> int:
        raise RuntimeError("len")


async def fetch(*args: Any, **kwargs: Any) -> None: ...


three = Job(fetch, 3)


@pytest.mark.parametrize(
    ("args", "label"),
    [
        ((), "fetch()"),
        ((3,), "fetch(3)"),
        ((None, True, 2.5, "a"), "fetch(None, True, 2.5, 'a')"),
        (
            ("https://example.org/a/long/path/page/17",),
            "fetch('https://exam…ath/page/17')",
        ),
        (("0123456789abcdefghijklmn",), "fetch('0123456789abcdefghijklmn')"),
        ((b"0123456789abcdefghijklmn",), "fetch(b'0123456789abcdefghijklmn')"),
        ((1.2345678912,), "fetch(1.2345678912)"),
        (
            (0.1 + 0.2, 1 / 3, -2e-300 / 3, float("nan")),
            "fetch(0.3, 0.333333, -6.66667e-301, nan)",
        ),
        ((10**5000,), "fetch(<int>)"),
        ((b"x" * 100,), f"fetch({b'x' * 24!r}…)"),
        ((three,), "fetch(fetch(3))"),
        ((ref(three),), "fetch(fetch(3))"),
        (([three, 2],), "fetch([fetch(3), 2])"),
        ((AbstractJob(label="mine"),), "fetch(mine)"),
        (({"a": 1},), "fetch({'a': 1})"),
        ((list(range(100)),), "fetch([…])"),
        (([[1]],), "fetch([…])"),
        ((Colour.RED, Path("/a/b")), "fetch(Colour.RED, '/a/b')"),
        ((fetch, int), "fetch(fetch, int)"),
        ((Hostile(),), "fetch(<Hostile>)"),
        (([Hostile()],), "fetch([<Hostile>])"),
        (
            tuple(range(60)),
            "fetch(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, …)",
        ),
    ],
)
def test_default_label_shows_the_call(args: tuple[Any, ...], label: str) -> None:
    """A default label shows the arguments, shortened; objects that only user code could show appear as their types."""
    assert Job(fetch, *args).label == label
    assert ThreadJob(print, *args).label == label.replace("fetch(", "print(", 1)


def test_a_label_of_the_maximum_length_is_not_shortened() -> None:
    """A label one character too long has its middle replaced by an ellipsis; one of the maximum length stays whole."""
    fits = "".join(str(number % 10) for number in range(_labels.MAX_LABEL_LENGTH))
    assert _labels.shorten(fits) == fits
    assert len(_labels.shorten(f"{fits}x")) == len(fits)
    assert fit("01234567", 8, keep="ends") == "01234567"
    assert fit("012345678", 8, keep="ends") == "0123…678"


def test_each_part_of_a_label_is_shortened_only_beyond_its_limit() -> None:
    """Strings, numbers and lists in a label are shown whole up to their limits, and shortened beyond them."""
    too_long = ["x" * 18, "x" * 18, "x" * 15]  # with quotes and commas, 61 characters
    assert (
        _labels.call_label("f", [*too_long[:2], "x" * 14], {})
        == f"f('{'x' * 18}', '{'x' * 18}', '{'x' * 14}')"
    )
    assert _labels.call_label("f", too_long, {}) == f"f('{'x' * 18}', '{'x' * 18}', …)"
    assert (
        _labels.call_label("f", ["x" * 24, "y" * 25], {})
        == f"f('{'x' * 24}', '{'y' * 12}…{'y' * 11}')"
    )
    assert (
        _labels.call_label("f", [10**18 - 1, 10**18], {})
        == "f(999999999999999999, <int>)"
    )
    assert _labels.call_label("f", [[1, 2, 3], [1, 2, 3, 4]], {}) == "f([1, 2, 3], […])"
    assert (
        _labels.call_label("f", [1234567.1234, 123456.123456], {})
        == "f(1234567.1234, 123456)"
    )


def test_what_reads_like_another_path_in_a_label_is_escaped() -> None:
    labels = ["a", "a", "a#2", "a", "a#b", "b/c", r"sed s/\./x/"]
    scheduler = Scheduler(
        [Job(nothing, label=label) for label in labels],
        Scheduler(Job(fetch, 3), label="x/#1"),
    )
    paths = [
        "a",
        "a#2",
        r"a\#2",
        "a#3",
        "a#b",
        r"b\/c",
        r"sed s\/\\.\/x\/",
        r"x\/\#1",
        r"x\/\#1/fetch(3)",
    ]
    assert [job.path for job in scheduler.iterate_jobs()] == paths
    assert [*_labels.paths_of(scheduler).values()] == paths
    assert Job(nothing, label="b/c").path == r"b\/c"


def test_a_job_that_has_been_dropped_keeps_its_path_among_paths_without_it() -> None:
    """What looks at a run may meet a job that is dropped meanwhile: its label could be the path of another job."""
    dropped, other = Job(nothing, label="eu/db"), Job(nothing, label="db")
    scheduler = Scheduler(keep_jobs=False, log=False)

    async def work() -> None:
        async with scheduler:
            scheduler.add(dropped)
            await dropped
            scheduler.add(Scheduler(other, label="eu"))

    trio.run(work)
    assert dropped not in [*scheduler.iterate_jobs()]
    paths = _labels.paths_of(scheduler)
    assert _labels.path_in(paths, dropped) == r"eu\/db"
    assert [_labels.path_in({other: "eu/db"}, job) for job in (dropped, other)] == [
        r"eu\/db",
        "eu/db",
    ]
    assert (
        _labels.distinct_names([dropped, Job(nothing, label="eu/db")])
        == [r"eu\/db"] * 2
    )


def test_default_label_shows_keyword_arguments() -> None:
    assert (
        Job(fetch, 1, kwargs={"key": three, "x": "y"}).label
        == "fetch(1, key=fetch(3), x='y')"
    )


def test_chain_of_jobs_as_arguments_has_a_short_label() -> None:
    """The label of a chain of thousands of jobs shows only the outermost calls, and needs no deep recursion."""
    job = three
    for _ in range(5000):
        job = Job(fetch, job)
    assert job.label == "fetch(fetch(fetch(fetch(…))))"


def test_labels_of_nested_calls_show_their_innermost_arguments() -> None:
    addresses = [f"https://example.org/a/long/path/{number}" for number in range(3)]
    last = [Job(fetch, Job(fetch, Job(fetch, address))) for address in addresses]
    assert [job.label for job in last] == [
        f"fetch(fetch(fetch(…g/path/{number}')))" for number in range(3)
    ]


def test_label_of_a_job_with_many_indirect_inputs_is_short() -> None:
    """In a label, inner calls show few of their arguments, so it does not look at all jobs of a wide graph."""
    wide = Job(fetch, *(Job(fetch, number) for number in range(1000)))
    assert Job(fetch, wide).label == "fetch(fetch(fetch(…etch(2), …))"


def test_label_of_a_coroutine_object_has_an_ellipsis_for_its_arguments() -> None:
    job = Job(fetch(1))
    assert job.label == "fetch(…)"
    job.close()


def test_redacted_job_shows_no_arguments() -> None:
    assert Job(fetch, "secret", redact=True).label == "fetch(…)"
    assert (
        Job(fetch, [three, "secret"], kwargs={"key": "secret"}, redact=True).label
        == "fetch(…)"
    )
    assert CommandJob(["curl", "-H", "secret"], redact=True).label == "command …"
    with pytest.raises(ValueError, match="timeout=-1") as caught:
        Job(fetch, "secret", redact=True, timeout=-1)
    assert "secret" not in str(caught.value)


# --- map(label=)
def test_map_makes_labels_from_a_format_string_or_a_function() -> None:
    scheduler = Scheduler()
    assert [job.label for job in scheduler.map(fetch, [1, 2])] == [
        "fetch(1)",
        "fetch(2)",
    ]
    assert [
        job.label for job in scheduler.map(fetch, "ab", [1, 2], label="page {1} of {0}")
    ] == [
        "page 1 of a",
        "page 2 of b",
    ]
    assert [job.label for job in scheduler.map(fetch, "ab", label=str.upper)] == [
        "A",
        "B",
    ]
    assert [job.label for job in scheduler.map(fetch, "ab", label="same")] == [
        "same",
        "same",
    ]


def label_that_raises(item: str) -> str:
    raise KeyError(item)


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (7, TypeError, r"^label=7 of map\(\) of 'home': give a format string"),
        (
            "page {3}",
            ValueError,
            r"label='page \{3\}' cannot be filled in for label\('a'\)",
        ),
        (len, TypeError, r"label\('a'\) returned int; it must return text"),
        (
            label_that_raises,
            ValueError,
            r"the function of label= raised for label\('a'\): KeyError",
        ),
    ],
)
def test_map_rejects_invalid_labels(
    label: Any, error: type[Exception], message: str
) -> None:
    scheduler = Scheduler(label="home")
    with pytest.raises(error, match=message):
        scheduler.map(fetch, ["a"], label=label)
    assert len(scheduler) == 0


def test_the_options_of_jobs_that_are_gone_take_no_memory() -> None:
    """CPython 3.11 kept a freed tuple of 20 items for each job with an option, and never used it again."""

    async def fetch() -> None: ...

    Job(fetch, needs={"host": "first"})
    # It also frees what Python keeps for new objects.
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(500):
            Job(fetch, needs={"host": f"{number}"})
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Less than 80 bytes for each.
    assert held < 40_000
