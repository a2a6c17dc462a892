"""`trioflow check`: all faults are reported at once, each with its job and a remedy."""

import itertools
import re
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import Job, JobTimeout, Pool, ProcessJob, Retry, Scheduler, Service
from trioflow._check import _find_cycles, findings
from trioflow.cli._inspection import group_findings
from ..bodies import give, idle, nothing, serve
from .command_line import process, refused, trioflow, written


def found(scheduler: Scheduler) -> list[str]:
    return [f"{job.label}: {text}" for job, text in findings(scheduler)]


def only(scheduler: Scheduler) -> str:
    (line,) = found(scheduler)
    return line


def test_check_finds_nothing_in_a_sound_scenario() -> None:
    """A sound scenario with a service, an alarm, a forever job, a nested scheduler and timeouts has no findings."""
    a = Job(nothing, label="a")
    database = Service(serve, label="database")
    scheduler = Scheduler(a, database, Job(nothing, forever=True), timeout=60)
    inner = Scheduler(
        Job(give, a),
        timeout=5,
        retry=Retry(2, first=0, on=JobTimeout),
        required=database,
        scheduler=scheduler,
    )
    scheduler.add(Job(nothing, label="alarm", required=inner, run_if="failed"))
    assert found(scheduler) == []
    assert scheduler.is_runnable()


def test_check_reports_all_faults_at_any_depth_together() -> None:
    """`check` reports cycles, missing requirements and other faults at any depth; a run stops at the first."""
    a, b, c, d, e, f = (idle(label) for label in "abcdef")
    a.requires(b)
    b.requires(a)
    c.requires(d)
    d.requires(c)
    e.requires(stray := idle("stray"), forever := idle("forever", forever=True))
    once = Job(nothing(), label="once", retry=1)
    inner = Scheduler(c, d, once, label="inner")
    again = Scheduler(Job(nothing(), label="twice"), label="again", retry=1)
    scheduler = Scheduler(a, b, e, inner, forever, f, again, pool_inside_and_outside())
    *lines, last = found(scheduler)
    assert "share a pool" in last, last
    assert [re.sub(r"(cycle|'\w+' (?:(?:in '\w+' )?requires|was)).*", r"\1", line) for line in lines] == [
        "a: cycle", "e: 'e' in 'Scheduler' requires", "e: 'e' requires", "c: cycle", "once: 'once' was",
        "twice: 'twice' was",
    ]  # fmt: skip
    assert all(
        name in " ".join(lines)
        for name in ("stray", "'forever'", "sanitize()", "Service", "Job(function")
    )
    assert stray.scheduler is None
    scheduler.close()


def test_check_reports_one_cycle_for_each_strongly_connected_component() -> None:
    jobs = [idle(str(n)) for n in range(10)]
    for n, requirement in (
        (0, 1),
        (1, 2),
        (2, 0),
        (1, 0),
        (3, 2),
        (4, 5),
        (5, 4),
        (4, 3),
    ):
        jobs[n].requires(jobs[requirement])
    for n, requirement in ((6, 7), (7, 6), (8, 9), (9, 8), (6, 8), (8, 6)):
        jobs[n].requires(jobs[requirement])
    lines = found(Scheduler(jobs))
    assert len(lines) == 3
    assert [re.findall(r"\d", line.partition("none of")[0]) for line in lines] == [
        list("00120"),
        list("4454"),
        list("6676"),
    ]


def test_check_finds_a_cycle_through_inputs_of_nested_jobs() -> None:
    a, b = Job(nothing, label="a"), Job(nothing, label="b")
    one, two = Scheduler(a, label="one"), Scheduler(b, label="two")
    one.add(Job(give, b))
    two.add(Job(give, a))
    assert re.match("(one|two): cycle: ", only(Scheduler(one, two)))


def test_check_rejects_an_input_outside_the_checked_scheduler() -> None:
    outside = Job(nothing, label="outside")
    scheduler = Scheduler(outside)
    inner = Scheduler(
        Job(give, outside, label="user"), label="inner", scheduler=scheduler
    )
    assert re.match("user: 'user' uses the result of 'outside'", only(inner))
    assert not inner.is_runnable()


