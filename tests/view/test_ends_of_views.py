"""The texts and sizes of traces, reports and pages at the ends of their scales: none, one, two, the last, one more."""

import itertools
import re
from types import SimpleNamespace
from typing import Any
import pytest
from trioflow import JobState, StopReason
from trioflow._core.base._states import WaitCause
from trioflow.view.look import _client, _console
from trioflow.view.text._symbols import Symbols
from trioflow.view.trace import _compare, _spans, _time_spent, _timeline
from trioflow.view.trace._compare import RunTimes
from trioflow.view.trace._spans import RunSpan, Span, Wait
from trioflow.view.trace._time_spent import SlotUse
from trioflow.view.trace._trace_record import TraceRecord
from trioflow.view.trace.report import _report

RUN = RunSpan(0, None, 1, "run", 0.0, 9.0, None, StopReason.COMPLETED, None, ())


def span(number: int = 0, **fields: Any) -> Span:
    facts: dict[str, Any] = {
        "number": number,
        "parent": None,
        "run": 1,
        "path": f"job {number}",
        "label": f"job {number}",
        "kind": "Job",
        "state": JobState.SUCCEEDED,
        "critical": None,
        "forever": False,
        "scheduled_at": 0.0,
        "started_at": 0.0,
        "ready_at": None,
        "finished_at": 1.0,
        "attempts": (0.0,),
        "lane": 1,
        "timed_out": False,
        "required": (),
        "exception": None,
        "took": 1.0,
    }
    return Span(**{**facts, **fields})


# --- the use of slots

SLOT = WaitCause.SLOT, ""
GPU = WaitCause.RESOURCE, "gpu"
NOTHING = _time_spent.NOTHING_READY


@pytest.mark.parametrize(
    ("slots", "window", "work", "empty", "text"),
    [
        (0, None, 0.0, {}, "no job took any time"),
        (1, None, 0.0, {NOTHING: 10.0}, "no job took any time"),
        (1, None, 10.0, {}, "one job at a time for 10 s: 100 % working"),
        (2, None, 20.0, {}, "up to 2 jobs at once for 10 s: 100 % working"),
        (1, 1, 10.0, {}, "1 slot for 10 s: 100 % working"),
        (1, 2, 10.0, {}, "1 of 2 slots was used, for 10 s: 100 % working"),
        (2, 2, 20.0, {}, "2 slots for 10 s: 100 % working"),
        (2, 3, 20.0, {}, "2 of 3 slots were used, for 10 s: 100 % working"),
        (
            1,
            None,
            9.95,
            {GPU: 0.05},
            "one job at a time for 10 s: 99 % working, 0 % empty because gpu ran short",
        ),
        (
            1,
            None,
            9.951,
            {GPU: 0.049},
            "one job at a time for 10 s: 100 % working",
        ),
        (
            2,
            2,
            5.0,
            {NOTHING: 10.0, GPU: 1.0, (WaitCause.RESOURCE, "cpu"): 4.0},
            "2 slots for 10 s: 25 % working, 20 % empty because cpu ran short, "
            "5 % empty because gpu ran short, 50 % empty because nothing was ready",
        ),
    ],
)
def test_a_sentence_says_how_slots_were_used(
    slots: int, window: int | None, work: float, empty: Any, text: str
) -> None:
    """What explains less than a share of 1/200 is left out, and that nothing was ready comes last."""
    assert str(SlotUse(10.0, slots, window, (), work, empty)) == text


def test_percentiles_are_of_the_nearest_rank() -> None:
    found = [
        [_time_spent._percentile(range(1, count + 1), share) for share in (0.5, 0.95)]
        for count in (0, 1, 2, 3, 19, 20, 21, 40, 41)
    ]
    assert found == [
        [None, None],
        [1, 1],
        [1, 2],
        [2, 3],
        [10, 19],
        [10, 19],
        [11, 20],
        [20, 38],
        [21, 39],
    ]


# --- spans


def test_of_an_interval_the_parts_in_no_other_are_left() -> None:
    without = _spans.without_intervals
    assert without(0, 9, []) == [(0, 9)]
    assert without(0, 9, [(5, 6), (1, 2)]) == [(0, 1), (2, 5), (6, 9)]
    assert without(0, 9, [(0, 1), (1, 2), (8, 9)]) == [(2, 8)]
    assert without(0, 9, [(3, 3)]) == [(0, 3), (3, 9)]
    assert without(4, 4, []) == [(4, 4)]


