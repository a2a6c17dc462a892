"""`trioflow run`: its options, exit codes and output; `--only`: which jobs are kept, and in which order."""

import itertools
import re
import subprocess
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any
import click
import pytest
from click.testing import Result
from trioflow import AbstractJob, CycleError, First, Job, Scheduler, Service
from trioflow.cli._scenario import keep_selected_jobs
from ..bodies import edges, fail, give, grid, idle, nothing, serve, take
from ..conftest import Virtual
from .command_line import labels, process, refused, run, trioflow, written

FINE = "scenario = Scheduler(Job(work, label='a'), Job(work, label='b'))"
FAILS = "scenario = Scheduler(Job(work, label='a'), Job(fail, label='b'), label='all')"


def ran(tmp_path: Path, code: str, *options: Any) -> Result:
    return run(written(tmp_path, code), *options)


# --- exit codes


EXIT_CODES = {
    "all fine": (0, FINE),
    "nothing to do": (0, "scenario = Scheduler()"),
    "a forever job was cancelled": (
        0,
        "x = Scheduler(Job(work), Job(anyio.sleep, 99, forever=True))",
    ),
    "a job was skipped": (
        0,
        "x = Scheduler(Job(work, run_if='failed', required=(a := Job(work))), a)",
    ),
    "a job failed": (3, FAILS),
    "a job of a nested scheduler failed": (3, "x = Scheduler(Scheduler(Job(fail)))"),
    "a nested scheduler failed": (
        3,
        "x = Scheduler(Scheduler(Job(fail, critical=True)))",
    ),
    "a forever job failed": (
        3,
        "x = Scheduler(Job(anyio.sleep, 0), Job(fail, forever=True))",
    ),
    "a job was blocked": (3, "x = Scheduler(Job(work, Job(fail)))"),
    "a critical job failed": (1, "x = Scheduler(Job(fail, critical=True))"),
    "timeout": (1, "x = Scheduler(Job(anyio.sleep, 99), timeout=0.001)"),
    "cancelled": (
        1,
        "x = Scheduler()\nasync def stop():\n    x.cancel()\nx.add(Job(stop))",
    ),
    "cycle": (
        2,
        "x = Scheduler(a := Job(work, label='a'), b := Job(work, required=a))\na.requires(b)",
    ),
    "missing requirement": (2, "x = Scheduler(Job(work, required=(a := Job(work))))"),
    "requires a forever job": (
        2,
        "x = Scheduler(a := Job(work, forever=True), Job(work, required=a))",
    ),
    "needs without a pool": (2, "x = Scheduler(Job(work, needs={'gpu': 1}))"),
    "not a limiter": (
        2,
        "class Odd:\n    acquire_on_behalf_of = None\nx = Scheduler(Job(work), jobs_window=Odd())",
    ),
    "closed scheduler": (2, "x = Scheduler()\nx.close()"),
    "SystemExit": (
        130,
        "import sys\nasync def leave():\n    sys.exit(7)\nx = Scheduler(Job(leave))",
    ),
    "KeyboardInterrupt": (
        130,
        "async def leave():\n    raise KeyboardInterrupt\nx = Scheduler(Job(leave))",
    ),
}


@pytest.mark.parametrize("case", EXIT_CODES)
def test_each_outcome_of_a_run_has_its_exit_code(
    tmp_path: Path, backend: str, case: str
) -> None:
    """Success, failures, stopped runs, invalid scenarios and interruptions have different exit codes."""
    code, text = EXIT_CODES[case]
    done = ran(tmp_path, text, "--backend", backend)
    assert done.exit_code == code, done.output


def test_validation_error_has_no_traceback_and_refers_to_check(tmp_path: Path) -> None:
    done = ran(tmp_path, EXIT_CODES["cycle"][1])
    assert re.match(
        r"Error: cycle: .* requires .*requires\(\.\.\., remove=True\)\n`trioflow check`",
        done.stderr,
    )
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_error_refers_to_check_only_if_check_finds_it(tmp_path: Path) -> None:
    done = ran(tmp_path, EXIT_CODES["not a limiter"][1])
    assert done.exit_code == 2
    assert re.fullmatch(r"Error: jobs_window=.*\n", done.stderr)


