"""The end of `trioflow run`: a verdict, the counts, each kind of failure once, the slowest jobs, and the next step."""

import re
from pathlib import Path
from typing import Any
import anyio
import click
import pyte
import pytest
from trioflow import First, Job, Pool, Rate, Scheduler, Trace
from trioflow.cli import _end_of_run, _outputs
from trioflow.cli._commands import CommandLine, command
from ..bodies import nap
from ..conftest import Virtual
from ..places import patiently
from .command_line import on_a_terminal, process, run, trioflow, written

CODE = """
def broken(name):
    raise KeyError(name)

build = Job(fail, label="build", retry=1)
tests = Scheduler(*(Job(work, label=f"test {n}") for n in range(3)), label="tests", required=build, run_if="succeeded")
nodes = [Job(fail, label=f"node {number}") for number in range(7)]
x = Scheduler(build, tests, nodes, ProcessJob(broken, "x", label="process"), label="release")
"""


def left_on_a_terminal(*arguments: str, lines: int = 24) -> list[str]:
    """Run the command on a new terminal, and return the lines left on it."""
    screen = pyte.HistoryScreen(100, 80)
    code, said = on_a_terminal(*arguments, lines=lines)
    assert code == 3
    pyte.Stream(screen).feed(said)
    return "\n".join(line.rstrip() for line in screen.display).rstrip().splitlines()


def test_on_a_terminal_each_failure_is_printed_once(tmp_path: Path) -> None:
    """The end of a run has a verdict and jobs, and then each kind of failure once, with the user's frames."""
    shown = left_on_a_terminal("run", written(tmp_path, CODE))
    text = "\n".join(shown)
    assert shown[0].startswith(" release  ✗ 9 failed, 3 never started of 12, ")
    assert text.count("OSError: broken") == 1
    assert (
        text.count("KeyError: 'x'") == 2
    )  # the second is where it was raised in the process
    assert "debrief" not in text
    assert "stop reason" not in text
    assert "_child.py" not in text
    end = shown[shown.index("not run: tests (3 jobs), because build failed") :]
    assert end[1] == ""
    assert any(re.match("run again +trioflow run ", line) for line in end[2:])


def test_the_verdict_stands_once_on_a_terminal(tmp_path: Path) -> None:
    """The monitor's first line is the verdict. It was once repeated below the failures if the terminal was low."""
    code = written(
        tmp_path,
        "x = Scheduler(*[Job(fail if n == 3 else work, label=f'j{n}') for n in range(16)], label='s')",
    )
    assert (
        sum("1 failed of 16" in line for line in left_on_a_terminal("run", code)) == 1
    )


def test_log_without_a_terminal_has_a_line_for_each_kind_of_failure(
    tmp_path: Path,
) -> None:
    done = process("run", written(tmp_path, CODE.replace("ProcessJob", "ThreadJob")))
    assert done.returncode == 3
    lines = [
        line
        for line in done.stderr.splitlines()
        if " failed" in line and line.startswith("'")
    ]
    assert len(lines) == 2
    assert not any("debrief" in line for line in lines)
    counted = next(
        line
        for line in done.stderr.splitlines()
        if "more jobs failed with OSError" in line
    )
    assert counted.endswith(" and 2 more")
    assert counted.count("'") == 2 * 6
    assert done.stderr.count("Traceback") == 2
    assert "retry     build  attempt 2 of 2" in done.stdout
    assert "  ✗ 9 failed, 3 never started of 12, " in done.stdout
    assert done.stdout.count("OSError") == 1, "why the job is retried"


def test_failures_are_logged_once_if_the_users_file_configures_logging(
    tmp_path: Path,
) -> None:
    """If the user's file configures logging, a failure has one line in its format, and the command prints no other."""
    code = "import logging\nlogging.basicConfig(format='LOG %(message)s')\nx = Scheduler(Job(fail, label='b'))"
    done = process("run", written(tmp_path, code))
    assert (
        done.stderr.count(
            "LOG 'b' failed: OSError: broken; the run goes on; debrief() shows the traceback"
        )
        == 1
    )
    assert done.stderr.count("'b' failed") == 1