def test_waits_of_a_cause_are_one_text_and_a_single_one_says_who_ended_it() -> None:
    def wait(cause: WaitCause, name: str, since: float, until: float) -> Wait:
        return Wait(cause, name, since, until, 0)

    causes = WaitCause.JOBS, WaitCause.SLOT, WaitCause.RATE, WaitCause.THROTTLED
    waits = [wait(cause, "x", n, n + 1) for n, cause in enumerate(causes)]
    waits += [wait(WaitCause.RESOURCE, name, 5, 7) for name in ("gpu", "gpu", "cpu")]
    waits.append(Wait(WaitCause.PAUSE, "", 8, 9))
    assert [*_spans.wait_texts([span()], waits)] == [
        "waited 1 s for jobs, until job 0 settled",
        "waited 1 s for a slot, until job 0 released it",
        "waited 1 s for rate of x, from which job 0 had taken",
        "waited 1 s for the throttle of x, because of job 0",
        "waited 4 s for gpu",
        "waited 2 s for cpu, until job 0 released it",
        "waited 1 s for a resume",
    ]


def test_waits_are_before_or_after_the_start_of_a_job() -> None:
    """That of jobs is neither, and at the instant of the start it is after."""
    waits = [
        Wait(WaitCause.JOBS, "", 0, 1),
        Wait(WaitCause.SLOT, "", 1, 2),
        Wait(WaitCause.MACHINE, "", 2, 3),
        Wait(WaitCause.RETRY, "", 4, 5),
    ]
    throttled = ((0.5, 1.0), (2.0, 2.5))
    job = span(started_at=2.0, waits=tuple(waits), throttled=throttled)
    assert _spans.waits_before_start(job) == waits[1:2]
    assert _spans.waits_after_start(job) == waits[2:]
    assert _spans.throttled_before_start(job) == [(0.5, 1.0)]
    unstarted = span(started_at=None, waits=tuple(waits), throttled=throttled)
    assert _spans.waits_before_start(unstarted) == waits[1:]
    assert _spans.waits_after_start(unstarted) == []
    assert _spans.throttled_before_start(unstarted) == [*throttled]


# --- the timeline


@pytest.mark.parametrize(
    ("rows", "height"),
    [
        (1, 20), (24, 20), (25, 14), (40, 14), (41, 6), (100, 6), (101, 3), (400, 3), (401, 1.5),
    ],
)  # fmt: skip
def test_rows_are_lower_if_there_are_more(rows: int, height: float) -> None:
    assert _timeline._row_height(rows) == height


def test_an_axis_has_as_many_ticks_as_have_room_and_no_more() -> None:
    ticks = {
        end: [seconds for seconds, _ in _timeline.compute_ticks(end, 5)]
        for end in (5.0, 5.1, 10.0, 50.0, 86400.0 * 1000 * 5, 86400.0 * 1000 * 6)
    }
    day = 86400.0
    assert [*ticks.values()] == [
        [0, 1, 2, 3, 4, 5],
        [0, 2, 4],
        [0, 2, 4, 6, 8, 10],
        [0, 10, 20, 30, 40, 50],
        [1000 * day * number for number in range(6)],
        [2000 * day * number for number in range(4)],
    ]


def test_a_tooltip_counts_attempts_and_throttlings() -> None:
    def lines(**fields: Any) -> list[str]:
        job = span(**fields)
        return [*_timeline.tooltip_lines(TraceRecord((job,), (RUN,)), job)]

    assert lines() == ["job 0", "Job, succeeded", "started at 0 s, took 1 s"]
    again = lines(attempts=(0.0, 1.0), throttled=((0.0, 0.5),), critical=True)
    assert again[1:] == [
        "Job, succeeded, critical",
        "started at 0 s, took 1 s",
        "2 attempts",
        "throttled once",
    ]
    later = lines(
        attempts=(2.0,), first_attempt=2, throttled=((0, 1), (1, 2)), took=None
    )
    assert later[2:] == [
        "started at 0 s, still running",
        "attempt 2",
        "throttled 2 times",
    ]
    assert lines(started_at=None, attempts=(), exception=OSError("x"))[2:] == [
        "OSError: x"
    ]