# --- output
def test_the_verdict_is_below_the_output_of_the_jobs(tmp_path: Path) -> None:
    """After a success, a line of verdict follows the output, and one of counts if it adds something; no errors."""
    done = ran(
        tmp_path,
        "x = Scheduler(Job(work), Scheduler(Job(work)), Job(anyio.sleep, 9, forever=True))",
    )
    said = r"works\nworks\nScheduler  ✓ all 2 jobs succeeded, [\d.]+ [mµ]?s\n2 jobs: 2 succeeded, and 1 forever job\n"
    assert re.fullmatch(said, done.stdout)
    assert done.stderr == ""


def test_failures_are_on_the_standard_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each kind of failure is printed once, on standard error; verdict and counts are on standard output."""
    done = ran(tmp_path, FAILS)
    assert "\nfailure of b:\n" in done.stderr
    assert done.stderr.count("OSError: broken") == 1
    assert "stop reason" not in done.stderr
    assert re.search(
        r"\nall  ✗ 1 failed of 2, [\d.]+ [mµ]?s\n2 jobs: 1 succeeded, 1 failed\n",
        done.stdout,
    )
    assert (
        len(caplog.records) == 2
    )  # the engine's own warnings: the failure, and the number of failures


def test_verdict_of_a_stopped_run_has_the_reason(tmp_path: Path) -> None:
    """The verdict of a run stopped by its timeout says that it timed out; standard error is empty."""
    done = ran(tmp_path, EXIT_CODES["timeout"][1])
    assert re.search(
        r"✗ timed out, 0 of 1 job succeeded, 1 cancelled, [\d.]+ [mµ]?s\n1 job: 1 cancelled\n",
        done.stdout,
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    "kind",
    ["Job(broken)", "ThreadJob(deep)", "Scheduler(Job(broken), critical_jobs=True)"],
)
def test_tracebacks_of_failures_have_only_frames_of_the_users_code(
    tmp_path: Path, backend: str, kind: str
) -> None:
    code = f"""
    def deep():
        {{}}["x"]
    async def broken():
        deep()
    x = Scheduler({kind})
    """
    done = ran(tmp_path, code, "--backend", backend)
    frames = re.findall(
        r'^  File "(.*)", line \d+, in (\w+)', done.stderr, re.MULTILINE
    )
    assert frames == [
        (str(tmp_path / "flow.py"), name)
        for name in (["deep"] if "Thread" in kind else ["broken", "deep"])
    ]


def test_tracebacks_keep_frames_of_libraries_that_the_users_code_calls(
    tmp_path: Path,
) -> None:
    code = """
    async def broken():
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fail)
        except ExceptionGroup as group:
            await anyio.to_thread.run_sync(int, "x")
    x = Scheduler(Job(broken))
    """
    done = ran(tmp_path, code)
    assert re.search(
        r"in fail\b[^#]*OSError: broken[^#]*During handling[^#]*in run_sync[^#]*ValueError",
        done.stderr,
    )
    assert "_worker.py" not in done.stderr


# --- options


MOST = """
    running = most = 0
    async def count():
        global running, most
        running += 1
        most = max(running, most)
        for _ in range(50):  # turns of the loop, for the others to start in
            await anyio.sleep(0)
        running -= 1
    async def tell():
        print("most:", most)
