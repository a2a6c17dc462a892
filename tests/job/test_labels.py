"""Default labels tell jobs apart: they show the call, shortened, and run no code of the user's."""

import enum
from pathlib import Path
from typing import Any

import pytest
import trio
from trioflow import AbstractJob, CommandJob, Job, Scheduler, ThreadJob, ref
from trioflow._core.base._text_forms import fit
from trioflow._core.job import _labels
from ..bodies import nothing


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
        (("https://example.org/a/long/path/page/17",), "fetch('https://exam…ath/page/17')"),
        (("0123456789abcdefghijklmn",), "fetch('0123456789abcdefghijklmn')"),
        ((b"0123456789abcdefghijklmn",), "fetch(b'0123456789abcdefghijklmn')"),
        ((1.2345678912,), "fetch(1.2345678912)"),
        ((0.1 + 0.2, 1 / 3, -2e-300 / 3, float("nan")), "fetch(0.3, 0.333333, -6.66667e-301, nan)"),
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
        (tuple(range(60)), "fetch(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, …)"),
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
    assert _labels.call_label("f", [*too_long[:2], "x" * 14], {}) == f"f('{'x' * 18}', '{'x' * 18}', '{'x' * 14}')"
    assert _labels.call_label("f", too_long, {}) == f"f('{'x' * 18}', '{'x' * 18}', …)"
    assert _labels.call_label("f", ["x" * 24, "y" * 25], {}) == f"f('{'x' * 24}', '{'y' * 12}…{'y' * 11}')"
    assert _labels.call_label("f", [10**18 - 1, 10**18], {}) == "f(999999999999999999, <int>)"
    assert _labels.call_label("f", [[1, 2, 3], [1, 2, 3, 4]], {}) == "f([1, 2, 3], […])"
    assert _labels.call_label("f", [1234567.1234, 123456.123456], {}) == "f(1234567.1234, 123456)"


def test_what_reads_like_another_path_in_a_label_is_escaped() -> None:
    labels = ["a", "a", "a#2", "a", "a#b", "b/c", r"sed s/\./x/"]
    scheduler = Scheduler([Job(nothing, label=label) for label in labels], Scheduler(Job(fetch, 3), label="x/#1"))
    paths = ["a", "a#2", r"a\#2", "a#3", "a#b", r"b\/c", r"sed s\/\\.\/x\/", r"x\/\#1", r"x\/\#1/fetch(3)"]
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
    assert [_labels.path_in({other: "eu/db"}, job) for job in (dropped, other)] == [r"eu\/db", "eu/db"]
    assert _labels.distinct_names([dropped, Job(nothing, label="eu/db")]) == [r"eu\/db"] * 2


def test_default_label_shows_keyword_arguments() -> None:
    assert Job(fetch, 1, kwargs={"key": three, "x": "y"}).label == "fetch(1, key=fetch(3), x='y')"


def test_chain_of_jobs_as_arguments_has_a_short_label() -> None:
    """The label of a chain of thousands of jobs shows only the outermost calls, and needs no deep recursion."""
    job = three
    for _ in range(5000):
        job = Job(fetch, job)
    assert job.label == "fetch(fetch(fetch(fetch(…))))"


def test_labels_of_nested_calls_show_their_innermost_arguments() -> None:
    addresses = [f"https://example.org/a/long/path/{number}" for number in range(3)]
    last = [Job(fetch, Job(fetch, Job(fetch, address))) for address in addresses]
    assert [job.label for job in last] == [f"fetch(fetch(fetch(…g/path/{number}')))" for number in range(3)]


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
    assert Job(fetch, [three, "secret"], kwargs={"key": "secret"}, redact=True).label == "fetch(…)"
    assert CommandJob(["curl", "-H", "secret"], redact=True).label == "command …"
    with pytest.raises(ValueError, match="timeout=-1") as caught:
        Job(fetch, "secret", redact=True, timeout=-1)
    assert "secret" not in str(caught.value)


# --- map(label=)
def test_map_makes_labels_from_a_format_string_or_a_function() -> None:
    scheduler = Scheduler()
    assert [job.label for job in scheduler.map(fetch, [1, 2])] == ["fetch(1)", "fetch(2)"]
    assert [job.label for job in scheduler.map(fetch, "ab", [1, 2], label="page {1} of {0}")] == [
        "page 1 of a",
        "page 2 of b",
    ]
    assert [job.label for job in scheduler.map(fetch, "ab", label=str.upper)] == ["A", "B"]
    assert [job.label for job in scheduler.map(fetch, "ab", label="same")] == ["same", "same"]


def label_that_raises(item: str) -> str:
    raise KeyError(item)


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (7, TypeError, r"^label=7 of map\(\) of 'home': give a format string"),
        ("page {3}", ValueError, r"label='page \{3\}' cannot be filled in for label\('a'\)"),
        (len, TypeError, r"label\('a'\) returned int; it must return text"),
        (label_that_raises, ValueError, r"the function of label= raised for label\('a'\): KeyError"),
    ],
)
def test_map_rejects_invalid_labels(label: Any, error: type[Exception], message: str) -> None:
    scheduler = Scheduler(label="home")
    with pytest.raises(error, match=message):
        scheduler.map(fetch, ["a"], label=label)
    assert len(scheduler) == 0