def test_a_text_is_wrapped_at_spaces_where_it_no_longer_fits() -> None:
    width = _timeline.text_width("aaa aaa", 10)
    wrap = _timeline.wrap_text
    assert [*wrap("aaa aaa aaa", width, 10)] == ["aaa aaa", "aaa"]
    assert [*wrap("aaa aaa aaa", width - 0.1, 10)] == ["aaa", "aaa", "aaa"]
    assert [*wrap("", width, 10)] == [""]


def test_a_text_that_would_have_too_few_characters_is_left_out() -> None:
    """A text that fits is shown, however short it is."""
    assert _timeline.clip_text("a", 99, 10) == "a"
    widths = [_timeline.text_width("aaaa…", 10), _timeline.text_width("aaa…", 10)]
    assert [_timeline.clip_text(9 * "a", width, 10) for width in widths] == [
        "aaaa…",
        "",
    ]


# --- comparisons


def times(
    path: dict[tuple[str, bool], float],
    jobs: dict[str, float] | None = None,
    restored: tuple[str, ...] = (),
    **fields: Any,
) -> RunTimes:
    own = {name: seconds for (name, is_wait), seconds in path.items() if not is_wait}
    facts: dict[str, Any] = {
        "name": "run",
        "seconds": sum(path.values()),
        "critical_path_seconds": path,
        "jobs": own if jobs is None else jobs,
        "waited_for": {},
        "unstarted_states": dict.fromkeys(restored, "succeeded"),
        "states": {},
    }
    return RunTimes(**{**facts, **fields})


def changes(first: RunTimes, second: RunTimes) -> list[str]:
    comparison = _compare.compare(first, second)
    return [*_compare.comparison_lines(comparison, Symbols())]


def test_a_comparison_has_each_change_of_the_critical_path() -> None:
    first = times(
        {
            ("same", False): 10.0,
            ("slower", False): 10.0,
            ("faster", False): 10.0,
            ("gone", False): 8.0,
            ("off", False): 7.0,
            ("off and slower", False): 6.0,
            ("restored", False): 5.0,
            ("slower", True): 4.0,
            ("faster", True): 1.0,
            ("", True): 2.0,
        },
        restored=("run again",),
        waited_for={"slower": "gpu", "faster": "a slot"},
        states={"a": "failed", "b": "succeeded", "c": "idle"},
    )
    first.jobs.update({"on": 1.0, "on and slower": 1.0})
    second = times(
        {
            ("same", False): 10.0,
            ("slower", False): 19.0,
            ("faster", False): 1.0,
            ("new", False): 4.0,
            ("on", False): 1.0,
            ("on and slower", False): 6.5,
            ("run again", False): 3.5,
            ("slower", True): 1.5,
            ("faster", True): 3.0,
            ("", True): 3.5,
            ("small", False): 0.25,
        },
        restored=("restored",),
        waited_for={"slower": "cpu", "faster": "a slot, until x"},
        states={"a": "succeeded", "b": "succeeded", "d": "idle"},
    )
    second.jobs.update({"off": 7.0, "off and slower": 9.0})
    head, *lines = changes(first, second)
    assert head == (
        "run: 53.2 s, before 1 min 03 s: 9.75 s less; "
        "2 jobs ran in one of them, and not in the other, which had a journal"
    )
    assert [re.split("  +", line.strip()) for line in lines] == [
        [""],
        ["Ended in another state:"],
        ["a: failed, now succeeded"],
        [""],
        ["Along the critical paths:"],
        ["change, s", "before", "after"],
        ["+9.00", "slower: longer", "10.00", "19.00"],
        ["-9.00", "faster: shorter", "10.00", "1.00"],
        ["-8.00", "gone: gone", "8.00"],
        ["-7.00", "off: off the critical path", "7.00"],
        ["+6.50", "on and slower: longer, and new on the critical path", "6.50"],
        [
            "-6.00",
            "off and slower: off the critical path, though it takes longer",
            "6.00",
        ],
        ["-5.00", "restored: restored from the journal", "5.00"],
        ["+4.00", "new: new", "4.00"],
        [
            "+3.50",
            "run again: run again; it was restored from the journal before",
            "3.50",
        ],
        ["-2.50", "slower: waited less for gpu", "4.00", "1.50"],
        ["+2.00", "faster: waited longer for a slot, until x", "1.00", "3.00"],
        ["+1.50", "the end, after the last job: longer", "2.00", "3.50"],
        ["+1.00", "on: new on the critical path", "1.00"],
        ["+0.25", "2 smaller changes", "10.00", "10.25"],
    ]


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (10.0, 11.0, "run: 11 s, before 10 s: 1 s longer (+10 %)"),
        (10.0, 9.0, "run: 9 s, before 10 s: 1 s less (-10 %)"),
        (10.0, 10.0, "run: 10 s, before 10 s: as long as before"),
        (0.0, 1.0, "run: 1 s, before 0 s: 1 s longer"),
    ],
)
def test_the_head_of_a_comparison_says_how_much_longer_it_took(
    before: float, after: float, text: str
) -> None:
    runs = [times({("a", False): seconds}) for seconds in (before, after)]
    assert changes(*runs)[0] == text