"""
"""Jobs that measure how many of them run at once."""


def test_jobs_option_replaces_the_window_of_the_scheduler(tmp_path: Path) -> None:
    code = f"""{MOST}
    jobs = [Job(count) for _ in range(5)]
    x = Scheduler(jobs, Job(tell, required=jobs), jobs_window=3)
    """
    for options, most in ((), 3), (("--jobs", 2), 2), (("-j", 0), 5):
        assert f"most: {most}\n" in ran(tmp_path, code, *options).stdout


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_jobs_option_limits_the_whole_run_with_all_nested_schedulers(
    tmp_path: Path, backend: str
) -> None:
    """`-j` limits the running jobs at any depth, even in schedulers with windows; forever jobs do not count."""
    code = f"""{MOST}
    def counts(n, **options):
        return Scheduler((Job(count) for _ in range(n)), **options)
    groups = [counts(5), Scheduler(counts(5), Job(count))]
    watching = Scheduler(Job(anyio.sleep_forever), Job(anyio.sleep_forever), forever=True)
    x = Scheduler(groups, watching, Job(tell, required=groups), jobs_window=8)
    y = Scheduler(own := counts(5, jobs_window=3), Job(tell, required=own))
    """
    cases = ("x", 0, 11), ("x", 3, 3), ("x", 1, 1), ("y", 0, 3), ("y", 1, 1)
    for name, slots, most in cases:
        options = ("-j", slots) if slots else ()
        done = run(f"{written(tmp_path, code)}:{name}", "--backend", backend, *options)
        assert f"most: {most}\n" in done.stdout, (name, options)


def test_timeout_option_accepts_units(tmp_path: Path) -> None:
    tell = "import trioflow.abc\nclass Tell(trioflow.abc.Instrument):\n    def before_run(self, scheduler): "
    code = f"{tell}print(scheduler._run.timeout)\nx = Scheduler(Job(anyio.sleep, 0), instruments=[Tell()])"
    assert "90.0\n" in ran(tmp_path, code, "--timeout", "1m30s").stdout


def test_critical_option_stops_the_run_at_the_first_failure(tmp_path: Path) -> None:
    last = "last = Job(work, label='last', required="
    done = ran(
        tmp_path,
        f"inner = Scheduler(Job(fail))\n{last}inner)\nscenario = Scheduler(inner, last)",
        "--critical",
    )
    assert done.exit_code == 1
    assert "stopped by a critical failure" in done.stdout
    done = ran(
        tmp_path,
        f"a = Job(fail, critical=False)\n{last}a)\nscenario = Scheduler(a, last)",
        "--critical",
    )
    assert done.exit_code == 0
    assert "1 of 2 jobs succeeded, 1 failed (tolerated)" in done.stdout


def test_backend_option_selects_the_event_loop(tmp_path: Path) -> None:
    code = """
    import trio
    async def tell():
        print("trio" if trio.lowlevel.in_trio_run() else "asyncio")
    x = Scheduler(Job(tell))
    """
    for name in "trio", "asyncio":
        assert ran(tmp_path, code, "--backend", name).stdout.startswith(name)


@pytest.mark.parametrize(
    ("imports", "helper", "name"),
    [
        ("import asyncio", "", "asyncio"),
        ("import helper", "from asyncio.queues import Queue", "asyncio"),
        ("import asyncio, helper", "def f():\n    import trio.lowlevel", "trio"),
        ("import anyio", "", "trio"),
    ],
)
def test_by_default_imports_decide_the_event_loop(
    tmp_path: Path, imports: str, helper: str, name: str
) -> None:
    """A program whose own files import asyncio and not trio runs on asyncio, whatever its libraries import."""
    (tmp_path / "helper.py").write_text(helper)
    code = """
    async def tell():
        import sniffio
        print("on", sniffio.current_async_library())
    x = Scheduler(Job(tell))
    """
    path = written(tmp_path, f"{imports}\n{textwrap.dedent(code)}")
    done = process("run", "--no-monitor", path)
    assert done.stdout.startswith(f"on {name}\n"), done.stdout


def test_a_loop_that_was_chosen_by_imports_is_named_where_it_is_wrong(
    tmp_path: Path,
) -> None:
    code = "import asyncio\nfrom importlib import import_module\nx = Scheduler(Job(import_module('trio').sleep, 1))"
    done = process(
        "run", "--no-monitor", written(tmp_path, code), stderr=subprocess.PIPE
    )
    assert (
        "give --backend trio (asyncio was taken, because flow.py imports it)"
        in done.stderr
    )


def test_a_run_on_the_wrong_backend_names_the_option(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Under `trioflow run`, the remedy for jobs that await asyncio is the option, in the first line of the failures."""
    text = "import asyncio\nx = Scheduler(Job(asyncio.sleep, 1, label='a'), Job(asyncio.Event().wait, label='b'))"
    done = ran(tmp_path, text)
    assert "2 failures of one kind: give --backend asyncio\n" in done.stderr
    assert "backend=" not in done.output + caplog.text


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--backend", "curio"),
        ("--jobs", "-1"),
        ("--timeout", "0"),
        ("--timeout", "soon"),
        ("--timeout", "nan"),
    ],
)
def test_invalid_values_of_run_options_are_rejected(
    tmp_path: Path, option: str, value: str
) -> None:
    done = ran(tmp_path, "print('loaded')", option, value)
    assert done.exit_code == 2
    assert option in done.stderr