CHAIN = """
def nap(label, seconds, *required):
    return Job(anyio.sleep, seconds, label=label, required=required)

source = nap("get source", 0.05)
tests = Scheduler(nap("fast", 0.01), nap("slow", 0.2), label="tests", required=source)
x = Scheduler(source, tests, nap("publish", 0.1, tests), nap("lint", 0.02, source), label="release")
"""


def job(label: str, seconds: float, *required: Job[Any], **options: Any) -> Job[Any]:
    return Job(anyio.sleep, seconds, label=label, required=required, **options)


def told(scheduler: Scheduler, code: int, trace: Trace | None) -> list[str]:
    """Return the lines below the verdict of a run that has written two files."""
    line = CommandLine(("run", "a b.py"), "/work")
    files = [("trace", Path("/work/run 1.svg")), ("junit", Path("/working/j.xml"))]
    with click.Context(command, obj=line):
        summary = _end_of_run.RunSummaryText(scheduler, code, trace)
        shown = [*summary.footer_lines(files, None)]
    return [line.replace(" | ", " · ") for line in shown]


CHAIN_OF_FOUR = "slowest chain  first 1.0 s (33 %) · group/slow 1.2 s (42 %) · publish 500 ms (17 %) · 1 more"


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize(
    ("last", "cost", "has_trace", "shown"),
    [
        (0.25, 0.01, False, CHAIN_OF_FOUR),
        (0.25, 0.011, True, CHAIN_OF_FOUR),
        (0.25, 0.011, False, ""),
        (0.249, 0.01, True, ""),
    ],
)
def test_lines_at_the_end_of_a_run_of_three_seconds(
    virtual: Virtual,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    last: float,
    cost: float,
    has_trace: bool,
    shown: str,
) -> None:
    """From three seconds on, it has a chain: the longest jobs in their order. If the search is too dear, only a trace
    has it. Files below the directory of the call are relative; how to run again is said after failures."""
    monkeypatch.setattr(_end_of_run, "SEARCH_SECONDS_PER_JOB", cost)
    first = job("first", 1)
    slow = job("slow", 1.25)
    group = Scheduler(job("fast", 0.5), slow, label="group", required=first)
    publish = Job(anyio.sleep, 0.5, label="publish", required=group)
    watch = job("watch", 99, forever=True)
    trace = Trace() if has_trace else None
    scheduler = Scheduler(
        [first, group, publish, job("last", last, publish), job("beside", 0.1), watch],
        instruments=[trace] if trace else (),
    )
    virtual(scheduler.co_run)
    lines = [shown, "trace  run 1.svg", "junit  /working/j.xml"]
    if code:
        lines.append(
            "run again  trioflow run 'a b.py'  (--journal FILE keeps what succeeds)"
        )
    found = told(scheduler, code, trace)
    assert [re.sub(" +", " ", line) for line in found] == [
        re.sub(" +", " ", line) for line in lines if line
    ]
    # The texts stand below each other.
    assert len({re.search("  +", line).end() for line in found}) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("jobs", "shown"),
    [
        ([("a", 0, 1), ("b", 1, 1)], "slowest chain  b 1.0 s (33 %)"),
        ([("a", 0, 1), ("b", 0.9, 1)], ""),
        ([("a", 9, 0)], ""),
        ([("a", 1.5, 0), ("b", 3, 0)], "slowest chain  b 3.0 s (100 %)"),
    ],
)
def test_a_chain_is_of_two_jobs_at_least_that_took_a_third_of_the_time(
    virtual: Virtual, jobs: list[tuple[str, float, int]], shown: str
) -> None:
    rate = Pool(api=Rate(requests=1, per=2))
    scheduler = Scheduler(
        [job(name, took, needs={"api": calls}) for name, took, calls in jobs],
        pool=rate,
    )
    virtual(scheduler.co_run)
    lines = told(scheduler, 0, None)
    assert [line for line in lines if "chain" in line] == [shown] * bool(shown)