@pytest.mark.parametrize(("after", "count"), [(100.51, 1), (100.49, 0)])
def test_a_small_change_has_a_line_from_a_share_of_a_two_hundredth_on(
    after: float, count: int
) -> None:
    first, second = (times({("a", False): seconds}) for seconds in (100.0, after))
    found = _compare.compare(first, second).changes
    assert sum(bool(change.path) for change in found) == count
    assert [change.description for change in found if not change.path] == [
        "1 smaller change"
    ] * (1 - count)


# --- commands in a report


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "0"), (1, "1"), (255, "255"), (-1, "SIGHUP"), (-9, "SIGKILL"), (-99, "signal 99")],
)  # fmt: skip
def test_a_negative_exit_code_is_a_signal(code: int, text: str) -> None:
    assert _report.exit_text(code) == text


@pytest.mark.parametrize("beyond", [0, 1])
def test_outputs_are_shown_until_there_is_too_much_and_those_of_failures_first(
    monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    monkeypatch.setattr(_report, "MAX_OUTPUT_CHARACTERS", 9 - beyond)
    record: Any = SimpleNamespace(
        commands={}, printed={0: "abcd", 1: "efghi", 2: ""}, failures={1: None}
    )
    details = _report.command_details(record, None)
    assert [*details] == [1, 0, 2]
    assert [bool(each["note"]) for each in details.values()] == [
        False,
        bool(beyond),
        False,
    ]


# --- the page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0:00"), (0, "0:00"), (0.999, "0:00"), (1, "0:01"), (59.9, "0:59"), (60, "1:00"), (3599, "59:59"),
        (3600, "1:00:00"), (3661, "1:01:01"), (360000, "100:00:00"),
    ],
)  # fmt: skip
def test_a_stopwatch_has_minutes_and_hours(seconds: float, text: str) -> None:
    """It shows the age of the attempt, and not that of the job."""
    job = span(started_at=1.0, attempts=(5.0, 100.0))
    assert _console.stopwatch_text(job, 100 + seconds) == text
    assert _console.stopwatch_text(span(started_at=None, attempts=()), 5) == "0:00"


def test_the_longest_running_and_the_last_ended_jobs_have_bars(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_console, "MAX_BARS", 3)
    ends = {
        1: (0.0, 4.0),
        2: (0.0, 6.0),
        3: (7.0, None),
        4: (5.0, None),
        5: (None, None),
    }
    jobs: list[Any] = []
    for number, (began, ended) in ends.items():
        job = span(number, started_at=began, finished_at=ended)
        jobs.append(SimpleNamespace(span=job))
    jobs.append(SimpleNamespace(span=span(6, forever=True)))
    run = _console.WatchedRun()
    run.answer = {**run.answer, "now": 10.0}
    _, bars = _console._timeline_bars(run, jobs)
    assert [(bar[0], *bar[3:5]) for bar in bars] == [
        (2, 0.0, 60.0),
        (4, 50.0, 100.0),
        (3, 70.0, 100.0),
    ]
    assert _console._timeline_bars(run, []) == ["", []]
    monkeypatch.setattr(_console, "MAX_BARS", 1)
    _, bars = _console._timeline_bars(run, jobs)
    assert [bar[0] for bar in bars] == [4]


