"""Listings, graphs and lifes of schedulers of asynciojobs, in their whole text and at the ends of their scales."""

import re
from typing import Any
import anyio
import pytest
from trioflow.compat import asynciojobs_classic as classic
from trioflow.compat.asynciojobs import (
    AbstractJob,
    Job,
    PrintJob,
    PureScheduler,
    Scheduler,
    Sequence,
    Watch,
)
from trioflow.compat.asynciojobs._listing import ASCII_SYMBOLS
from trioflow.testing import run_virtual


class Note(AbstractJob):
    """A job that notes when it starts and when it is shut down."""

    def __init__(
        self, label: str, *required: Any, seconds: float = 0.0, **options: Any
    ) -> None:
        super().__init__(label=label, required=required, **options)
        self.seconds = seconds
        self.times: list[str] = []

    async def co_run(self) -> str | None:
        self.times.append("run")
        if self.seconds < -1:
            await anyio.sleep(1)
        if self.seconds < 0:
            raise KeyError(self.label)
        await anyio.sleep(self.seconds)
        return self.label

    async def co_shutdown(self) -> None:
        self.times.append("shutdown")
        if self.label == "bad":
            raise ValueError("cannot be shut down")


def labels(jobs: Any) -> str:
    return " ".join(sorted(str(job.label) for job in jobs))


GRAPH = r"""
digraph asynciojobs {
compound=true;
subgraph cluster_01 {
graph [style="", label="01: one", shape="box", color="red", penwidth="2"];
02 [style="rounded", label="02: f0", shape="box", color="red", penwidth="2"];
03 [style="rounded", label="03: f1", shape="box", color="red", penwidth="2"];
04 [style="rounded", label="04: f2", shape="box", color="red", penwidth="2"];
05 [style="rounded,dashed", label="05: watch", shape="box", color="red", penwidth="2"];
}
subgraph cluster_06 {
graph [style="dashed", label="06: two", shape="box", penwidth="0.5"];
subgraph cluster_07 {
graph [style="", label="07: in \"deep\"\n\\x", shape="box", color="red", penwidth="2"];
08 [style="rounded", label="08: d1", shape="box", color="red", penwidth="2"];
09 [style="rounded", label="09: d2", shape="box", color="red", penwidth="2"];
10 [style="rounded", label="10: d3", shape="box", color="red", penwidth="2"];
}
11 [style="rounded", label="11: m", shape="box", color="red", penwidth="2"];
}
subgraph cluster_12 {
graph [style="", label="12: empty", shape="box", color="red", penwidth="2"];
12 [style=invis, label=""];
}
13 [style="rounded", label="13: last", shape="box", penwidth="0.5"];
14 [style="rounded", label="14: end", shape="box", color="red", penwidth="2"];
04 -> 09 [lhead=cluster_06, ltail=cluster_01];
09 -> 11 [ltail=cluster_07];
04 -> 12 [lhead=cluster_12, ltail=cluster_01];
11 -> 12 [lhead=cluster_12, ltail=cluster_06];
12 -> 13 [ltail=cluster_12];
04 -> 14 [ltail=cluster_01];
11 -> 14 [ltail=cluster_06];
13 -> 14;
}
"""


def test_a_graph_has_a_frame_and_an_edge_of_each_kind() -> None:
    """An edge begins at a job in the middle of the last ones of a frame, and ends in the middle of the first ones."""
    first = [Note(f"f{number}") for number in range(3)]
    one = Scheduler(*first, Note("watch", forever=True), label="one")
    deep = Scheduler(Note("d1"), Note("d2"), Note("d3"), label='in "deep"\n\\x')
    two = Scheduler(
        deep,
        Note("m", deep),
        label="two",
        required=one,
        critical=False,
        forever=True,
    )
    empty = Scheduler(label="empty", required=[two, one])
    last = Note("last", empty, critical=False)
    end = Note("end", last, one, two)
    assert f"\n{PureScheduler(end, last, empty, two, one).dot_format()}" == GRAPH


def test_the_graph_of_a_scheduler_changes_as_asynciojobs_says() -> None:
    a, b = Note("a"), Note("b")
    c = Note("c", b).requires(a)
    d = Note("d", c)
    b.requires(a)
    e = Note("e", c, d)
    scheduler = PureScheduler(a, b, c, d, e)
    assert [labels(job.required) for job in scheduler] == ["", "a", "a b", "c", "c d"]
    scheduler.bypass_and_remove(d)
    assert [labels(job.required) for job in scheduler] == ["", "a", "a b", "c"]
    scheduler.bypass_and_remove(b)
    assert [labels(job.required) for job in scheduler] == ["", "a", "c"]
    c.requires(c)
    assert labels(c.required) == "a"
    c.requires(a, remove=True)
    assert labels(c.required) == ""
    with pytest.raises(KeyError):
        c.requires(a, remove=True)


