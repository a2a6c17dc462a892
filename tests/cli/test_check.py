"""`trioflow check`: all faults are reported at once, each with its job and a remedy."""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow import (
    CommandJob,
    CommandService,
    Job,
    JobState,
    JobTimeout,
    Pool,
    PortOpen,
    ProcessJob,
    Pull,
    Push,
    Retry,
    Scheduler,
    Service,
    SshJob,
    ref,
)
from trioflow.check._findings import Severity, _find_cycles, findings
from trioflow.testing import run_virtual

from ..bodies import idle, nothing, refuse, serve, take
from .command_line import trioflow, written


def found(scheduler: Scheduler, severity: Severity | None = None) -> list[str]:
    """Return the findings, one line each: severity, label, text."""
    chosen = (one for one in findings(scheduler) if severity in (None, one.severity))
    return [f"{one.severity.value}: {one.job.label}: {one.text}" for one in chosen]


def only(scheduler: Scheduler) -> str:
    """Return the only finding."""
    (line,) = found(scheduler)
    return line


# --- rejected


def test_check_finds_nothing_in_a_sound_scenario() -> None:
    """A sound scenario with a service, an alarm, a forever job, a nested scheduler and timeouts has no findings."""
    a = Job(nothing, label="a")
    database = Service(serve, label="database")
    scheduler = Scheduler(a, database, Job(nothing, forever=True), timeout=60)
    inner = Scheduler(
        Job(nothing, a), timeout=5, retry=Retry(2, first=0, on=JobTimeout), required=database, scheduler=scheduler
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
    *lines, last = found(scheduler, Severity.REJECTED)
    assert "share a pool" in last, last
    assert [re.sub(r"(cycle|'\w+' (?:(?:in '\w+' )?requires|was)).*", r"\1", line) for line in lines] == [
        "rejected: a: cycle",
        "rejected: e: 'e' in 'Scheduler' requires",
        "rejected: e: 'e' requires",
        "rejected: c: cycle",
        "rejected: once: 'once' was",
        "rejected: twice: 'twice' was",
    ]
    assert all(name in " ".join(lines) for name in ("stray", "'forever'", "sanitize()", "Service", "Job(function"))
    assert stray.scheduler is None
    scheduler.close()


def test_check_reports_one_cycle_for_each_strongly_connected_component() -> None:
    """If several jobs wait for each other, `check` reports one cycle, without jobs that merely wait for them."""
    jobs = [idle(str(n)) for n in range(6)]
    for n, requirement in ((0, 1), (1, 2), (2, 0), (1, 0), (3, 2), (4, 5), (5, 4), (4, 3)):
        jobs[n].requires(jobs[requirement])
    lines = found(Scheduler(jobs))
    assert len(lines) == 2
    assert [re.findall(r"\d", line.partition("none of")[0]) for line in lines] == [list("00120"), list("4454")]


def test_check_finds_a_cycle_through_inputs_of_nested_jobs() -> None:
    """If jobs use results of each other's nested schedulers, these schedulers wait for each other in a cycle."""
    a, b = Job(nothing, label="a"), Job(nothing, label="b")
    one, two = Scheduler(a, label="one"), Scheduler(b, label="two")
    one.add(Job(nothing, b))
    two.add(Job(nothing, a))
    assert re.match("rejected: (one|two): cycle: ", only(Scheduler(one, two)))


def test_check_rejects_an_input_outside_the_checked_scheduler() -> None:
    """A nested scheduler is rejected on its own if one of its jobs uses the result of a job outside."""
    outside = Job(nothing, label="outside")
    scheduler = Scheduler(outside)
    inner = Scheduler(Job(nothing, outside, label="user"), label="inner", scheduler=scheduler)
    assert re.match("rejected: user: 'user' uses the result of 'outside'", only(inner))
    assert not inner.is_runnable()


def test_check_rejects_a_closed_scheduler() -> None:
    """`check` reports that a closed scheduler cannot run."""
    scheduler = Scheduler(idle("a"), label="all")
    scheduler.close()
    assert re.match("rejected: all: 'all' is closed", only(scheduler))


def group_in_a_pool(*needs: str, **options: Any) -> Scheduler:
    """Return a scheduler with a group that keeps `a` of its pool, and whose member has these needs."""
    group = Scheduler(idle("x", needs=dict.fromkeys(needs, 1)), needs={"a": 1}, **options)
    return Scheduler(group, pool=Pool(a=1, b=1))


def pool_inside_and_outside() -> Scheduler:
    """Return a scheduler whose pool is used inside a group that keeps some of its resources, and outside."""
    pool = Pool(b=1)
    return Scheduler(group_in_a_pool("b", pool=pool), Scheduler(idle("y"), pool=pool))


REJECTED_BY_RUN: dict[str, Callable[[], Scheduler]] = {
    "no pool": lambda: Scheduler(idle("a"), Scheduler(idle("b", needs={"gpu": 1}))),
    "more than the pool has": lambda: Scheduler(idle("a", needs={"gpu": 3}), pool=Pool(gpu=2)),
    "more than the group has": lambda: Scheduler(
        Scheduler(idle("a", needs={"gpu": 2}), needs={"gpu": 1}), pool=Pool(gpu=2)
    ),
    "a group that needs too much": lambda: Scheduler(Scheduler(idle("a"), needs={"gpu": 3}), pool=Pool(gpu=2)),
    "a resource that the group does not need": lambda: group_in_a_pool("b"),
    "a pool inside and outside": pool_inside_and_outside,
    "a pool that a service keeps empty": lambda: Scheduler(
        Service(serve, 1, label="s", needs={"gpu": 1}), idle("x", needs={"gpu": 1}), pool=Pool(gpu=1)
    ),
    "an option that the executor does not support": lambda: Scheduler(
        ProcessJob(print, memory_limit=1), processes=futures.ThreadPoolExecutor(1)
    ),
}


@pytest.mark.parametrize("case", REJECTED_BY_RUN)
def test_check_reports_what_a_run_would_reject(case: str) -> None:
    """If `run()` would raise, `check` reports the fault in the same words."""
    scheduler = REJECTED_BY_RUN[case]()
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  # its text is compared below
        scheduler.run()
    (finding,) = findings(scheduler)
    assert (finding.severity, finding.text) == (Severity.REJECTED, str(refusal.value))
    assert not scheduler.is_runnable()


def test_check_reports_every_job_whose_needs_cannot_be_met() -> None:
    """A run raises at the first job whose needs exceed its pools; `check` lists all."""
    lines = found(Scheduler((idle(label, needs={"gpu": 1}) for label in "ab"), idle("c")))
    assert [line.partition(" needs")[0] for line in lines] == ["rejected: a: 'a'", "rejected: b: 'b'"]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_each_set_of_jobs_that_wait_for_each_other_has_one_cycle(pairs: list[tuple[int, int]]) -> None:
    """In any graph, `check` finds exactly one cycle for each strongly connected component of two or more jobs."""
    jobs = [idle(str(number)) for number in range(8)]
    edges = {number: {other for one, other in pairs if one == number != other} for number in range(8)}
    for number, others in edges.items():
        jobs[number].requires([jobs[other] for other in others])
    reach = {number: {number} for number in edges}
    for _ in range(8):
        for number in edges:
            reach[number].update(*(reach[other] for other in edges[number]))
    together = {frozenset(other for other in reach[number] if number in reach[other]) for number in edges}
    cycles = [[jobs.index(job) for job in cycle] for cycle in _find_cycles(Scheduler(jobs))]
    assert all(number in edges[cycle[place - 1]] for cycle in cycles for place, number in enumerate(cycle))
    sets = [next(members for members in together if members >= {*cycle}) for cycle in cycles]
    assert sorted(map(sorted, sets)) == sorted(sorted(members) for members in together if len(members) > 1)


# --- never runs


def test_check_reports_an_alarm_without_requirements() -> None:
    """A job with run_if='failed' that requires nothing never runs: it is always SKIPPED."""
    assert re.match(
        "never runs: alarm: run_if='failed', but it requires nothing", only(Scheduler(idle("alarm", run_if="failed")))
    )


def test_check_reports_an_alarm_whose_requirements_are_all_inputs() -> None:
    """A job with run_if='failed' never runs if all it requires are inputs: their failure makes it BLOCKED."""
    work = Job(nothing, label="work")
    alarm = Job(nothing, work, label="alarm", run_if="failed")
    assert only(Scheduler(work, alarm)) == (
        "never runs: alarm: it runs only if 'work' fails, but also takes its result: pass ref(work), with required=work"
    )
    work = Job(nothing, label="work")
    half = Job(nothing, work, label="half-done")
    alarm = Job(nothing, half, label="alarm", run_if="failed", required=work)
    assert only(Scheduler(work, half, alarm)) == (
        "never runs: alarm: it runs only if one of 'half-done', 'work' fails, but takes the result of 'half-done': "
        "pass ref(job), with required=job"
    )
    other = Job(nothing, label="other")
    assert found(Scheduler(other, Job(nothing, ref(other), run_if="failed", required=other))) == []


def test_check_reports_a_job_that_needs_the_success_of_a_job_and_of_its_alarm() -> None:
    """A job that needs both the success of a job and that of the alarm for its failure can never run."""
    work = idle("work")
    alarm = idle("alarm", run_if="failed", required=work)
    report = Job(take, ref(work), work, alarm, label="report")
    line = only(Scheduler(work, alarm, report))
    assert re.match("never runs: report: .*success of 'alarm'.*only if 'work' failed.*run_if='settled'", line)


def test_check_reports_jobs_that_need_the_result_of_a_job_that_never_runs() -> None:
    """A job that uses the result of a job that never runs, or requires nothing but it, is reported."""
    alarm = Job(nothing, label="alarm", run_if="failed")
    user = Job(nothing, alarm, label="user")
    waits = idle("waits", required=user)
    lines = found(Scheduler(alarm, user, waits))
    assert [line.split(":")[1] for line in lines] == [" alarm", " user", " waits"]
    assert "'alarm' never runs" in lines[1]


def test_check_reports_an_alarm_for_a_job_that_never_runs() -> None:
    """A job that is always SKIPPED never fails, so a job that is to run at its failure never runs."""
    first = idle("first", run_if="failed")
    lines = found(Scheduler(first, idle("second", run_if="failed", required=first)))
    assert re.match("never runs: second: run_if='failed', but what it requires never runs", lines[1])


RULED = st.lists(
    st.tuples(
        st.sampled_from(["settled", "succeeded", "failed"]),
        st.sets(st.integers(0, 4), max_size=3),  # required
        st.sets(st.integers(0, 4), max_size=1),  # inputs
    ),
    min_size=1,
    max_size=5,
)


def built(shape: Any, failing: tuple[bool, ...]) -> list[Job[Any]]:
    """Build jobs by `shape`, each of which requires and uses only earlier ones; some fail if they run."""
    jobs: list[Job[Any]] = []
    for (rule, required, inputs), fails in zip(shape, failing, strict=True):
        given = [jobs[n] for n in sorted(inputs) if n < len(jobs)]
        order = [jobs[n] for n in sorted(required) if n < len(jobs)]
        body: Callable[..., Any] = refuse if fails else take
        jobs.append(Job(body, *given, run_if=rule, required=order))
    return jobs


@given(RULED)
def test_jobs_reported_as_never_running_do_not_run_whichever_jobs_fail(shape: Any) -> None:
    """Whichever jobs fail, those reported as never running do not run; with at most one alarm, all others may run."""
    jobs = built(shape, (False,) * len(shape))
    scheduler = Scheduler(jobs)
    said = {jobs.index(one.job) for one in findings(scheduler) if one.severity is Severity.NEVER_RUNS}  # type: ignore[arg-type]
    ran: set[int] = set()
    for failing in itertools.product((False, True), repeat=len(shape)):
        run_virtual(Scheduler(trial := built(shape, failing)).co_run)
        ran |= {n for n, job in enumerate(trial) if job.state in (JobState.SUCCEEDED, JobState.FAILED)}
    assert not said & ran
    if sum(job.run_if == "failed" for job in jobs) < 2:
        assert said | ran == set(range(len(jobs)))


# --- suspicious

SUSPICIOUS: dict[str, tuple[str, Callable[[], Scheduler]]] = {
    "no jobs": ("all: it has no jobs", lambda: Scheduler(label="all")),
    "nested scheduler without jobs": ("in: it has no jobs", lambda: Scheduler(Scheduler(label="in"))),
    "only forever jobs": (
        "all: all its jobs are forever jobs, and it has no timeout",
        lambda: Scheduler(idle("a", forever=True), label="all"),
    ),
    "options of the outermost scheduler": (
        "all: forever and retry of the outermost scheduler have no effect",
        lambda: Scheduler(idle("a"), label="all", forever=True, retry=1),
    ),
    "condition without requirements": (
        "a: run_if='settled' without requirements",
        lambda: Scheduler(idle("a", run_if="settled")),
    ),
    "condition of a group that never fails": (
        "alarm: run_if='failed', but no failure in 'objects' counts as one of 'objects'",
        lambda: Scheduler(
            s := Scheduler(idle("a"), label="objects", critical_jobs=False), idle("alarm", run_if="failed", required=s)
        ),
    ),
    "timeout within a shorter one": (
        "a: its timeout of 5 s never expires: 'all' ends everything after 2 s",
        lambda: Scheduler(Scheduler(idle("a", timeout=5)), timeout=2, label="all"),
    ),
    "idle_timeout that is not below the timeout": (
        "a: its idle_timeout of 9 s never expires",
        lambda: Scheduler(idle("a", timeout=9, idle_timeout=9)),
    ),
    "forever job after all others": (
        "watch: it is a forever job, but waits for all jobs that are not",
        lambda: Scheduler(a := idle("a"), idle("watch", forever=True, required=a)),
    ),
}


@pytest.mark.parametrize("options", [{"critical_jobs": True}, {"timeout": 5}])
def test_check_accepts_a_condition_on_a_group_that_may_fail(options: dict[str, Any]) -> None:
    """A condition on a group is accepted if the group may fail, because of critical jobs or a timeout."""
    group = Scheduler(idle("a"), label="objects", **options)
    assert found(Scheduler(group, idle("link", run_if="succeeded", required=group))) == []


def test_check_accepts_a_forever_scheduler_of_forever_jobs() -> None:
    """A forever scheduler of forever jobs is accepted, because it ends with the jobs around it."""
    watch = Scheduler(idle("watch", forever=True), label="watches", forever=True)
    assert found(Scheduler(idle("a"), watch)) == []


@pytest.mark.parametrize("case", SUSPICIOUS)
def test_check_reports_suspicious_jobs_with_a_remedy(case: str) -> None:
    """`check` gives advice about settings that are probably unintended, although a run with them would start."""
    text, make = SUSPICIOUS[case]
    scheduler = make()
    assert only(scheduler).startswith(f"suspicious: {text}")
    assert re.search(r"[:;] \w+ .*(it|two|end|too|leave|some|job|meant|timeout)", only(scheduler))
    assert scheduler.is_runnable()


# --- the command


def test_findings_are_printed_and_counted(tmp_path: Path) -> None:
    """`check` prints a line with severity and path for each finding, then their number, and exits with code 1."""
    code = """
    alarm = Job(work, label="alarm", run_if="failed")
    a = Job(work, label="a", required=Job(work, label="stray"))
    x = Scheduler(a, Scheduler(alarm, label="in"))
    """
    done = trioflow("check", written(tmp_path, code))
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert re.match(r"rejected    a: 'a' in 'Scheduler' requires 'stray', which is in no scheduler", lines[0])
    assert re.match(r"never runs  in/alarm: run_if='failed'", lines[1])
    assert lines[2] == "2 jobs: 2 findings"  # nested schedulers are not counted, as after a run


def test_check_for_a_journal_reports_a_job_that_takes_no_result_of_its_requirement() -> None:
    """A journal cannot see a result that a closure reads, so `check` reports a requirement without an input. A version,
    a key, save=None or a reference avoids the finding.
    """
    group = Scheduler(member := Job(nothing, label="member"), label="group")
    jobs = [
        Job(nothing, required=group, label="unseen"),
        Job(nothing, required=group, label="with a version", version=1),
        Job(nothing, required=group, label="with a key", key="k"),
        Job(nothing, required=group, label="not kept", save=None),
        Job(take, {"member": [ref(member)]}, required=group, label="with a reference"),
    ]
    scheduler = Scheduler(group, jobs)
    assert found(scheduler) == []
    (finding,) = findings(scheduler, journal=True)
    assert (finding.severity, finding.job) == (Severity.SUSPICIOUS, jobs[0])
    assert finding.text.startswith("it requires 'group' but takes no result as input")


def test_check_for_a_journal_reports_a_command_that_names_nothing_it_reads() -> None:
    """A command that names no result and no files is reported, on this machine and on a node, but no Pull alone, which
    always runs.
    """
    first = CommandJob(["make"], label="first", stdout=subprocess.PIPE)
    hidden = [
        CommandJob(["./program"], required=first),
        SshJob("node1", "./program", required=first),
        SshJob("node1", [Push("program", to="bin/"), "bin/program"], required=first),
    ]
    others = [
        CommandJob(["./program"], required=first, reads=["program"]),
        CommandJob(["./program", first]),
        CommandJob(["./program"], stdin=first),
        CommandJob(["./program"], required=first, version=1),
        SshJob("node1", "./program {name}", values={"name": first}),
        SshJob("node1", Push("program", to="bin/"), required=first),
        SshJob("node1", Pull("results", to="results"), required=first),
        SshJob("node1", "./program", required=first, save=None),
        CommandService(["./server"], required=first, ready=PortOpen(1)),
    ]
    scheduler = Scheduler(first, hidden, others)
    assert found(scheduler) == []
    assert [finding.job for finding in findings(scheduler, journal=True)] == hidden


def test_check_with_the_journal_option_adds_findings_about_journals(tmp_path: Path) -> None:
    """Only with `--journal` does `check` report what may go wrong in runs that have a journal."""
    lines = [
        "from trioflow import Job, Scheduler",
        "async def f(): pass",
        "a = Job(f)",
        "s = Scheduler(a, Job(f, required=a))",
    ]
    file = written(tmp_path, "\n".join(lines))
    assert "nothing found" in trioflow("check", file).stdout
    assert "takes no result as input" in trioflow("check", "--journal", file).stdout


def test_check_of_a_sound_scenario_gives_exit_code_0(tmp_path: Path) -> None:
    """For a sound scenario, `check` prints one line: the number of jobs, and that nothing was found."""
    done = trioflow("check", written(tmp_path, "x = Scheduler(Job(work))"))
    assert (done.exit_code, done.stdout) == (0, "1 job: nothing found\n")


def test_twenty_thousand_jobs_are_checked() -> None:
    """Checking a chain of 20,000 jobs ends within the time limit of a test: no step takes quadratic time."""
    jobs = [idle(str(n), run_if="succeeded") for n in range(20_000)]
    for before, after in itertools.pairwise(jobs):
        after.requires(before)
    jobs[0].requires(jobs[1])
    assert len(found(Scheduler(jobs))) == 1


def test_check_groups_equal_findings(tmp_path: Path) -> None:
    """Equal findings are printed once, with the names of the first jobs, and all of them are counted."""
    code = """
    def scenario():
        return Scheduler(*(Job(work, label=f"job {n}", timeout=60) for n in range(51)), timeout=5)
    """
    lines = trioflow("check", written(tmp_path, code)).stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("suspicious  job 0: ")
    assert lines[1] == f"{'':<11} the same for 50 more jobs: job 1, job 2, job 3, job 4, job 5 and 45 more"
    assert lines[2] == "51 jobs: 51 findings"


def test_check_counts_a_first_once(tmp_path: Path) -> None:
    """The number of jobs is that of a run: a `First` of a call and its hedge is one job."""
    code = (
        "from trioflow import First, Job, Scheduler\nasync def ask(): ...\n"
        "s = Scheduler([First(Job(ask, label='ask'), Job(ask, label='hedge'), stagger=1) for _ in range(3)])\n"
    )
    assert trioflow("check", written(tmp_path, code)).stdout == "3 jobs: nothing found\n"
