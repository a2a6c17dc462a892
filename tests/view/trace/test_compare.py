"""Why one run took longer than another: the changes along both critical paths add up; other files are rejected."""

import random
from pathlib import Path
from typing import Any
import pytest
from trioflow import First, Job, Pool, Rate, Scheduler, Trace
from trioflow.testing import run_virtual
from trioflow.view import save
from trioflow.view.trace import _compare, _trace_file
from ...bodies import fail, nap
from ...cli.command_line import trioflow
from .scenarios import everything


def traced(path: Path, *jobs: Any, **options: Any) -> Path:
    trace = Trace()
    run_virtual(
        lambda: Scheduler(*jobs, **{"label": "training", **options}).co_run(
            instruments=[trace]
        )
    )
    save(trace, path)
    return path


def run_times(path: Path) -> _compare.RunTimes:
    return _compare.run_times(_trace_file.read_record(path))


def training(
    path: Path, seconds: float = 6, *, flaky: float = 9, report: bool = False
) -> Path:
    """Write the trace of three trainings on one GPU, of a job beside them, and of those before and after."""
    first = Job(nap, 1, label="download")
    models: list[Job[Any]] = [
        Job(
            nap,
            seconds if number == 1 else 2,
            label=f"model {number}",
            required=first,
            needs={"gpu": 1},
        )
        for number in range(3)
    ]
    beside = Job(nap, flaky, label="flaky", required=first)
    reports = [Job(nap, 1, label="report", required=models)] if report else []
    last = Job(nap, 0.5, label="publish", required=[*models, *reports, beside])
    return traced(path, first, *models, beside, *reports, last, pool=Pool(gpu=1))


def test_a_job_that_ran_several_times_counts_with_the_sum(tmp_path: Path) -> None:
    """A group is tried again: its member ran twice."""
    calls: list[float] = []

    async def member(seconds: float) -> None:
        calls.append(seconds)
        await nap(seconds)
        if len(calls) == 1:
            raise OSError("first")

    long = Job(nap, 2, label="long")
    inner = Scheduler(
        Job(nap, 1, label="first"),
        Job(member, 3, label="member"),
        label="group",
        jobs_window=1,
        retry=1,
        critical=True,
    )
    times = run_times(traced(tmp_path / "run.json", long, inner))
    assert calls == [3, 3]
    assert times.jobs["group/member"] == 6
    assert times.jobs["long"] == 2


def test_compare_lists_what_made_the_run_longer(tmp_path: Path) -> None:
    """`trioflow compare` lists longer and new jobs along the critical paths, but no unchanged or other jobs."""
    before, after = (
        training(tmp_path / "a.json"),
        training(tmp_path / "b.json", 7.5, flaky=2, report=True),
    )
    done = trioflow("compare", before, after)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "training: 14 s, before 11.5 s: 2.5 s longer (+22 %)", "", "Along the critical paths:",
        "  change, s                   before  after", "     +1.500  model 1: longer   6.000  7.500",
        "     +1.000  report: new              1.000",
    ]  # fmt: skip
    back = trioflow("compare", after, before).stdout
    assert "model 1: shorter" in back
    assert "report: gone" in back
    assert (
        trioflow("compare", before, before).stdout
        == "training: 11.5 s, before 11.5 s: as long as before\n"
    )


def test_restored_jobs_are_neither_gone_nor_new(tmp_path: Path) -> None:
    """A job that one of the two runs restored from its journal is marked as restored, even if all jobs were. After a
    morning that restored all, the headline once said "+15047 %": with restored jobs, it has no percentage."""
    files: list[Path] = []
    for name in ("a", "b"):
        trace = Trace()
        first = Job(nap, 2, label="first")
        scheduler = Scheduler(first, Job(nap, 1, label="second", required=first))
        journal = tmp_path / "j.db"
        run_virtual(lambda: scheduler.co_run(instruments=[trace], journal=journal))  # noqa: B023 - called at once
        files.append(tmp_path / f"{name}.json")
        save(trace, files[-1])
    shown = trioflow("compare", *files).stdout
    assert "first: restored from the journal" in shown
    assert "second: restored from the journal" in shown
    assert "gone" not in shown
    assert "same scenario" not in shown
    back = trioflow("compare", *reversed(files)).stdout
    assert "first: run again; it was restored from the journal before" in back
    for text in (shown, back):
        assert (
            "2 jobs ran in one of them, and not in the other, which had a journal"
            in text.splitlines()[0]
        )
        assert "%" not in text.splitlines()[0]