@pytest.mark.parametrize("options", [[], ["--trace", "run.svg"]])
def test_slowest_chain_lists_the_longest_jobs_of_the_critical_path_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """The slowest chain lists jobs, not schedulers, with their shares of the run, in the order of the chain."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_end_of_run, "MIN_SECONDS_FOR_CHAIN", 0.0)
    monkeypatch.setattr(_end_of_run, "SEARCH_SECONDS_PER_JOB", 0.0)
    line = next(
        line
        for line in run(written(tmp_path, CHAIN), *options).stdout.splitlines()
        if "chain" in line
    )
    found = re.findall(r"(?:chain  |· )(.*?) [\d.]+ m?s \((\d+) %\)", line)
    assert [label for label, _ in found] == ["get source", "tests/slow", "publish"]
    assert sum(int(share) for _, share in found) <= 101


def test_end_of_a_run_whose_jobs_waited_most_of_the_time_has_no_slowest_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The jobs of the chain are no explanation of such a run. They were named, with 15 % of the time together."""
    monkeypatch.setattr(_end_of_run, "MIN_SECONDS_FOR_CHAIN", 0.0)
    monkeypatch.setattr(_end_of_run, "SEARCH_SECONDS_PER_JOB", 0.0)
    code = "x = Scheduler(Job(work, needs={'api': 1}), Job(work, needs={'api': 1}), pool=trioflow.Pool(api=RATE))"
    file = written(
        tmp_path, f"import trioflow\nRATE = trioflow.Rate(requests=1, per=0.5)\n{code}"
    )
    assert "chain" not in run(file).stdout


def test_end_of_a_run_of_many_short_jobs_has_no_slowest_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_end_of_run, "MIN_SECONDS_FOR_CHAIN", 0.0)
    monkeypatch.setattr(_end_of_run, "SEARCH_SECONDS_PER_JOB", 0.0)
    monkeypatch.setattr(_end_of_run, "MIN_CHAIN_SHARE", 0.0)
    file = written(
        tmp_path, f"x = Scheduler(Job(work, label='{'x' * 200}'), Job(work))"
    )
    (line,) = [line for line in run(file).stdout.splitlines() if "chain" in line]
    assert len(line) < _end_of_run.DEFAULT_WIDTH
    monkeypatch.setattr(_end_of_run, "SEARCH_SECONDS_PER_JOB", 1000.0)
    assert "chain" not in run(file).stdout


@pytest.mark.parametrize("end", ["success", "timeout"])
@patiently(0.1, 1, 10)
def test_paths_at_the_end_of_a_run_are_shortened_to_the_width_of_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, unit: float
) -> None:
    """In a narrow terminal, paths of jobs are shortened to fit the line, in the slowest chain and after a timeout."""
    monkeypatch.setattr(_end_of_run, "MIN_SECONDS_FOR_CHAIN", 0.0)
    monkeypatch.setattr(_end_of_run, "SEARCH_SECONDS_PER_JOB", 0.0)
    monkeypatch.setattr(_end_of_run, "MIN_CHAIN_SHARE", 0.0)
    monkeypatch.setattr(_end_of_run, "line_width", lambda: 60)
    code = "long = 'region 1 / datacentre 2 / migrate host '\n"
    options = ["--timeout", unit] if end == "timeout" else []
    if options:
        code += "x = Scheduler(Job(anyio.sleep, 99, label=long + 'a'), Job(anyio.sleep, 99, label=long + 'b'))"
    else:
        code += "a = Job(work, label=long + 'a')\nx = Scheduler(a, Job(work, label=long + 'b', required=a))"
    lines = run(written(tmp_path, code), *options).stdout.splitlines()
    found = [
        line for line in lines if line.startswith(("slowest chain", "was running"))
    ]
    assert found
    assert max(map(len, found)) <= 60, found


