"""The lines of `list` and `listing`: each symbol and each form of line, for any graph."""

import functools
import inspect
import io
import itertools
import math
import sys
from collections.abc import Callable
from typing import Any
import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import AbstractJob, Job, JobState, Scheduler
from trioflow._core.job._errors import Failure
from trioflow.abc import Instrument
from trioflow.view import listing
from trioflow.view.text._symbols import MARKS
from wcwidth import wcswidth
from ....bodies import Counting, at_once, fail_now, give_now, idle, printed
from ....conftest import Virtual

# Every state, forever (8) or critical (!): the line on a stream that can show all, the line in ASCII, and
# what both say behind it if details are asked for.
GOLDEN = """
idle 8      | 1    · ∞  <Job x> | 1    . 8  <Job x> |
idle !      | 1  ! ·    <Job x> | 1  ! .    <Job x> |
scheduled 8 | 1    ◦ ∞  <Job x> | 1    w 8  <Job x> |
scheduled ! | 1  ! ◦    <Job x> | 1  ! w    <Job x> |
running 8   | 1    ▸ ∞  <Job x> | 1    > 8  <Job x> |
running !   | 1  ! ▸    <Job x> | 1  ! >    <Job x> |
succeeded 8 | 1    ✓ ∞  <Job x> | 1    + 8  <Job x> | -> 42
succeeded ! | 1  ! ✓    <Job x> | 1  ! +    <Job x> | -> 42
failed 8    | 1    ✗ ∞  <Job x> | 1    x 8  <Job x> | !! KeyError: 'k'
failed !    | 1  ! ✗    <Job x> | 1  ! x    <Job x> | !! KeyError: 'k'
cancelled 8 | 1    ⊘ ∞  <Job x> | 1    c 8  <Job x> |
cancelled ! | 1  ! ⊘    <Job x> | 1  ! c    <Job x> |
blocked 8   | 1    ⊗ ∞  <Job x> | 1    b 8  <Job x> | !! KeyError: 'k'
blocked !   | 1  ! ⊗    <Job x> | 1  ! b    <Job x> | !! KeyError: 'k'
skipped 8   | 1    ⤼ ∞  <Job x> | 1    s 8  <Job x> |
skipped !   | 1  ! ⤼    <Job x> | 1  ! s    <Job x> |
"""
LINES = [
    tuple(part.strip() for part in line.split("|"))
    for line in GOLDEN.strip().splitlines()
]


async def answer() -> int:
    return 42