def test_changes_add_up_to_the_difference_between_two_runs(tmp_path: Path) -> None:
    numbers = random.Random(5)
    files = [traced(tmp_path / "all.json", everything()), training(tmp_path / "x.json")]
    for place in range(6):
        jobs = [Job(nap, numbers.randint(0, 9), label=f"job {n}") for n in range(12)]
        for n, job in enumerate(jobs):
            job.requires(numbers.sample(jobs[:n], min(n, numbers.randint(0, 2))))
        nested = Scheduler(
            *(Job(nap, n, label=f"inner {n}") for n in range(1 + place)),
            label="inner",
            jobs_window=2,
        )
        jobs[-1].requires(nested)
        files.append(
            traced(tmp_path / f"{place}.json", *jobs, nested, jobs_window=1 + place)
        )
    runs = [run_times(file) for file in files]
    for run in runs:
        assert sum(run.critical_path_seconds.values()) == pytest.approx(run.seconds)
    for before in runs:
        for after in runs:
            compared = _compare.compare(before, after)
            parts = sum(change.added_seconds for change in compared.changes)
            assert parts == pytest.approx(
                compared.added_seconds, abs=0.001 * max(before.seconds, after.seconds)
            )


def test_compare_marks_jobs_that_joined_or_left_the_critical_path(
    tmp_path: Path,
) -> None:
    before = training(tmp_path / "a.json", 2, flaky=3)
    after = training(tmp_path / "b.json", 2, flaky=9)
    shown = trioflow("compare", before, after).stdout
    assert "flaky: longer, and new on the critical path" in shown
    assert "model 0: off the critical path" in shown


def test_a_job_that_left_the_critical_path_is_marked_if_it_takes_longer(
    tmp_path: Path,
) -> None:
    runs: list[Any] = []
    for seconds, beside in ((3, 1), (4, 9)):
        jobs = [Job(nap, seconds, label="a"), Job(nap, beside, label="b" * 99)]
        runs.append(run_times(traced(tmp_path / "x.json", *jobs)))
    gone, new = sorted(
        _compare.compare(*runs).changes, key=lambda change: change.added_seconds
    )
    assert gone.text == "a: off the critical path, though it takes longer"
    assert new.text == f"{'b' * 30}…{'b' * 29}: longer, and new on the critical path"


def test_a_wait_is_told_by_the_run_in_which_it_was_longer(tmp_path: Path) -> None:
    """A job that "waited less for a slot" had waited for the event loop before, and now, for an instant, for a slot."""
    runs: list[Any] = []
    for name, seconds in (("slow", 9), ("fast", 2)):
        jobs = [Job(nap, 1, label=label, needs={name: 1}) for label in "ab"]
        runs.append(
            run_times(
                traced(
                    tmp_path / "x.json",
                    *jobs,
                    pool=Pool(**{name: Rate(requests=1, per=seconds)}),
                )
            )
        )
    for pair, direction in ((runs, "less"), (runs[::-1], "longer")):
        texts = [change.text for change in _compare.compare(*pair).changes]
        assert any(
            text.startswith(f"b: waited {direction} for rate of slow") for text in texts
        ), texts


def test_small_changes_are_summed_up_in_one_line(tmp_path: Path) -> None:
    """Small changes are one line with their sums before and after, so that all lines add up to the difference."""
    runs: list[Any] = []
    for large, small in ((100, 0.1), (110, 0.11)):
        jobs = [Job(nap, small, label=f"job {n}") for n in range(3)]
        runs.append(
            run_times(
                traced(
                    tmp_path / "x.json",
                    Job(nap, large, label="large"),
                    *jobs,
                    jobs_window=1,
                )
            )
        )
    compared = _compare.compare(*runs)
    assert "smaller changes" in compared.changes[-1].text
    assert (
        compared.changes[-1].seconds_before,
        compared.changes[-1].seconds_after,
    ) == (
        pytest.approx(0.3),
        pytest.approx(0.33),
    )
    assert sum(change.added_seconds for change in compared.changes) == pytest.approx(
        compared.added_seconds
    )