def test_end_of_a_run_lists_each_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written files are listed relative to the directory of the call, even if the user's file changes directory."""
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    code = "import os\nos.chdir('/')\nx = Scheduler(Job(work), label='x')"
    options = [
        "--trace",
        "sub/a b.json",
        "--events",
        str(tmp_path / "e"),
        "--junit",
        "j.xml",
    ]
    lines = run(written(tmp_path, code), *options).stdout.splitlines()
    assert lines[-3:] == ["trace   sub/a b.json", "events  e", "junit   j.xml"]
    assert (tmp_path / "sub" / "a b.json").exists()


def test_end_of_a_run_has_a_line_for_the_outputs_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A good run whose step wrote another file than it said ended with the verdict alone. A bad one says it once."""
    monkeypatch.chdir(tmp_path)
    Path("tree").write_text("old")
    untouched = "'tree' was there before, and 'cat' has not touched it"
    words = "run.report(None, 'paused', is_steering=True) for run in runs_in_progress()"
    begin = f"from trioflow._core.words._run_view import runs_in_progress\nasync def steered(): [{words}]\n"
    inner = (
        "Scheduler(Job(work, writes='tree', label='cat'), label='inner'), Job(steered)"
    )
    good = trioflow(
        "run",
        "--no-monitor",
        written(tmp_path, f"{begin}x = Scheduler({inner}, label='x')"),
    )
    assert good.stdout.splitlines()[-1] == f"incidents  {untouched}"
    bad = trioflow(
        "run",
        "--no-monitor",
        written(tmp_path, f"{begin}x = Scheduler({inner}, Job(fail), label='x')"),
    )
    assert untouched not in bad.stdout
    assert bad.stderr.count(f"incident at inner/cat: {untouched}") == 1


def test_on_a_terminal_paths_are_plain_and_lines_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = written(
        tmp_path, "x = Scheduler(Job(fail, label='a'))"
    )  # one job has no slowest chain, however slow
    shown = left_on_a_terminal("run", Path(file).name, "--trace", "run.json")
    end = next(number for number, line in enumerate(shown) if line.startswith("trace "))
    assert shown[end:] == [
        "trace      run.json",
        "run again  trioflow run flow.py --trace run.json",
        "           (--journal FILE keeps what succeeds)",
    ]


def test_written_files_have_absolute_paths_if_the_working_directory_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the working directory was removed, paths of written files were once shown relative to `/`."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    file = tmp_path / "j.xml"
    assert run(
        written(tmp_path, "x = Scheduler(Job(work))"), "--junit", file
    ).stdout.endswith(f"\njunit  {file}\n")


def test_end_of_a_run_has_the_next_command_and_the_kept_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a run has the command that repeats it, with quoted arguments, and how many jobs it would restore."""
    monkeypatch.chdir(tmp_path)
    code = "x = Scheduler(Job(work), Job(work, save=None), Job(fail), label='x')"
    assert written(tmp_path, code, "a b.py").endswith("a b.py")
    for _ in range(2):
        lines = run("a b.py", "--journal", "run.db").stdout.splitlines()
        assert (
            lines[-1]
            == "run again  trioflow run --no-monitor 'a b.py' --journal run.db  (1 of 3 jobs kept)"
        )
    own = written(
        tmp_path, code.replace("label=", "journal='run.db', label="), "own.py"
    )
    assert run(own).stdout.splitlines()[-1].endswith("own.py  (1 of 3 jobs kept)")
    assert (
        run("a b.py")
        .stdout.splitlines()[-1]
        .endswith(" 'a b.py'  (--journal FILE keeps what succeeds)")
    )