def test_check_rejects_a_closed_scheduler() -> None:
    scheduler = Scheduler(idle("a"), label="all")
    scheduler.close()
    assert re.match("all: 'all' is closed", only(scheduler))


def group_in_a_pool(*needs: str, **options: Any) -> Scheduler:
    group = Scheduler(
        idle("x", needs=dict.fromkeys(needs, 1)), needs={"a": 1}, **options
    )
    return Scheduler(group, pool=Pool(a=1, b=1))


def pool_inside_and_outside() -> Scheduler:
    """Return a scheduler whose pool is used inside a group that keeps some of its resources, and outside."""
    pool = Pool(b=1)
    return Scheduler(group_in_a_pool("b", pool=pool), Scheduler(idle("y"), pool=pool))


REJECTED_BY_RUN: dict[str, Callable[[], Scheduler]] = {
    "no pool": lambda: Scheduler(idle("a"), Scheduler(idle("b", needs={"gpu": 1}))),
    "more than the pool has": lambda: Scheduler(
        idle("a", needs={"gpu": 3}), pool=Pool(gpu=2)
    ),
    "more than the group has": lambda: Scheduler(
        Scheduler(idle("a", needs={"gpu": 2}), needs={"gpu": 1}), pool=Pool(gpu=2)
    ),
    "a group that needs too much": lambda: Scheduler(
        Scheduler(idle("a"), needs={"gpu": 3}), pool=Pool(gpu=2)
    ),
    "a resource that the group does not need": lambda: group_in_a_pool("b"),
    "a pool inside and outside": pool_inside_and_outside,
    "a pool that a service keeps empty": lambda: Scheduler(
        Service(serve, 1, label="s", needs={"gpu": 1}),
        idle("x", needs={"gpu": 1}),
        pool=Pool(gpu=1),
    ),
    "an option that the executor does not support": lambda: Scheduler(
        ProcessJob(print, memory_limit=1), processes=futures.ThreadPoolExecutor(1)
    ),
}


@pytest.mark.parametrize("case", REJECTED_BY_RUN)
def test_check_reports_what_a_run_would_reject(case: str) -> None:
    scheduler = REJECTED_BY_RUN[case]()
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  # its text is compared below
        scheduler.run()
    ((_, text),) = findings(scheduler)
    assert text == str(refusal.value)
    assert not scheduler.is_runnable()


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_each_set_of_jobs_that_wait_for_each_other_has_one_cycle(
    pairs: list[tuple[int, int]],
) -> None:
    """In any graph, `check` finds exactly one cycle for each strongly connected component of two or more jobs."""
    jobs = [idle(str(number)) for number in range(8)]
    edges = {
        number: {other for one, other in pairs if one == number != other}
        for number in range(8)
    }
    for number, others in edges.items():
        jobs[number].requires([jobs[other] for other in others])
    reach = {number: {number} for number in edges}
    for _ in range(8):
        for number in edges:
            reach[number].update(*(reach[other] for other in edges[number]))
    together = {
        frozenset(other for other in reach[number] if number in reach[other])
        for number in edges
    }
    cycles = [
        [jobs.index(job) for job in cycle] for cycle in _find_cycles(Scheduler(jobs))
    ]
    assert all(
        number in edges[cycle[place - 1]]
        for cycle in cycles
        for place, number in enumerate(cycle)
    )
    sets = [
        next(members for members in together if members >= {*cycle}) for cycle in cycles
    ]
    assert sorted(map(sorted, sets)) == sorted(
        sorted(members) for members in together if len(members) > 1
    )