class Snapshots(Instrument):
    """An instrument that keeps both listings of the scheduler for each state of its job."""

    def __init__(self) -> None:
        self.seen: dict[JobState, tuple[str, str]] = {}

    def take(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        self.seen[job.state] = (
            listing(scheduler, details=True),
            printed(scheduler, "ascii", details=True),
        )

    job_scheduled = job_started = job_settled = take


def really_run(state: JobState, virtual: Virtual, **options: Any) -> tuple[str, str]:
    work: dict[JobState, tuple[Any, ...]] = {
        JobState.FAILED: (fail_now, KeyError("k")),
        JobState.CANCELLED: (anyio.sleep, math.inf),
    }
    snapshots = Snapshots()
    scheduler = Scheduler(
        Job(*work.get(state, (answer,)), label="x", **options), instruments=[snapshots]
    )
    snapshots.seen[JobState.IDLE] = listing(scheduler), printed(scheduler, "ascii")
    virtual(functools.partial(scheduler.co_run, timeout=0.001))
    return snapshots.seen[state]


def put_in_state(state: JobState, **options: Any) -> tuple[str, str]:
    job = Job(answer, label="x", **options)
    job._state = state
    job._outcome = Failure(KeyError("k")) if state is JobState.BLOCKED else None
    scheduler = Scheduler(job)
    return listing(scheduler, details=True), printed(scheduler, "ascii", details=True)


# --- symbols
@pytest.mark.parametrize(
    ("case", "unicode", "in_ascii", "details"), LINES, ids=[line[0] for line in LINES]
)
def test_a_line_shows_all_of_a_job(
    case: str, unicode: str, in_ascii: str, details: str, virtual: Virtual
) -> None:
    """In a line of the listing, state, critical, forever and outcome have their symbols and places, also in ASCII."""
    state, *marks = case.split()
    options = {"critical": "!" in marks or None, "forever": "8" in marks}
    if state in ("blocked", "skipped"):
        shown = put_in_state(JobState(state), **options)
    else:
        shown = really_run(JobState(state), virtual, **options)
    behind = "  " + details if details else ""
    assert shown == (unicode + behind, in_ascii + behind + "\n")


def test_golden_lines_are_complete() -> None:
    """`GOLDEN` has each state with each mark once."""
    marks = [" 8", " !"]
    assert [case for case, *_ in LINES] == [
        state.value + mark for state in JobState for mark in marks
    ]


def test_symbols_are_one_column_wide() -> None:
    assert {
        wcswidth(symbol)
        for mark in MARKS
        for symbol in (mark.symbol, mark.ascii_symbol)
    } == {1}


def test_the_critical_symbol_shows_the_effective_value() -> None:
    scheduler = Scheduler(
        Scheduler(idle("in"), label="nested", critical_jobs=True),
        idle("out", critical=False),
    )
    assert [line[3] for line in listing(scheduler).splitlines()] == [" ", "!", " ", " "]


def test_a_forever_job_that_ended_with_its_run_has_the_forever_symbol_alone(
    virtual: Virtual,
) -> None:
    watch = Job(anyio.sleep_forever, forever=True, label="watch")
    scheduler = Scheduler(watch, Job(anyio.sleep, 1, label="work"))
    virtual(scheduler.co_run)
    assert [line[1:8] for line in listing(scheduler).splitlines()] == [
        "      ∞",
        "    ✓  ",
    ]
    watch, work = (
        Job(anyio.sleep_forever, forever=True, label="watch"),
        Job(anyio.sleep, 2, label="work"),
    )
    cut_off = Scheduler(watch, work, timeout=1)
    virtual(cut_off.co_run)
    assert [line[1:8] for line in listing(cut_off).splitlines()] == [
        "    ⊘ ∞",
        "    ⊘  ",
    ]


# --- order, numbers and requirements
def test_a_job_is_listed_after_its_requirements() -> None:
    a, b, c = idle("a"), idle("b"), idle("c")
    a.requires(c, b)
    b.requires(c)
    assert listing(Scheduler(a, b, c)) == (
        "1    ·    <AbstractJob c>\n2    ·    <AbstractJob b>  requires={1}\n3    ·    <AbstractJob a>  requires={1, 2}"
    )


def test_three_or_more_consecutive_numbers_become_a_range() -> None:
    jobs = [idle(str(n)) for n in range(11)]
    scheduler = Scheduler(
        jobs, idle("last", required=[*jobs[:4], *jobs[5:7], jobs[10], idle("stray")])
    )
    assert listing(scheduler).endswith("requires={01-04, 06, 07, 11, ?stray}")


def test_wide_characters_are_aligned() -> None:
    """Labels with characters that are two columns wide, or none, do not shift the requirements."""
    a = idle("漢字")
    rest = [
        idle(label, required=a) for label in ("abcd", "e\u0301tat", "漢字", "👍🏽s")
    ]
    lines = listing(Scheduler(a, rest)).splitlines()[1:]
    assert len({wcswidth(line[: line.index("requires")]) for line in lines}) == 1


def test_times_have_a_separate_column(virtual: Virtual) -> None:
    seen: list[str] = []
    quick, long = Job(answer, label="quick"), Job(anyio.sleep, 75, label="long")
    inner = Scheduler(Job(anyio.sleep, 0.25, label="short"), label="in", required=quick)
    scheduler = Scheduler(
        quick,
        long,
        inner,
        Job(
            at_once,
            lambda: seen.append(listing(scheduler)),
            label="look",
            required=inner,
        ),
    )
    virtual(scheduler.co_run)
    assert [*seen, listing(scheduler)] == [
        "1    ✓    <Job quick>\n"
        "2    ▸    <Job long>        250 ms\n"
        "3    ✓    > <Scheduler in>  250 ms  requires={1} -> entries={4}\n"
        "4    ✓      <Job short>     250 ms\n"
        "3     end < <Scheduler in>          exits={4}\n"
        "5    ▸    <Job look>                requires={3}",
        "1    ✓    <Job quick>\n"
        "2    ✓    <Job long>        1 min 15 s\n"
        "3    ✓    > <Scheduler in>      250 ms  requires={1} -> entries={4}\n"
        "4    ✓      <Job short>         250 ms\n"
        "3     end < <Scheduler in>              exits={4}\n"
        "5    ✓    <Job look>                    requires={3}",
    ]


def test_a_very_long_label_does_not_shift_the_requirements_of_other_jobs() -> None:
    a = idle("a" * 200)
    assert listing(
        Scheduler(a, idle("b", required=a), idle("c" * 200, required=a))
    ) == (
        f"1    ·    <AbstractJob {'a' * 200}>\n"
        "2    ·    <AbstractJob b>  requires={1}\n"
        f"3    ·    <AbstractJob {'c' * 200}>  requires={{1}}"
    )


# --- nesting
def test_a_nested_scheduler_has_a_line_before_and_a_line_after_its_jobs() -> None:
    first = idle("first")
    parse = idle("parse")
    inner = Scheduler(
        parse,
        idle("count", required=parse),
        idle("watch", forever=True),
        label="inner",
        required=first,
    )
    assert listing(Scheduler(first, inner, idle("last", required=inner))) == (
        "1    ·    <AbstractJob first>\n"
        "2    ·    > <Scheduler inner>    requires={1} -> entries={3, 4}\n"
        "3    ·      <AbstractJob parse>\n"
        "4    · ∞    <AbstractJob watch>\n"
        "5    ·      <AbstractJob count>  requires={3}\n"
        "2     end < <Scheduler inner>    exits={5}\n"
        "6    ·    <AbstractJob last>     requires={2}"
    )


def test_each_level_of_nesting_is_indented() -> None:
    scheduler = Scheduler(
        Scheduler(Scheduler(label="empty"), label="middle", critical=True)
    )
    assert listing(scheduler) == (
        "1  ! ·    > <Scheduler middle>   -> entries={2}\n"
        "2    ·      > <Scheduler empty>  -> entries={}\n"
        "2       end < <Scheduler empty>  exits={}\n"
        "1     end < <Scheduler middle>   exits={2}"
    )


def test_the_listing_of_a_nested_scheduler_has_only_its_own_jobs() -> None:
    """The listing of a nested scheduler leaves out its requirements, and its numbers begin at 1."""
    first = idle("first")
    inner = Scheduler(idle("a"), required=first)
    Scheduler(first, inner)
    assert listing(inner) == "1    ·    <AbstractJob a>"


def test_listing_supports_any_depth_of_nesting() -> None:
    """Schedulers may be nested to any depth, since the listing is made without recursion."""
    depth = 150
    scheduler = Scheduler(idle("deepest"))
    for _ in range(depth):
        scheduler = Scheduler(scheduler)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        lines = listing(scheduler).splitlines()
    finally:
        sys.setrecursionlimit(limit)
    assert len(lines) == 2 * depth + 1
    assert lines[depth].endswith(depth * "  " + "<AbstractJob deepest>")


# --- cycles and missing requirements
def test_the_remark_on_a_cycle_in_a_nested_scheduler_is_among_its_jobs() -> None:
    a, b = idle("a"), idle("b")
    a.requires(b.requires(a))
    inner = Scheduler(a, b, label="inner")
    assert listing(Scheduler(inner, idle("c", required=inner))) == (
        "1    ·    > <Scheduler inner>  -> entries={}\n"
        "            -- the remaining jobs are in the order added: cycle 2 requires 3 requires 2\n"
        "2    ·      <AbstractJob a>    requires={3}\n"
        "3    ·      <AbstractJob b>    requires={2}\n"
        "1     end < <Scheduler inner>  exits={}\n"
        "4    ·    <AbstractJob c>      requires={1}"
    )


def test_a_requirement_outside_the_scheduler_has_a_question_mark() -> None:
    a, b = idle("a"), idle("b")
    stray = idle("stray")
    a.requires(stray, b)
    assert listing(Scheduler(Scheduler(b, label="inner"), a)) == (
        "1    ·    > <Scheduler inner>  -> entries={2}\n"
        "2    ·      <AbstractJob b>\n"
        "1     end < <Scheduler inner>  exits={2}\n"
        "3    ·    <AbstractJob a>      requires={?2, ?stray}"
    )


def test_an_input_from_another_scheduler_is_not_missing() -> None:
    """Results may cross schedulers, so an input from another scheduler has no question mark."""
    first = Job(anyio.sleep, 0, label="first")
    scheduler = Scheduler(first)
    scheduler.add(Scheduler(Job(give_now, first, label="second"), label="inner"))
    assert "<Job second>       requires={1}" in listing(scheduler)


# --- nested schedulers in `list` and `listing`: every state, critical or forever, with results and exceptions, at any d
class ListingAtStart(Instrument):
    """An instrument that keeps the listing of the moment when a job starts."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.seen = self.in_ascii = ""

    def job_started(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        if job.label == self.label:
            while scheduler.scheduler is not None:
                scheduler = scheduler.scheduler
            self.seen = listing(scheduler, details=True)
            self.in_ascii = printed(scheduler, "ascii", details=True)


def scenario() -> Scheduler:
    fine = Scheduler(Job(give_now, "値", label="漢字"), label="fine")
    bad = Scheduler(
        Job(fail_now, KeyError("k"), label="bad"),
        critical_jobs=True,
        label="raised",
        required=fine,
    )
    blocked = Scheduler(Job(answer, label="a"), label="blocked", required=bad)
    skipped = Scheduler(
        Job(answer, label="b"), run_if="failed", label="skipped", required=fine
    )
    deep = Scheduler(
        Job(anyio.sleep, math.inf, label="long"),
        Job(answer, label="now"),
        label="deep",
        critical=True,
    )
    running = Scheduler(
        deep, label="running", required=[blocked, skipped], run_if="settled"
    )
    waiting = Scheduler(
        Job(answer, label="c"),
        label="scheduled",
        required=[blocked, skipped],
        run_if="settled",
    )
    watch = Scheduler(
        Job(anyio.sleep, math.inf, label="w"), label="watch", forever=True
    )
    never = Scheduler(Job(answer, label="d"), label="idle", required=waiting)
    return Scheduler(
        fine,
        bad,
        blocked,
        skipped,
        running,
        waiting,
        watch,
        never,
        jobs_window=1,
        label="all",
    )


DURING = """
01    ✓    > <Scheduler fine>       -> entries={02}  -> True
02    ✓      <Job 漢字>             -> '値'
01     end < <Scheduler fine>       exits={02}
03    ▸ ∞  > <Scheduler watch>      -> entries={04}
04    ▸      <Job w>
03     end < <Scheduler watch>      exits={04}
05    ✗    > <Scheduler raised>     requires={01} -> entries={06}  !! KeyError: 'k'
06  ! ✗      <Job bad>              !! KeyError: 'k'
05     end < <Scheduler raised>     exits={06}
07    ⤼    > <Scheduler skipped>    requires={01} run_if=failed -> entries={08}
08    ·      <Job b>
07     end < <Scheduler skipped>    exits={08}
09    ⊗    > <Scheduler blocked>    requires={05} -> entries={10}  !! BLOCKED
10    ·      <Job a>
09     end < <Scheduler blocked>    exits={10}
11    ▸    > <Scheduler running>    requires={07, 09} run_if=settled -> entries={12}
12  ! ▸      > <Scheduler deep>     -> entries={13, 14}
13    ▸        <Job long>
14    ▸        <Job now>
12       end < <Scheduler deep>     exits={13, 14}
11     end < <Scheduler running>    exits={12}
15    ◦    > <Scheduler scheduled>  requires={07, 09} run_if=settled -> entries={16}  no free slot
16    ·      <Job c>
15     end < <Scheduler scheduled>  exits={16}
17    ·    > <Scheduler idle>       requires={15} -> entries={18}
18    ·      <Job d>
17     end < <Scheduler idle>       exits={18}
"""

IN_ASCII = {
    **{mark.symbol: mark.ascii_symbol for mark in MARKS},
    "漢": r"\u6f22",
    "字": r"\u5b57",
    "値": r"\u5024",
}


def test_the_listing_during_a_run_shows_nested_schedulers_in_all_states(
    virtual: Virtual,
) -> None:
    glance = ListingAtStart("now")
    scheduler = scenario()
    virtual(functools.partial(scheduler.co_run, timeout=1, instruments=[glance]))
    blocked = "RequirementFailed: 'blocked' cannot run, because 'raised' failed"
    expected = DURING.replace("BLOCKED", blocked).strip("\n")
    assert glance.seen.splitlines() == expected.splitlines()
    assert (
        glance.in_ascii.split() == expected.translate(str.maketrans(IN_ASCII)).split()
    )


# --- `list` and `listing` never break, whatever the results, labels, streams and number of jobs
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
    return (
        listing(scheduler, details=True)
        .removeprefix("1    ✓    <Job x>  ")
        .removeprefix("1    ✗    <Job x>  ")
    )


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
        (
            dict.fromkeys(range(10**4)),
            "{" + ", ".join(f"{n}: None" for n in range(10)) + ", ...}",
        ),
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
def test_only_the_first_items_of_a_large_result_are_read(
    collection: Callable[[list[Any]], Any],
) -> None:
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


def test_list_without_standard_output_does_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where `sys.stdout` is None, as under pythonw, `list` does nothing, as `print` does."""
    monkeypatch.setattr("sys.stdout", None)
    assert Scheduler(idle("a")).list() is None  # type: ignore[func-returns-value]


def test_list_to_an_object_that_is_not_a_stream_raises() -> None:
    """`list(True)` raises, with a hint at `list(details=True)` for users who mean that option."""
    with pytest.raises(
        TypeError,
        match=r"list\(\) of 'Scheduler': file=True is not a stream.*list\(details=True\)",
    ):
        Scheduler().list(True)  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_a_stream_that_can_encode_every_symbol_gets_the_symbols(encoding: str) -> None:
    scheduler = Scheduler(idle("漢é", critical=True))
    assert printed(scheduler, encoding) == "1  ! ·    <AbstractJob 漢é>\n"


@pytest.mark.parametrize(
    ("encoding", "label", "blanks"),
    [
        ("ascii", r"\u6f22\xe9", 9),
        ("latin-1", r"\u6f22é", 6),
        ("shift_jis", r"漢\xe9", 5),
    ],
)
def test_a_stream_that_lacks_one_symbol_gets_ascii_symbols(
    encoding: str, label: str, blanks: int
) -> None:
    a = idle("a", critical=True)
    assert printed(
        Scheduler(a, idle("漢é", required=a), idle("b", required=a)), encoding
    ) == (
        "1  ! .    <AbstractJob a>\n"
        f"2    .    <AbstractJob {label}>  requires={{1}}\n"
        f"3    .    <AbstractJob b>{' ' * blanks}  requires={{1}}\n"
    )


@pytest.mark.parametrize(
    ("encoding", "shown"), [(None, "·"), ("no such encoding", ".")]
)
def test_streams_without_a_known_encoding_are_supported(
    encoding: str | None, shown: str
) -> None:
    """A stream without an encoding, such as StringIO, takes everything; an unknown encoding counts as ASCII."""

    class Stream(io.StringIO):
        pass

    Stream.encoding = encoding  # type: ignore[assignment]
    stream = Stream()
    Scheduler(idle("a")).list(stream)
    assert stream.getvalue() == f"1    {shown}    <AbstractJob a>\n"


@given(
    labels=st.lists(st.text(), min_size=1, max_size=5),
    encoding=st.sampled_from(
        ["ascii", "utf-8", "latin-1", "cp437", "shift_jis", "iso2022_jp"]
    ),
)
def test_any_label_takes_one_line(labels: list[str], encoding: str) -> None:
    """In the listing, a job takes one printable line, whatever characters its label has, on any stream."""
    lines = (
        printed(Scheduler([idle(label) for label in labels]), encoding)
        .removesuffix("\n")
        .split("\n")
    )
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
    assert reads(300) - reads(200) == reads(200) - reads(100) > 0


def test_a_chain_of_thousands_of_jobs_is_listed_whole() -> None:
    jobs = [idle("x") for _ in range(1500)]
    for before, job in itertools.pairwise(jobs):
        job.requires(before)
    lines = listing(Scheduler(jobs, idle("last", required=jobs))).splitlines()
    assert len(lines) == 1501
    assert lines[-1].endswith("requires={0001-1500}")