def test_hold_beside_critical_says_that_nothing_will_be_held(tmp_path: Path) -> None:
    """`--critical` stops the run at the first failure, before `--hold` could hold it, which once nobody said."""
    path = written(tmp_path, "scheduler = Scheduler(Job(work))")
    assert "nothing will be held" in run("--hold", "--critical", path).stderr
    assert "held" not in run("--hold", path).stderr


# --- `trioflow run --tag`: each printed line has the label of its job

SCENARIO = """
import sys

async def halves(name):
    for end in (" ", "\\n"):
        print(name, end=end)
        await anyio.sleep(0.01)
    print("error", file=sys.stderr)

x = Scheduler(
    Job(halves, "a", label="job a"), Job(halves, "b", label="job b"), CommandJob("echo c", shell=True, label="program"),
    ProcessJob(print, "p", kwargs={"end": ""}, label="process"), label="run",
)
"""


def test_tag_option_puts_the_label_of_the_job_before_each_line_of_a_log(
    tmp_path: Path,
) -> None:
    done = process("run", "--tag", written(tmp_path, SCENARIO))
    assert done.returncode == 0, done.stderr
    assert {"job a: a a", "job b: b b", "program: c", "process: p"} <= set(
        done.stdout.splitlines()
    )
    assert sorted(done.stderr.splitlines()) == ["job a: error", "job b: error"]


def test_output_of_a_process_job_into_a_pipe_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "flow.py"
    file.write_text(
        "if __name__ != '__mp_main__':  # the worker process need not import it\n"
        "    from trioflow import ProcessJob, Scheduler\n"
        "    x = Scheduler(ProcessJob(print, 'from the process', label='p'))\n"
    )
    done = process("run", "--no-monitor", file, stdin=subprocess.DEVNULL)
    assert done.stdout.splitlines()[0] == "from the process"


def test_tag_option_without_the_monitor_of_the_command_is_rejected(
    tmp_path: Path,
) -> None:
    assert "leave out --no-monitor" in refused(
        "run", "--tag", "--no-monitor", written(tmp_path, SCENARIO)
    )
    said = refused(
        "run", "--tag", written(tmp_path, "x = Scheduler(instruments=[Monitor()])")
    )
    assert "--tag does not change the scheduler's own Monitor" in said


@pytest.mark.parametrize(
    ("one", "other"), [("journal", "junit"), ("trace", "report"), ("report", "events")]
)
def test_two_options_that_name_one_file_are_refused(
    tmp_path: Path, one: str, other: str
) -> None:
    """`--junit` once replaced the journal of all runs before, and a report said that the trace was written, too.

    So it did with a journal that the scenario names itself."""
    file = written(tmp_path, FINE)
    target = tmp_path / "out"
    (tmp_path / "link").symlink_to(target)
    options = (f"--{one}", target, f"--{other}", tmp_path / "link")
    assert f"--{one} and --{other} name one file" in refused("run", file, *options)
    assert not target.exists()
    nowhere = (f"--{one}", "/dev/null") * (one != "journal")
    own = written(tmp_path, f"one = Scheduler(journal={str(target)!r})", name="own.py")
    said = refused("run", own, f"--{other}", tmp_path / "link")
    assert f"journal= of the scheduler and --{other} name one file" in said
    assert run(file, *nowhere, f"--{other}", "/dev/null").exit_code == 0


# --- `--only`
def kept_paths(scheduler: Scheduler, only: str = "") -> str:
    """Select jobs, and return the paths of the kept ones in the order added."""
    keep_selected_jobs(scheduler, only.split())
    return paths(scheduler.iterate_jobs())


def paths(jobs: Iterable[AbstractJob[Any]]) -> str:
    return " ".join(job.path for job in jobs)


# The grid is a diamond a-b/c-d, then e, which also requires x; z is alone.

CASES = [
    ("b", "b"),
    ("b e", "b e"),
    ("[bc]", None),
    ("?", "a b c d e x z"),
    ("b nothing", None),
]