# --- the command
def test_findings_are_printed_and_counted(tmp_path: Path) -> None:
    """`check` prints a line with the path of the job for each finding, then their number, and exits with code 1."""
    code = """
    stray = Job(work, label="stray")
    a = Job(work, label="a", required=stray)
    x = Scheduler(a, Scheduler(Job(work, label="b", needs={"gpu": 1}), label="in"))
    """
    done = trioflow("check", written(tmp_path, code))
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith(
        "a: 'a' in 'Scheduler' requires 'stray', which is in no scheduler"
    )
    assert lines[1].startswith("in/b: 'b' needs")
    assert (
        lines[2] == "2 jobs: 2 findings"
    )  # nested schedulers are not counted, as after a run


PARTS = """\
build = Job(work, label="build")
train = Job(work, label="train", needs={"gpu": 1})
first = Job(work, label="first", writes="model")
second = Job(work, label="second", writes="model")
prepare = Job(work, label="prepare", reads="missing")
pack = Job(work, label="pack", required=prepare)
flow = Scheduler(build, train, first, second, prepare, pack)
"""


def test_a_selected_part_is_judged_by_its_own_mistakes(tmp_path: Path) -> None:
    """What another job needs once kept `run --only` from a part without it, and `check --only` listed nothing."""
    file = written(tmp_path, PARTS)
    for part in ("build", "first", "second", "pack"):
        assert (
            trioflow("check", file, "--only", part).stdout == "1 job: nothing found\n"
        )
        assert f"<Job {part}>" in trioflow("list", file, "--only", part).stdout
    assert trioflow("run", file, "--no-monitor", "--only", "build").exit_code == 0
    done = trioflow("check", file, "--only", "train", "--only", "pack")
    assert done.stdout.startswith("train: 'train' needs gpu=1")
    assert (done.stdout.splitlines()[-1], done.exit_code) == ("2 jobs: 1 finding", 1)
    done = trioflow("check", file, "--only", "first", "--only", "second")
    assert "both write 'model'" in done.stdout


def test_a_missing_requirement_is_found_in_a_selected_part_too(tmp_path: Path) -> None:
    text = 'lost = Job(work, label="lost")\nuser = Job(work, label="user", required=lost)\n'
    file = written(tmp_path, f'{text}flow = Scheduler(user, Job(work, label="other"))')
    assert "'user' in 'Scheduler' requires 'lost'" in refused(
        "run", file, "--only", "user"
    )


@pytest.mark.parametrize("only", [(), ("--only", "prepare"), ("--only", "p*")])
def test_a_file_that_is_missing_is_told_once(
    tmp_path: Path, only: tuple[str, ...]
) -> None:
    """The log once said it, too: once before the note of `check`, and twice in `run --only`."""
    text = PARTS.replace(
        "flow = Scheduler(build, train, first, second, ", "flow = Scheduler("
    )
    file = written(tmp_path, text)
    said = "'prepare' reads 'missing', which is not there and which no job writes"
    done = process("check", file, *only, cwd=tmp_path)
    assert (done.stdout.splitlines()[0], done.stderr) == (f"note: {said}", "")
    done = process("run", "--no-monitor", file, *only, cwd=tmp_path)
    assert done.stderr.count(said) == 1
    done = process("list", file, *only, cwd=tmp_path)
    assert done.stderr == ""


def test_notes_are_printed_and_do_not_count(tmp_path: Path) -> None:
    """Notes come before the number of findings; they are none, and do not change the exit code."""
    text = "x = Scheduler(Job(work), Job(work), Scheduler(*(Job(work) for _ in range(5))), jobs_window=2)"
    done = trioflow("check", written(tmp_path, text))
    first, last = done.stdout.splitlines()
    assert (done.exit_code, last) == (0, "7 jobs: nothing else found")
    assert first.startswith("note: 6 may run at once")


def test_twenty_thousand_jobs_are_checked() -> None:
    """Checking a chain of 20,000 jobs ends within the time limit of a test: no step takes quadratic time."""
    jobs = [idle(str(n)) for n in range(20_000)]
    for before, after in itertools.pairwise(jobs):
        after.requires(before)
    jobs[0].requires(jobs[1])
    assert len(found(Scheduler(jobs))) == 1