def test_compare_lists_jobs_that_ended_in_another_state(tmp_path: Path) -> None:
    before = traced(tmp_path / "a.json", Job(nap, 3, label="a"))
    after = traced(tmp_path / "b.json", Job(fail, 1, OSError("x"), label="a"))
    told = trioflow("compare", before, after).stdout
    assert told.splitlines()[1:4] == [
        "",
        "Ended in another state:",
        "  a: succeeded, now failed",
    ]


def test_a_hedge_that_started_is_no_change_of_state(tmp_path: Path) -> None:
    def run(name: str, seconds: float) -> Path:
        ask, hedge = Job(nap, seconds, label="ask"), Job(nap, 1, label="hedge")
        return traced(
            tmp_path / name,
            First(ask, hedge, stagger=2, label="call"),
            Job(nap, 5, label="last"),
        )

    assert (
        "another state"
        not in trioflow("compare", run("a.json", 1), run("b.json", 9)).stdout
    )
    lost = traced(
        tmp_path / "c.json",
        First(Job(fail), Job(fail), label="call"),
        Job(nap, 5, label="last"),
    )
    assert (
        "  call: succeeded, now failed"
        in trioflow("compare", tmp_path / "a.json", lost).stdout.splitlines()
    )


NOT_TRACES = {
    "": "is not a trace: it is not JSON",
    '{"schema":1}\n{"schema":1}\n': "is not a trace: it is not JSON",
    "[" * 100_000: "is not a trace: it is not JSON",
    "[]": "is not a trace of trioflow",
    "17": "is not a trace of trioflow",
    '{"traceEvents":[]}': "is not a trace of trioflow",
    '{"traceEvents":[],"otherData":{"program":"other"}}': "is not a trace of trioflow",
    '{"otherData":{"program":"trioflow","version":5}}': "written by another version of trioflow: its format is 5",
    '{"otherData":{"program":"trioflow","version":"x"}}': "written by another version of trioflow",
    '{"otherData":{"program":"trioflow","version":4}}': "is a damaged trace: Expected `object`, got `null`",
    '{"record":{"spans":[{}]},"otherData":{"program":"trioflow","version":4}}': "field `number` - at `$.spans[0]`",
    '{"record":{"end_time":NaN},"otherData":{"program":"trioflow","version":4}}': "is not a trace: the number NaN is",
    '{"record":{"end_time":"1"},"otherData":{"program":"trioflow","version":4}}': "got `str` - at `$.end_time`",
    '{"record":{"failures":{"7":{}}},"otherData":{"program":"trioflow","version":4}}': "at `$.failures[...]`",
    '{"record":{"families":["a"]},"otherData":{"program":"trioflow","version":4}}': "is a damaged trace: ",
}


NOT_TRACE_IDS = (
    *("empty", "lines-of-json", "deep-list", "list", "number", "other-trace", "other-program"),
    *(
        "newer-version", "version-is-text", "no-record", "span-without-fields", "time-is-nan", "time-is-text",
        "failure-without-fields",
    ),
    "kind-without-span",
)  # fmt: skip


@pytest.mark.parametrize("text", NOT_TRACES, ids=NOT_TRACE_IDS)
def test_files_that_are_not_traces_are_rejected(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    done = trioflow("compare", training(tmp_path / "a.json"), tmp_path / "x.json")
    assert done.exit_code == 2
    assert NOT_TRACES[text] in done.stderr
    assert "x.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_compare_of_unrelated_runs_asks_for_traces_of_the_same_scenario(
    tmp_path: Path,
) -> None:
    one, other = (
        traced(tmp_path / "a.json", Job(nap, 1, label="a")),
        traced(tmp_path / "b.json", Job(nap, 1, label="b")),
    )
    empty = traced(tmp_path / "c.json")
    assert (
        "are these traces of the same scenario?"
        in trioflow("compare", one, other).stdout
    )
    assert (
        trioflow("compare", empty, one).exit_code
        == trioflow("compare", empty, empty).exit_code
        == 0
    )


def test_two_runs_without_jobs_are_not_called_unrelated(tmp_path: Path) -> None:
    empty = traced(tmp_path / "a.json")
    one = traced(tmp_path / "b.json", Job(nap, 1, label="b"))
    question = "The two runs have no job in common"
    assert question not in trioflow("compare", empty, empty).stdout
    assert question in trioflow("compare", empty, one).stdout