@pytest.mark.parametrize(("only", "left"), CASES, ids=[only for only, _ in CASES])
def test_patterns_select_which_jobs_stay(only: str, left: str | None) -> None:
    scheduler, _ = grid()
    if left is None:
        with pytest.raises(click.UsageError):
            kept_paths(scheduler, only)
        assert len(scheduler) == 7
    else:
        assert kept_paths(scheduler, only) == left


def test_removing_jobs_keeps_the_order_of_the_others() -> None:
    """The successors of removed jobs inherit their requirements, however many removed jobs are in between."""
    scheduler, _ = grid()
    assert kept_paths(scheduler, only="a e") == "a e"
    assert edges(scheduler) == {"ae"}


@pytest.mark.parametrize("way", ["settled", "run_if", "tolerated", "strict", "input"])
def test_a_failure_keeps_a_job_from_running_only_if_it_does_so_in_the_whole(
    virtual: Virtual, way: str
) -> None:
    """What ran whatever became of a removed job once was blocked by a failure before that.

    Then it ran although an input of the removed job had failed, which blocks that whatever its `run_if` is."""

    def make() -> tuple[Scheduler, Job[None]]:
        a = Job(fail, label="a")
        b = Job(nothing, label="b", required=a)
        if way == "input":
            b = Job(take, a, label="b")
        if way in ("run_if", "input"):
            b.run_if = "settled"
        if way == "tolerated":
            b.critical = False
        c = Job(nothing, label="c").requires(b, settled=way == "settled")
        return Scheduler(a, b, c), c

    whole, last = make()
    virtual(whole.co_run)
    part, last_of_part = make()
    assert kept_paths(part, only="a c") == "a c"
    virtual(part.co_run)
    assert last_of_part.state is last.state
    assert last.is_done() is (way not in ("strict", "input"))


def test_without_patterns_the_scenario_is_unchanged() -> None:
    a = idle("a")
    scheduler = Scheduler(idle("b", required=a))
    assert kept_paths(scheduler) == "b"


def test_selecting_from_a_scenario_that_cannot_run_raises() -> None:
    """Selecting jobs of a scenario with a cycle raises, because the selected part would hide the fault."""
    a = idle("a")
    b = idle("b", required=a)
    a.requires(b)
    with pytest.raises(CycleError):
        kept_paths(Scheduler(a, b), only="a")


def test_inputs_of_selected_jobs_are_kept() -> None:
    first = Job(nothing, label="first")
    second = Job(give, first, label="second")
    scheduler, order = Scheduler(first), idle("order")
    elsewhere = Scheduler(Job(nothing, label="other"), second, label="elsewhere")
    scheduler.update(
        [elsewhere, order, Job(give, second, label="last", required=order)]
    )
    assert kept_paths(scheduler, only="last") == "first elsewhere elsewhere/second last"
    assert scheduler.is_runnable()


def test_services_that_selected_jobs_require_are_kept() -> None:
    database = Service(serve, label="database", required=(schema := idle("schema")))
    scheduler = Scheduler(
        schema,
        database,
        idle("user", required=database),
        idle("other", required=database),
    )
    assert kept_paths(scheduler, only="user") == "database user"


def test_an_input_that_is_a_group_is_kept_with_its_jobs() -> None:
    """The `First` whose result a selected job takes once lost its jobs, and the part could not run."""
    first = First(idle("a"), idle("b"), label="first")
    scheduler = Scheduler(Job(give, first, label="user"), idle("other"))
    assert kept_paths(scheduler, only="user") == "first first/a first/b user"
    assert scheduler.is_runnable()


def test_services_that_a_group_requires_are_kept_for_a_job_in_it() -> None:
    database = Service(serve, label="database")
    inner = Scheduler(idle("user"), idle("other"), label="inner")
    group = Scheduler(inner, label="group", required=database)
    scheduler = Scheduler(database, group)
    kept = kept_paths(scheduler, only="group/inner/user")
    assert kept == "database group group/inner group/inner/user"
    assert edges(scheduler) == {"databasegroup"}


def test_forever_jobs_are_kept_only_if_they_are_selected() -> None:
    scheduler = Scheduler(idle("a"), idle("watch", forever=True))
    assert kept_paths(scheduler, only="a") == "a"