def test_check_groups_equal_findings(tmp_path: Path) -> None:
    """Equal findings are printed once, with the names of the first jobs, and all of them are counted."""
    code = """
    def scenario():
        return Scheduler(Job(work, label=f"job {n}", needs={"gpu": 1}) for n in range(51))
    """
    lines = trioflow("check", written(tmp_path, code)).stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("job 0: ")
    assert (
        lines[1]
        == "  the same for 50 more jobs: job 1, job 2, job 3, job 4, job 5 and 45 more"
    )
    assert lines[2] == "51 jobs: 51 findings"


def test_check_counts_a_first_once(tmp_path: Path) -> None:
    code = (
        "from trioflow import First, Job, Scheduler\nasync def ask(): ...\n"
        "s = Scheduler([First(Job(ask, label='ask'), Job(ask, label='hedge'), stagger=1) for _ in range(3)])\n"
    )
    assert (
        trioflow("check", written(tmp_path, code)).stdout == "3 jobs: nothing found\n"
    )


@pytest.mark.parametrize(
    ("options", "inner", "said"),
    [
        (
            "jobs_window=3",
            "",
            "24 may run at once: jobs_window=3 counts a nested scheduler as one; ",
        ),
        (
            "jobs_window=3",
            "jobs_window=2",
            "6 may run at once: jobs_window=3 counts a nested scheduler as one; ",
        ),
        ("jobs_window=3", "jobs_window=1", None),
        ("jobs_window=anyio.CapacityLimiter(3)", "", None),
        ("", "", None),
    ],
)
def test_check_counts_where_a_window_counts_groups(
    tmp_path: Path, options: str, inner: str, said: str | None
) -> None:
    code = f"x = Scheduler([Scheduler([Job(work) for _ in range(8)], {inner}) for _ in range(4)], {options})"
    done = trioflow("check", written(tmp_path, code))
    shown = [line for line in done.stdout.splitlines() if "at once" in line]
    assert shown == (
        []
        if said is None
        else [f"note: {said}a CapacityLimiter counts the jobs that work"]
    )
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("inner", "most"), [("", 8), ("jobs_window=anyio.CapacityLimiter(5)", 5)]
)
def test_the_jobs_of_a_first_run_at_once(tmp_path: Path, inner: str, most: int) -> None:
    """A window counts a `First` as one, whose jobs run at once, and each takes a token of a limiter around them."""
    code = f"x = Scheduler(Scheduler([First([Job(work) for _ in range(4)]) for _ in range(2)], {inner}), jobs_window=1)"
    done = trioflow("check", written(tmp_path, code))
    assert done.stdout.startswith(
        f"note: {most} may run at once: jobs_window=1 counts a nested scheduler as one; "
    )


def test_jobs_of_a_group_that_require_jobs_of_another_are_one_line(
    tmp_path: Path,
) -> None:
    text = """
from trioflow import Job, Scheduler
async def give(): pass
first = [Job(give, label=f"a{n}") for n in range(8)]
second = [Job(give, label=f"b{n}", required=first[n % 8]) for n in range(24)]
flow = Scheduler(Scheduler(first, label="first"), Scheduler(second, label="second"))
"""
    (tmp_path / "flow.py").write_text(text)
    first, others, count = trioflow("check", tmp_path / "flow.py").output.splitlines()
    assert (
        "let 'second' require 'first', pass 'a0' as an argument of 'b0', or drop the requirement"
        in first
    )
    assert others.startswith("  the same for 23 more jobs: second/b1, ")
    assert count == "32 jobs: 24 findings"


def test_only_findings_that_differ_in_labels_of_jobs_are_one() -> None:
    a, b = idle("a"), idle("b")
    texts = [
        (a, "'a' needs 'gpu'"),
        (b, "'b' needs 'gpu'"),
        (b, "'b' needs 'cpu'"),
        (a, "'a' uses 'gpu'"),
        (a, "'b' needs 'gpu'"),
    ]
    assert group_findings(texts, Scheduler(a, b)) == [
        ("'a' needs 'gpu'", [a, b, a]),
        ("'b' needs 'cpu'", [b]),
        ("'a' uses 'gpu'", [a]),
    ]