def test_a_first_with_its_jobs_is_one_of_the_kept_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the journal, as in all counts: of eleven jobs, twenty were once kept."""
    monkeypatch.chdir(tmp_path)
    asks = "First(Job(work, key='a'), Job(work, key='b'), label=f'a/{n}')"
    path = written(
        tmp_path,
        f"x = Scheduler([{asks} for n in range(3)], Job(work, label='c'), Job(fail))",
    )
    for _ in range(2):
        assert (
            run(path, "--journal", "run.db")
            .stdout.splitlines()[-1]
            .endswith("(4 of 5 jobs kept)")
        )
        assert (
            trioflow("journal", "run.db")
            .stdout.splitlines()[-1]
            .startswith("4 jobs kept, ")
        )


def test_the_jobs_that_ran_longest_at_a_timeout_are_named(virtual: Virtual) -> None:
    """A list that is cut shows the most important ones, in order."""
    jobs = [Job(nap, number, label=f"wait {number}") for number in range(5)]
    late = [
        Job(anyio.sleep, 99, label=f"late {number}", required=job)
        for number, job in enumerate(jobs)
    ]
    watch = job("watch", 99, forever=True)
    group = Scheduler(*jobs, *reversed(late), label="group")
    scheduler = Scheduler(group, watch, timeout=9)
    virtual(scheduler.co_run)
    text = _end_of_run.RunSummaryText(scheduler, 1, None).running_at_timeout()
    assert (
        text.replace(" | ", " · ")
        == "group/late 0 9.0 s · group/late 1 8.0 s · group/late 2 7.0 s · 2 more"
    )


def test_jobs_that_were_cancelled_before_the_timeout_were_not_running_at_it(
    virtual: Virtual,
) -> None:
    alone = Job(nap, 99, label="alone")

    async def cancel() -> None:
        await anyio.sleep(2)
        alone.cancel()

    scheduler = Scheduler(
        First(Job(nap, 1, label="winner"), Job(nap, 99, label="loser")),
        Scheduler(Job(nap, 99, label="slow"), label="group", timeout=3, critical=False),
        Scheduler(alone, Job(cancel), Job(nap, 99, label="long"), label="other"),
        timeout=9,
    )
    virtual(scheduler.co_run)
    text = _end_of_run.RunSummaryText(scheduler, 1, None).running_at_timeout()
    assert text == "other/long 9.0 s"


@patiently(0.1, 1, 10)
def test_end_of_a_run_lists_the_jobs_that_a_timeout_cancelled(
    tmp_path: Path, unit: float
) -> None:
    code = """
    async def nap(seconds): await anyio.sleep(seconds)
    done = Job(nap, 0, label="done")
    later = Job(nap, 60, label="later", required=done)
    x = Scheduler(
        done, later, Job(nap, 60, label="long"), Scheduler(Job(nap, 60, label="late"), label="in"),
        Job(nap, 60, label="eu/db"), Job(nap, 60, label="waits", required=later), jobs_window=4,
    )
    """
    done = run(written(tmp_path, code), "--timeout", unit)
    (line,) = [
        line for line in done.stdout.splitlines() if line.startswith("was running")
    ]
    assert line.endswith(" 1 more")
    named = {"done", "later", "long", "in", "late", "in/late", "eu/db", "waits"} & set(
        line.split()
    )
    assert len(named) == 3
    assert named < {"later", "long", "in/late", "eu/db"}


@pytest.mark.parametrize("columns", [200, 20])
def test_a_list_at_the_end_has_one_item_however_narrow_the_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr(_end_of_run, "line_width", lambda: columns)
    summary = _end_of_run.RunSummaryText(Scheduler(), 0, None)
    shown = summary._fit_items([(0, "a" * 20), (1, "b" * 20)])
    second = "b" * 20 if columns == 200 else "1 more"
    assert shown.split(summary._symbols.separator) == ["a" * 20, second]


@pytest.mark.parametrize("kept", [0, 3, 4, 5])
def test_what_a_journal_keeps_is_of_all_jobs_as_far_as_they_are_known(
    kept: int,
) -> None:
    """Jobs that `keep_jobs=False` has removed are kept, and are not among all that is known."""
    shown = f"({kept} of 4 jobs kept)" if kept <= 4 else f"({kept} jobs kept)"
    assert _outputs.kept_note(kept, 4, "job") == shown
    assert _outputs.kept_note(None, 4, "job") == "(--journal FILE keeps what succeeds)"
    assert _outputs.kept_note(1, None, "job") == "(1 job kept)"