def nested() -> Scheduler:
    first = idle("first")
    inner = [
        Scheduler(a := idle("a"), idle("b", required=a), label=name)
        for name in ("one", "two")
    ]
    inner[0].requires(first)
    inner[1].requires(inner[0])
    return Scheduler(first, inner, idle("last", required=inner[1]), label="all")


NESTED = [
    ("one", "one one/a one/b"),
    ("*/a", "one one/a two two/a"),
    ("two/b first", "first two two/b"),
]


@pytest.mark.parametrize(("only", "left"), NESTED, ids=[only for only, _ in NESTED])
def test_patterns_select_jobs_in_nested_schedulers(only: str, left: str) -> None:
    assert kept_paths(nested(), only) == left


def test_a_selected_group_keeps_all_jobs_in_it_at_any_depth() -> None:
    inner = Scheduler(idle("deep"), label="inner")
    scheduler = Scheduler(Scheduler(inner, label="group"), idle("other"), label="all")
    assert kept_paths(scheduler, "group") == "group group/inner group/inner/deep"


def test_nested_schedulers_stay_ordered_if_those_between_them_are_removed() -> None:
    scheduler = nested()
    assert kept_paths(scheduler, only="first two/b") == "first two two/b"
    assert edges(scheduler) == {"firsttwo"}


def test_parentheses_of_a_default_label_are_literal_in_a_pattern() -> None:
    scheduler = Scheduler(Job(nothing), Job(nothing), idle("J"))
    keep_selected_jobs(scheduler, patterns=("noth*",))
    assert len(scheduler) == 2
    keep_selected_jobs(scheduler, patterns=("nothing()",))
    assert len(scheduler) == 1


def test_pattern_that_equals_a_path_with_a_wildcard_selects_that_job_alone() -> None:
    assert kept_paths(Scheduler(idle("a*"), idle("ab")), only="a*") == "a*"


def test_pattern_matches_control_characters_in_their_escaped_form() -> None:
    scheduler = Scheduler(idle("a\x1b"), idle("b"))
    keep_selected_jobs(scheduler, patterns=(r"a\x1b",))
    assert len(scheduler) == 1


def test_selecting_from_twenty_thousand_jobs_takes_linear_time() -> None:
    jobs = [idle(f"{'ab'[n % 2]}{n}") for n in range(20_000)]
    for before, after in itertools.pairwise(jobs):
        after.requires(before)
    scheduler = Scheduler(jobs)
    keep_selected_jobs(scheduler, patterns=("a*",))
    assert [len(job.required) for job in scheduler] == [0] + [1] * 9_999


# --- on the command line

CODE = """
a = Job(work, label="a")
scenario = Scheduler(a, Job(work, label="fetch b", required=a), Job(work, label="c"))
"""


def test_run_and_list_use_only_the_selected_jobs(tmp_path: Path) -> None:
    file = written(tmp_path, CODE)
    assert labels(trioflow("list", file, "--only", "?*b", "--only", "a").stdout) == [
        "a",
        "fetch b",
    ]
    assert run(file, "--only", "?*b", "--only", "a").stdout.count("works\n") == 2


def test_list_paths_prints_the_paths_of_all_jobs(tmp_path: Path) -> None:
    code = "x = Scheduler(Scheduler(Job(work, label='a/b'), label='in'), Job(work, label='c'), Job(work, label='c'))"
    assert (
        trioflow("list", "--paths", written(tmp_path, code)).stdout
        == "in\nin/a\\/b\nc\nc#2\n"
    )


def test_a_pattern_may_be_written_as_labels_are(tmp_path: Path) -> None:
    code = "x = Scheduler(Scheduler(Job(work, label='db'), label='eu'), Job(work, label='eu/db'), Job(work, label='c'))"
    file = written(tmp_path, code)
    found = [
        trioflow("list", "--paths", file, "--only", each).stdout.split()
        for each in ("eu/db", r"eu\/db", "eu/d?")
    ]
    assert found == [["eu", "eu/db"], [r"eu\/db"], ["eu", "eu/db", r"eu\/db"]]


def test_pattern_without_a_match_is_a_usage_error(tmp_path: Path) -> None:
    said = refused("run", "--no-monitor", written(tmp_path, CODE), "--only", "fetchb")
    assert "'fetchb'; do you mean 'fetch b'?" in said
    assert "list --paths" in said