@pytest.mark.parametrize("keeps_starts", [True, False])
@pytest.mark.parametrize("keeps_ends", [True, False])
def test_the_ends_of_a_part_are_kept_each_for_itself(
    keeps_starts: bool, keeps_ends: bool
) -> None:
    jobs = [Note("a")]
    for name in "bcde":
        jobs.append(Note(name, jobs[-1]))
    scheduler = PureScheduler(*jobs)
    scheduler.keep_only_between(
        starts=[jobs[1]],
        ends=[jobs[3]],
        keep_starts=keeps_starts,
        keep_ends=keeps_ends,
    )
    assert labels(scheduler) == " ".join(
        ["b"] * keeps_starts + ["c"] + ["d"] * keeps_ends
    )
    assert [labels(job.required) for job in scheduler][1:] == [
        job.label for job in [*scheduler][:-1]
    ]


@pytest.mark.parametrize("asked", [None, True, False])
@pytest.mark.parametrize("verbose", [True, False])
@pytest.mark.parametrize("where", ["outer", "inner", ""])
def test_sanitize_says_whether_anything_was_dropped_at_any_depth(
    capsys: pytest.CaptureFixture[str], asked: bool | None, verbose: bool, where: str
) -> None:
    """In its own words if it is asked to, or if it is verbose and was not asked to be silent."""
    stray = Note("stray")
    outer = Note("o", *[stray] * (where == "outer"))
    inner = Scheduler(Note("i", *[stray] * (where == "inner")), verbose=verbose)
    scheduler = PureScheduler(outer, inner, verbose=verbose)
    assert scheduler.sanitize(asked) is (not where)
    assert not outer.required
    told = capsys.readouterr().out
    is_told = bool(where) and (verbose if asked is None else asked)
    assert ("WARNING: 1 requirement(s) of " in told) is is_told