def test_a_button_says_what_it_tries_again_and_what_it_takes_back() -> None:
    told: list[dict[str, Any]] = [{}, {"following": 1}]
    told.append({"following": 2, "running": ["a"]})
    found = [
        _console._retry_button(state, each, is_mended)
        for state, each, is_mended in itertools.product(
            (JobState.FAILED, JobState.SUCCEEDED), told, (False, True)
        )
    ]
    again = "Run it again?"
    one = "Run it again, and 1 job that used it?"
    two = "Cancel a? Run it again, and 2 jobs that used it?"
    mended = "reload and try-again"
    taken_back = [
        ["try-again", "Run again", one],
        [mended, "Run again with the mended code", one],
        ["try-again --cancel", "Run again", two],
        [f"{mended} --cancel", "Run again with the mended code", two],
    ]
    assert found == [
        ["try-again", "Try again", ""],
        [mended, "Try again with the mended code", ""],
        *taken_back,
        ["try-again", "Run again", again],
        [mended, "Run again with the mended code", again],
        *taken_back,
    ]


# --- the look


def shown(**fields: Any) -> list[str]:
    run: dict[str, Any] = {
        "label": "run",
        "verdict": "1 job",
        "backend": "trio",
        "thread": "main",
        "seconds": 1.0,
        "phase": "runs",
        "stop_reason": None,
        "window": None,
        "slots_taken": None,
        "running": [],
        "waiting": [],
        "failures": [],
        "resources": [],
        "omitted": {},
    }
    record = {"command": ["/bin/python3", "x y.py"], "runs": [{**run, **fields}]}
    return _client.text_lines(7, record)


def test_a_look_has_the_state_of_a_run() -> None:
    head = ["process 7: python3 'x y.py'", "", "run  1 job"]
    assert shown() == [*head, "  on trio in main for 1 s"]
    ending = shown(thread=None, phase="is draining", stop_reason="drained")
    assert ending[3:] == [
        "  on trio in an unknown thread for 1 s, is draining (drained)"
    ]
    left = shown(left=60.0, left_is_least=True, pause="paused by me")
    assert left[3:] == [
        "  on trio in main for 1 s, more than 1 min left",
        "  paused by me",
    ]
    job = {
        "path": "a",
        "kind": "Job",
        "seconds": 2.0,
        "attempts": 2,
        "forever": False,
        "blocks_loop": False,
        "question": None,
        "line": None,
        "command_line": "make",
        "status": "",
    }
    second = {**job, "path": "b", "attempts": 1, "forever": True, "blocks_loop": True}
    lines = shown(
        window=1,
        slots_taken=0,
        running=[job, second],
        omitted={"running": 1},
        resources=[{"text": f"r{n}"} for n in range(22)],
        waiting=[{"paths": ["c"], "explanation": "waits"}],
        failures=[
            {"paths": ["d"], "headline": "x", "line": "f.py:1", "critical": True},
            {"paths": ["e", "f"], "headline": "y", "line": None, "tolerated": True},
        ],
    )
    assert lines[4:] == [
        "  window: 1 slot, 0 taken, a group is one",
        *(f"  r{n}" for n in range(20)),
        "  and 2 resources more",
        "running (s):",
        "  b  2.000  blocks the event loop, forever, make",
        "  a  2.000  attempt 2, make",
        "  and 1 job more; --json has up to 1000",
        "waiting:",
        "  c  waits",
        "failures:",
        "  d     critical: x at f.py:1",
        "  e, f  tolerated: y",
    ]


def test_a_look_at_a_low_terminal_has_fewer_lines_of_each_kind() -> None:
    waiting = [{"paths": [f"w{n}"], "explanation": "waits"} for n in range(30)]
    record: dict[str, Any] = {"command": ["x"], "runs": []}
    assert _client.text_lines(1, record) == ["process 1: x", "no run is in progress"]
    run = {
        "label": "run", "verdict": "", "backend": "trio", "thread": "main", "seconds": 1.0, "phase": "runs",
        "window": None, "running": [], "waiting": waiting, "failures": [], "resources": [], "omitted": {},
    }  # fmt: skip
    record["runs"].append(run)
    counts = {
        height: len(_client.text_lines(1, record, None, height))
        for height in (99, 26, 25, 10, 9, 8, 1)
    }
    assert counts == {99: 26, 26: 26, 25: 25, 10: 10, 9: 9, 8: 9, 1: 9}
