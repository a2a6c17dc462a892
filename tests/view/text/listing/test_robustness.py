"""`list` and `listing` never break, whatever the results, labels, streams and number of jobs."""

import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import Job, Scheduler
from trioflow.view import listing
from ....bodies import Counting, give_now, idle, printed


# --- results and exceptions of any kind
class Moody:
    def __repr__(self) -> str:
        raise OSError("no")


class MoodyError(Exception):
    def __str__(self) -> str:
        raise OSError("no")


async def fail_with(error: BaseException) -> None:
    raise error


def outcome_of(*call: Any) -> str:
    scheduler = Scheduler(Job(*call, label="x"))
    scheduler.run()
    return listing(scheduler, details=True).removeprefix("1    ✓    <Job x>  ").removeprefix("1    ✗    <Job x>  ")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None"),
        ("line\nbreak \x1b[31m", r"'line\nbreak \x1b[31m'"),
        (Moody(), "<Moody: its repr() raised OSError>"),
        ([Moody()], "[<Moody: its repr() raised OSError>]"),
        ({"b": 1, "a": [2]}, "{'b': 1, 'a': [2]}"),
        (list(range(10**4)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...]"),
        (b"x" * 10**6, "b'" + "x" * 95 + "..."),
        (dict.fromkeys(range(10**4)), "{" + ", ".join(f"{n}: None" for n in range(10)) + ", ...}"),
        (set(range(10**4)), "{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...}"),
        (frozenset("a"), "frozenset({'a'})"),
        ({1: {2: {3: {4: 5}}}}, "{1: {2: {3: {...}}}}"),
        (10**9999, "<a whole number of about 10000 digits>"),
        (type("list", (), {"__repr__": lambda self: "mine"})(), "mine"),
    ],
    ids=lambda case: type(case).__name__,
)
def test_any_result_takes_one_short_line(value: object, shown: str) -> None:
    assert outcome_of(give_now, value) == f"-> {shown}"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError(), "ValueError"),
        (ValueError("line\nbreak"), r"ValueError: line\nbreak"),
        (ValueError("x" * 10**6), "ValueError: " + "x" * 85 + "..."),
        (MoodyError(), "MoodyError: <its str() raised OSError>"),
    ],
)
def test_any_exception_takes_one_short_line(error: Exception, shown: str) -> None:
    assert outcome_of(fail_with, error) == f"!! {shown}"


@pytest.mark.parametrize("collection", [list, tuple, set, frozenset, dict.fromkeys])
def test_only_the_first_items_of_a_large_result_are_read(collection: Callable[[list[Any]], Any]) -> None:
    """For a result of a thousand items, the listing computes the repr of at most eleven."""
    asked: list[object] = []

    class Item:
        def __repr__(self) -> str:
            asked.append(self)
            return "item"

    assert "item" in outcome_of(give_now, collection([Item() for _ in range(1000)]))
    assert 0 < len(asked) <= 11


# --- streams
def test_list_of_an_empty_scheduler_prints_nothing() -> None:
    assert printed(Scheduler(), "utf-8") == ""


def test_list_without_standard_output_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `sys.stdout` is None, as under pythonw, `list` does nothing, as `print` does."""
    monkeypatch.setattr("sys.stdout", None)
    assert Scheduler(idle("a")).list() is None  # type: ignore[func-returns-value]


def test_list_to_an_object_that_is_not_a_stream_raises() -> None:
    """`list(True)` raises, with a hint at `list(details=True)` for users who mean that option."""
    with pytest.raises(TypeError, match=r"list\(\) of 'Scheduler': file=True is not a stream.*list\(details=True\)"):
        Scheduler().list(True)  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_a_stream_that_can_encode_every_symbol_gets_the_symbols(encoding: str) -> None:
    scheduler = Scheduler(idle("漢é", critical=True))
    assert printed(scheduler, encoding) == "1  ! ·    <AbstractJob 漢é>\n"


@pytest.mark.parametrize(
    ("encoding", "label", "blanks"),
    [("ascii", r"\u6f22\xe9", 9), ("latin-1", r"\u6f22é", 6), ("shift_jis", r"漢\xe9", 5)],
)
def test_a_stream_that_lacks_one_symbol_gets_ascii_symbols(encoding: str, label: str, blanks: int) -> None:
    a = idle("a", critical=True)
    assert printed(Scheduler(a, idle("漢é", required=a), idle("b", required=a)), encoding) == (
        "1  ! .    <AbstractJob a>\n"
        f"2    .    <AbstractJob {label}>  requires={{1}}\n"
        f"3    .    <AbstractJob b>{' ' * blanks}  requires={{1}}\n"
    )


@pytest.mark.parametrize(("encoding", "shown"), [(None, "·"), ("no such encoding", ".")])
def test_streams_without_a_known_encoding_are_supported(encoding: str | None, shown: str) -> None:
    """A stream without an encoding, such as StringIO, takes everything; an unknown encoding counts as ASCII."""

    class Stream(io.StringIO):
        pass

    Stream.encoding = encoding  # type: ignore[assignment]
    stream = Stream()
    Scheduler(idle("a")).list(stream)
    assert stream.getvalue() == f"1    {shown}    <AbstractJob a>\n"


@given(
    labels=st.lists(st.text(), min_size=1, max_size=5),
    encoding=st.sampled_from(["ascii", "utf-8", "latin-1", "cp437", "shift_jis", "iso2022_jp"]),
)
def test_any_label_takes_one_line(labels: list[str], encoding: str) -> None:
    """In the listing, a job takes one printable line, whatever characters its label has, on any stream."""
    lines = printed(Scheduler([idle(label) for label in labels]), encoding).removesuffix("\n").split("\n")
    assert len(lines) == len(labels)
    assert all(line.isprintable() for line in lines)


def test_labels_are_escaped() -> None:
    """Control characters, line ends and lone surrogates in labels are escaped everywhere in the listing."""
    stray = idle("\ud800")
    inner = Scheduler(idle("a\x1b[2J\n", required=stray), label="\t")
    assert listing(Scheduler(inner)).splitlines() == [
        r"1    ·    > <Scheduler \t>            -> entries={2}",
        r"2    ·      <AbstractJob a\x1b[2J\n>  requires={?\ud800}",
        r"1     end < <Scheduler \t>            exits={2}",
    ]


# --- cost
def reads(size: int) -> int:
    """Return how often the listing of a chain of this many jobs reads requirements."""
    jobs = [Counting() for _ in range(size)]
    for job, before in itertools.pairwise(jobs):
        job.requires(before)
    scheduler = Scheduler(jobs)
    start = next(Counting.looks)
    listing(scheduler)
    return next(Counting.looks) - start - 1


def test_the_cost_of_a_listing_is_linear_in_the_number_of_jobs() -> None:
    assert reads(3000) - reads(2000) == reads(2000) - reads(1000) > 0


def test_a_chain_of_thousands_of_jobs_is_listed_whole() -> None:
    jobs = [idle("x") for _ in range(5000)]
    for before, job in itertools.pairwise(jobs):
        job.requires(before)
    lines = listing(Scheduler(jobs, idle("last", required=jobs))).splitlines()
    assert len(lines) == 5001
    assert lines[-1].endswith("requires={0001-5000}")