def test_the_states_of_jobs_are_listed_with_their_symbols(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also what was cancelled, and what has not begun."""
    failing = Note("bad luck", seconds=-2)
    tolerated = Note("mild", seconds=-1, critical=False)
    nested = Scheduler(
        Note("inside"), Note("wrong", seconds=-1, critical=False), label="in"
    )
    others = [Note(f"n{number}", seconds=9.0) for number in range(20)]
    watch = Note("watch", forever=True, seconds=99.0)
    never = Note("never", *others)
    scheduler = PureScheduler(
        failing,
        tolerated,
        nested,
        *others,
        watch,
        never,
        verbose=True,
        watch=Watch(show_elapsed=False),
    )
    assert not run_virtual(scheduler.co_run, backend="asyncio")
    told = capsys.readouterr().out.splitlines()
    assert [job.times for job in others] == [["run", "shutdown"]] * 20
    assert never.times == ["shutdown"]
    done = [line.partition(" DONE    : ")[2][:2] for line in told]
    assert [*filter(None, done)] == ["02", "03", "01"]
    assert told[-1].endswith(
        "SCHEDULER 3D + 0R + 1I + 21C = 25: CRITICAL exception of <Note `bad luck`>"
    )
    scheduler.list()
    lines = capsys.readouterr().out.splitlines()
    assert [lines[n] for n in (0, 1, 2, 5, 6)] == [
        "01 ⚠ ★ ☓   <Note `bad luck`> !! CRIT. EXC. => KeyError:'bad luck'!!",
        "02   ★ ☓   <Note `mild`> !! exception => KeyError:'mild'!!",
        "03 ⚠ ☉ ☓   <Scheduler `in`> [[ -> True]] -> entries={04, 05}",
        "03 --end-- < <Scheduler `in`> exits={04, 05}",
        "06 ⚠ ☉ ☓   <Note `n0`> [cancelled]",
    ]
    numbers = ", ".join(f"{number:02}" for number in range(6, 26))
    assert lines[-2:] == [
        "26 ⚠ ☉ ☓ ∞ <Note `watch`> [cancelled]",
        f"27 ⚠   ⚐   <Note `never`> [not done] requires={{{numbers}}}",
    ]
    scheduler.list(silence_done_jobs=True)
    shown = [line[:2] for line in capsys.readouterr().out.splitlines()]
    assert shown[:3] == ["03", "03", "06"]
    scheduler.list_safe(silence_done_jobs=True)
    assert len(capsys.readouterr().out.splitlines()) == len(shown)
    scheduler.debrief()
    told = capsys.readouterr().out.splitlines()
    # Of each scheduler with failures, and of no other.
    assert [line.partition("  ")[0] for line in told if re.match(r"\w+  [✗✓x]", line)] == [
        "PureScheduler", "in"
    ]  # fmt: skip
    clean = Scheduler(Note("inside"), label="clean")
    scheduler = PureScheduler(clean, Note("mild", seconds=-1, critical=False))
    assert scheduler.run()
    scheduler.debrief()
    told = capsys.readouterr().out.splitlines()
    assert sum(bool(re.match(r"\w+  [✗✓x]", line)) for line in told) == 1
    assert "⚠★☉∞⚐⚑↺☓".translate(ASCII_SYMBOLS) == "!*o8-w>x"


def test_all_that_can_begin_at_once_begin_before_a_failure_ends_the_run(
    backend: Any,
) -> None:
    before = Note("before")
    failing = Note("failing", before, seconds=-1)
    others = [Note(f"n{number}", before, seconds=9.0) for number in range(20)]
    scheduler = PureScheduler(before, failing, *others)
    assert not run_virtual(scheduler.co_run, backend=backend)
    assert [job.times for job in others] == [["run", "shutdown"]] * 20


def test_a_job_that_cannot_be_shut_down_hinders_no_other() -> None:
    jobs = [Note(label) for label in ("a", "bad", "c")]
    scheduler = PureScheduler(*jobs)
    assert scheduler.shutdown() is True
    assert scheduler.shutdown() is None
    assert [job.times for job in jobs] == [["shutdown"]] * 3
    assert scheduler.run()
    assert [job.times for job in jobs] == [["shutdown", "run", "shutdown"]] * 3
    assert scheduler.shutdown() is None


DEFAULTS: list[tuple[Any, dict[str, Any]]] = [
    (AbstractJob(), {"critical": True, "forever": False, "label": None}),
    (PrintJob("x"), {"critical": True, "sleep": None, "banner": None}),
    (PureScheduler(), {"jobs_window": None, "timeout": None, "shutdown_timeout": 1}),
    (PureScheduler(), {"watch": None, "verbose": False}),
    (Scheduler(), {"critical": True, "shutdown_timeout": 1, "jobs_window": None}),
    (classic.AbstractJob(), {"critical": False, "forever": False, "label": None}),
    (classic.PrintJob("x"), {"critical": False}),
    (classic.Scheduler(), {"critical": False, "shutdown_timeout": 1, "timeout": None}),
    (classic.Engine(), {"critical": False, "jobs_window": None}),
    (classic.SchedulerJob(), {"critical": False, "forever": False}),
]


@pytest.mark.parametrize(("made", "defaults"), DEFAULTS)
def test_defaults_are_those_of_asynciojobs(made: Any, defaults: dict[str, Any]) -> None:
    assert {name: getattr(made, name) for name in defaults} == defaults


def test_a_watch_prints_what_it_is_asked_to(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for options in ({}, {"show_elapsed": False}, {"show_wall_clock": True}):
        Watch("m", **options)
        texts.append(re.sub(r"\d", "0", capsys.readouterr().out))
    assert texts == ["000.000  m\n", "", "000.000  m\n00:00:00.000 m\n"]


def test_a_print_job_has_its_details() -> None:
    options: Any
    for words, options, text in (
        ((), {}, "msg= "),
        (("a",), {}, "msg= a"),
        (("a", "b"), {"sleep": 2}, "[+ sleep 2s] msg= a..."),
        (("a", "b", "c"), {"sleep": 0}, "msg= a..."),
    ):
        assert PrintJob(*words, **options).details() == text


def test_a_sequence_has_its_ends() -> None:
    """The first job has the requirements, also of the early name; later ones are appended behind the last."""
    before = Note("before")
    middle = Sequence(Note("b"), Note("c"))
    scheduler = PureScheduler(before)
    chain = Sequence(Note("a"), middle, required=before, scheduler=scheduler)
    chain.append(Note("d"), None)
    chain.requires(last := Note("last"))
    after = Note("after", chain)
    assert {job.label: labels(job.required) for job in (*chain.jobs, after)} == {
        "a": "before last", "b": "a", "c": "b", "d": "c", "after": "d"
    }  # fmt: skip
    assert labels(scheduler) == "a b before c d"
    early = classic.Sequence(Note("x"), Note("y"), requires=before, required=last)
    assert [labels(job.required) for job in early.jobs] == ["before last", "x"]
    both = classic.PrintJob("x", requires=before, required=[last, chain])
    assert labels(both.required) == "before d last"


@pytest.mark.parametrize("is_critical", [True, False])
def test_a_run_that_times_out_or_fails_has_its_reason(
    capsys: pytest.CaptureFixture[str], is_critical: bool
) -> None:
    """A critical scheduler raises; 0 and less are a limit, too, and the limit that ended the run is told."""
    for timeout in (2.5, 0, -1):
        slow = Note("slow", seconds=9.0)
        scheduler = Scheduler(slow, timeout=timeout, critical=is_critical, label="s")
        if is_critical:
            with pytest.raises(TimeoutError, match=f"^'s' TIMED OUT after {timeout}s$"):
                run_virtual(scheduler.co_run, backend="asyncio")
        else:
            assert not run_virtual(scheduler.co_run, backend="asyncio")
        scheduler.timeout = 7
        assert scheduler.why() == f"TIMED OUT after {timeout}s"
        assert scheduler.failed_time_out() == timeout
        assert scheduler.failed_time_out() is not False
        assert not scheduler.failed_critical()
        with pytest.raises(ValueError, match="'slow' has no result"):
            slow.result()
        assert slow.raised_exception() in (None, False)
    failing = Note("x", seconds=-1)
    scheduler = Scheduler(failing, critical=is_critical)
    if is_critical:
        with pytest.raises(KeyError):
            scheduler.run()
    else:
        assert not scheduler.run()
    assert scheduler.failed_critical()
    assert scheduler.failed_time_out() is False
    assert failing.result() is None
    assert Job(failing.co_run()).raised_exception() is False
    capsys.readouterr()
