"""`list` and `listing` never break, whatever the results, labels, streams and number of jobs."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow import Job, Scheduler

from ....bodies import Counting, give_now, idle, printed

# --- results and exceptions of any kind


class Moody:
    """An object whose repr and str raise."""

    def __repr__(self) -> str:
        raise OSError("no")


class MoodyError(Exception):
    def __str__(self) -> str:
        raise OSError("no")


async def fail_with(error: BaseException) -> None:
    raise error


def outcome_of(*call: Any) -> str:
    """Return the listing's text for a job that calls this function."""
    scheduler = Scheduler(Job(*call, label="x"))
    scheduler.run()
    return scheduler.listing(details=True).removeprefix("1    ✓    <Job `x`>  ").removeprefix("1    ✗    <Job `x`>  ")


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
        (10**9999, "<a whole number of some 10000 digits>"),
        (type("list", (), {"__repr__": lambda self: "mine"})(), "mine"),
    ],
    ids=lambda case: type(case).__name__,
)
def test_result_is_short_and_safe(value: object, shown: str) -> None:
    """Any result is shown by its repr, shortened to one line."""
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
def test_exception_is_short_and_safe(error: Exception, shown: str) -> None:
    """Any exception is shown by its type and message, shortened to one line."""
    assert outcome_of(fail_with, error) == f"!! {shown}"


def test_long_repr_is_cut() -> None:
    """A repr of any length takes at most a hundred characters."""
    assert outcome_of(give_now, type("C", (), {"__repr__": lambda self: "y" * 1000})()) == f"-> {'y' * 97}..."


@pytest.mark.parametrize("collection", [list, tuple, set, frozenset, dict.fromkeys])
def test_only_the_beginning_of_a_result_is_looked_at(collection: Callable[[list[Any]], Any]) -> None:
    """At most a screenful of a thousand items is asked for its repr."""
    asked: list[object] = []

    class Item:
        def __repr__(self) -> str:
            asked.append(self)
            return "item"

    assert "item" in outcome_of(give_now, collection([Item() for _ in range(1000)]))
    assert 0 < len(asked) <= 11


# --- streams


def test_prints_on_the_standard_output_of_now(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a file, the listing goes to the `sys.stdout` of the moment of the call."""
    scheduler = Scheduler(idle("a"))
    scheduler.list()
    assert capsys.readouterr().out == scheduler.listing() + "\n"


def test_nothing_is_printed_of_nothing() -> None:
    """An empty listing prints no text, not even an empty line."""
    assert printed(Scheduler(), "utf-8") == ""


def test_no_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under pythonw there is none: like `print`, `list` does nothing."""
    monkeypatch.setattr("sys.stdout", None)
    assert Scheduler(idle("a")).list() is None  # type: ignore[func-returns-value]


def test_no_stream() -> None:
    """An object that is not a stream is rejected, with a hint for users who mean an option."""
    with pytest.raises(TypeError, match=r"list\(\) of 'Scheduler': file=True is not a stream.*list\(details=True\)"):
        Scheduler().list(True)  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_encodings_that_have_all(encoding: str) -> None:
    """A stream that can encode every symbol gets the symbols, and every label unchanged."""
    scheduler = Scheduler(idle("漢é", critical=True))
    assert printed(scheduler, encoding) == "1  ! ·    <AbstractJob `漢é`>\n"


@pytest.mark.parametrize(
    ("encoding", "label", "blanks"),
    [("ascii", r"\u6f22\xe9", 9), ("latin-1", r"\u6f22é", 6), ("shift_jis", r"漢\xe9", 5)],
)
def test_encodings_that_lack_something(encoding: str, label: str, blanks: int) -> None:
    """If one symbol cannot be encoded, all are ASCII; in labels only the missing characters are escaped."""
    a = idle("a", critical=True)
    assert printed(Scheduler(a, idle("漢é", required=a), idle("b", required=a)), encoding) == (
        "1  ! .    <AbstractJob `a`>\n"
        f"2    .    <AbstractJob `{label}`>  requires={{1}}\n"
        f"3    .    <AbstractJob `b`>{' ' * blanks}  requires={{1}}\n"
    )


@pytest.mark.parametrize(("encoding", "shown"), [(None, "·"), ("no such encoding", ".")])
def test_odd_streams(encoding: str | None, shown: str) -> None:
    """A stream without an encoding, such as StringIO, takes everything; an unknown encoding counts as ASCII."""

    class Stream(io.StringIO):
        pass

    Stream.encoding = encoding  # type: ignore[assignment]
    stream = Stream()
    Scheduler(idle("a")).list(stream)
    assert stream.getvalue() == f"1    {shown}    <AbstractJob `a`>\n"


@given(
    labels=st.lists(st.text(), min_size=1, max_size=5),
    encoding=st.sampled_from(["ascii", "utf-8", "latin-1", "cp437", "shift_jis", "iso2022_jp"]),
)
def test_any_label_takes_one_line(labels: list[str], encoding: str) -> None:
    """Whatever characters a label has, its job takes one printable line, on any stream."""
    lines = printed(Scheduler([idle(label) for label in labels]), encoding).removesuffix("\n").split("\n")
    assert len(lines) == len(labels)
    assert all(line.isprintable() for line in lines)


def test_labels_are_escaped() -> None:
    """Control characters, line ends and lone surrogates are escaped in all places."""
    stray = idle("\ud800")
    inner = Scheduler(idle("a\x1b[2J\n", required=stray), label="\t")
    assert Scheduler(inner).listing().splitlines() == [
        r"1    ·    > <Scheduler `\t`>            -> entries={2}",
        r"2    ·      <AbstractJob `a\x1b[2J\n`>  requires={?`\ud800`}",
        r"1     end < <Scheduler `\t`>            exits={2}",
    ]


# --- cost


def reads(size: int) -> int:
    """Return how often the listing of a chain of this many jobs reads requirements."""
    jobs = [Counting() for _ in range(size)]
    for job, before in itertools.pairwise(jobs):
        job.requires(before)
    scheduler = Scheduler(jobs)
    start = next(Counting.reads)
    scheduler.listing()
    return next(Counting.reads) - start - 1


def test_cost_is_linear() -> None:
    """The third thousand jobs cost as many reads of requirements as the second."""
    assert reads(3000) - reads(2000) == reads(2000) - reads(1000) > 0


def test_twenty_thousand_jobs() -> None:
    """Twenty thousand jobs in a chain, and one that requires all of them, are listed whole."""
    jobs = [idle("x") for _ in range(20_000)]
    for before, job in itertools.pairwise(jobs):
        job.requires(before)
    lines = Scheduler(jobs, idle("last", required=jobs)).listing().splitlines()
    assert len(lines) == 20_001
    assert lines[-1].endswith("requires={00001-20000}")
