"""Which of several ready jobs starts first: policies, priorities, ranks that follow a scenario, order of starts."""

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any, get_args
import anyio
import pytest
from trioflow import (
    AbstractJob,
    First,
    Job,
    JobState,
    Pool,
    Scheduler,
    Sequence,
    current_job,
)
from trioflow._core.admission._policies import (
    BUILTIN_POLICIES,
    PolicyName,
    median_duration,
)
from trioflow._core.base._graph_algorithms import (
    chunks_with_pauses,
    fill_longest_path_lengths,
)
from trioflow._core.run import _worker
from trioflow.testing import run_virtual
from ..bodies import at_once, fail, hooked, nap, pass_time, running, take
from ..conftest import Virtual


class Starts:
    """A maker of jobs that write down their labels when they start."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    async def _note(self, seconds: float = 0) -> None:
        self.labels.append(current_job().label)
        await anyio.sleep(seconds)

    def job(
        self, label: str, *required: AbstractJob[Any], **options: Any
    ) -> AbstractJob[Any]:
        return Job(self._note, label=label, required=list(required), **options)


@pytest.mark.parametrize("first", [False, True])
def test_auto_becomes_critical_path_with_the_first_expected_duration(
    first: bool,
) -> None:
    starts = Starts()
    a, b = starts.job("a"), starts.job("b")
    c = starts.job("c", b)
    last = starts.job("last", expected_duration=5.0 if first else None)

    async def add() -> None:
        if not first:
            scheduler.add(starts.job("late", c, expected_duration=5.0))

    scheduler = Scheduler(
        Job(add, expected_duration=99.0 if first else None),
        a,
        b,
        c,
        last,
        jobs_window=1,
    )
    assert scheduler.run()
    assert starts.labels == (
        ["b", "a", "c", "last"] if first else ["b", "c", "a", "last", "late"]
    )


@pytest.mark.parametrize("order", [(10, 5, 1), (1, 5, 10), (5, 10, 1)])
def test_the_longest_of_several_paths_counts_whatever_is_added_first(
    order: tuple[float, ...],
) -> None:
    starts = Starts()
    other, root = (
        starts.job("other", expected_duration=1),
        starts.job("root", expected_duration=1),
    )
    middle = starts.job("middle", root, expected_duration=1)
    paths = [
        starts.job(str(seconds), middle, expected_duration=seconds) for seconds in order
    ]
    rival = starts.job("rival", other, expected_duration=8)
    assert Scheduler(
        other, root, middle, *paths, rival, jobs_window=1, policy="critical-path"
    ).run()
    assert starts.labels == ["root", "middle", "10", "other", "rival", "5", "1"]


def test_auto_without_durations_is_fifo() -> None:
    """Under auto without any expected duration, jobs start in the order in which they became ready."""
    starts = Starts()
    b = starts.job("b")
    assert Scheduler(
        starts.job("a"), b, starts.job("c", b), starts.job("d"), jobs_window=1
    ).run()
    assert starts.labels == ["a", "b", "d", "c"]


def test_a_nested_scheduler_counts_as_long_as_its_longest_path() -> None:
    starts = Starts()
    inner = Scheduler(
        Sequence(
            starts.job("x", expected_duration=2.0),
            starts.job("y", expected_duration=3.0),
        ),
        label="inner",
    )
    assert Scheduler(starts.job("a", expected_duration=4.0), inner, jobs_window=1).run()
    assert starts.labels == ["x", "y", "a"]
    starts.labels.clear()
    inner.expected_duration = 3.5
    assert inner.scheduler is not None
    assert inner.scheduler.run()
    assert starts.labels == ["a", "x", "y"]


def test_rank_of_an_input_of_a_nested_job_includes_the_nested_scheduler() -> None:
    starts = Starts()
    long, before = (
        starts.job("long", expected_duration=5),
        starts.job("before", expected_duration=1),
    )
    scheduler = Scheduler(long, before, jobs_window=1)
    scheduler.add(Scheduler(Job(take, before, expected_duration=9)))
    assert scheduler.run()
    assert starts.labels == ["before", "long"]


def test_depth_first_starts_the_newest_ready_job_first() -> None:
    """Under depth-first, the newest ready jobs start first, and those that became ready together in the order added."""
    starts = Starts()
    a, b = starts.job("a"), starts.job("b")
    jobs = [a, b, starts.job("a1", a), starts.job("a2", a), starts.job("b1", b)]
    assert Scheduler(*jobs, jobs_window=1, policy="depth-first").run()
    assert starts.labels == ["a", "a1", "a2", "b", "b1"]


def test_depth_first_keeps_few_results_alive(virtual: Virtual) -> None:
    """100 chains of three, 4 at a time, hold at most 12 results at once; fifo holds those of all first jobs."""

    class Result:
        alive = most = 0

        def __init__(self) -> None:
            Result.alive += 1
            Result.most = max(Result.most, Result.alive)

        def __del__(self) -> None:
            Result.alive -= 1

    async def make(*_: Result) -> Result:
        await anyio.sleep(1)
        return Result()

    async def use(_: Result) -> None:
        await anyio.sleep(1)

    def most(policy: Any) -> int:
        scheduler = Scheduler(jobs_window=4, policy=policy)
        for _ in range(100):
            job = Job(make, keep_result=False)
            job = Job(make, job, keep_result=False)
            scheduler.add(Job(use, job))
        Result.most = 0
        assert virtual(scheduler.co_run)
        return Result.most

    assert most("depth-first") <= 12
    assert most("fifo") >= 100


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"priority": 1.5}, TypeError, r"priority=1.5 of 'x': give a whole number"),
        ({"priority": True}, TypeError, r"priority=True of 'x'"),
        (
            {"expected_duration": -1},
            ValueError,
            r"expected_duration=-1 of 'x': give a finite number of seconds",
        ),
        (
            {"expected_duration": float("nan")},
            ValueError,
            r"expected_duration=nan of 'x'",
        ),
        ({"expected_duration": "1"}, TypeError, r"expected_duration='1' of 'x'"),
    ],
)
def test_invalid_priority_or_expected_duration_is_rejected(
    options: Any, error: type[Exception], message: str
) -> None:
    """An invalid priority or duration raises an error that names option, value and job; the old value stays."""
    with pytest.raises(error, match=message):
        Job(anyio.sleep, 0, label="x", **options)
    job = Job(anyio.sleep, 0, label="x", priority=2, expected_duration=3)
    (name, value), *_ = options.items()
    with pytest.raises(error, match=message):
        setattr(job, name, value)
    assert (job.priority, job.expected_duration) == (2, 3)


def test_each_name_of_a_policy_has_its_policy() -> None:
    """The names that type checkers know are the built-in policies; "auto" computes ranks if durations are known."""
    assert tuple(BUILTIN_POLICIES) == get_args(PolicyName)
    ranked = {
        name: [policy.needs_ranks for policy in policies]
        for name, policies in BUILTIN_POLICIES.items()
    }
    assert ranked == {
        "auto": [False, True], "fifo": [False, False], "critical-path": [True, True], "depth-first": [False, False],
    }  # fmt: skip


def test_an_unknown_policy_is_rejected() -> None:
    with pytest.raises(
        ValueError,
        match="policy='lifo' of 's': choose one of auto, fifo, critical-path, depth-first",
    ):
        Scheduler(label="s", policy="lifo")  # type: ignore[arg-type]


def test_changing_a_priority_during_a_run_raises() -> None:
    """The priority of a job cannot change during a run, because a job that is queued already would not move."""

    job = Job(at_once, lambda: setattr(current_job(), "priority", 3), label="x")
    assert not Scheduler(job).run()
    assert "priority of 'x': not allowed while 'Scheduler' is running" in str(
        job.raised_exception()
    )


@pytest.mark.parametrize(
    ("known", "found"),
    [([], 1), ([3], 3), ([1, 4], 2.5), ([9, 2, 1], 2), ([9, 3, 2, 1], 2.5)],
)
def test_a_job_of_unknown_duration_takes_the_median(
    known: list[float], found: float
) -> None:
    assert median_duration(known) == found


def test_graph_algorithms_pause_after_each_full_chunk_of_nodes(
    many_pauses: None,
) -> None:
    found = [
        [(len(chunk), pause) for chunk, pause in chunks_with_pauses(range(number))]
        for number in (0, 9, 10, 25)
    ]
    assert found == [
        [(0, False)],
        [(9, False)],
        [(10, True)],
        [(10, True), (10, True), (5, False)],
    ]
    paths: dict[int, float] = {}
    pauses = list(
        fill_longest_path_lengths(
            [*range(25)], lambda node: [node - 1] if node else [], {}, 0.25, paths
        )
    )
    assert len(pauses) == 2
    assert [paths[node] for node in (0, 23, 24)] == [6.25, 0.5, 0.25]


@pytest.mark.parametrize("options", [{}, {"priority": 1}])
def test_the_first_duration_comes_with_jobs_that_are_added(
    virtual: Virtual, options: dict[str, Any]
) -> None:
    """With "auto", the critical path decides from then on, also where priorities have ordered the jobs before."""
    starts = Starts()
    scheduler = Scheduler(jobs_window=1)

    async def add() -> None:
        scheduler.update(
            [
                starts.job(name, expected_duration=time)
                for name, time in (("short", 1), ("long", 9))
            ]
        )

    scheduler.update([Job(add, **options), starts.job("unknown")])
    assert virtual(scheduler.co_run)
    assert starts.labels == ["long", "unknown", "short"]


@pytest.mark.parametrize("window", [1, 2, 5, None])
@pytest.mark.parametrize("needs", [{}, {"cpu": 1}])
def test_a_forever_job_starts_where_its_priority_puts_it(
    virtual: Virtual, window: int | None, needs: Any
) -> None:
    starts = Starts()
    jobs = [
        starts.job("low", needs=needs),
        starts.job("forever", priority=1, forever=True, needs=needs),
        starts.job("high", priority=2, needs=needs),
    ]
    assert virtual(Scheduler(*jobs, jobs_window=window, pool=Pool(cpu=9)).co_run)
    assert starts.labels == ["high", "forever", "low"]


def widen(scheduler: Scheduler, job: AbstractJob[Any]) -> None:
    scheduler.jobs_window = 2
    scheduler.jobs_window = 1


def pause_and_resume(scheduler: Scheduler, job: AbstractJob[Any]) -> None:
    scheduler.pause()
    scheduler.resume()


def add_one(scheduler: Scheduler, job: AbstractJob[Any]) -> None:
    scheduler.add(Job(nap, 1, priority=-2))


@pytest.mark.parametrize("is_entry", [False, True])
@pytest.mark.parametrize(
    "say",
    [lambda _, job: job.cancel(), add_one, widen, pause_and_resume],
    ids=["cancel", "add", "window", "resume"],
)
def test_a_word_said_as_jobs_become_ready_starts_none_before_one_of_higher_priority(
    virtual: Virtual, say: Callable[..., None], is_entry: bool
) -> None:
    """They become ready together: a function that was told of one once had others start before the last was ready."""
    starts = Starts()
    before = [] if is_entry else [starts.job("first")]
    jobs = [
        starts.job(label, *before, priority=priority)
        for label, priority in (("low", -1), ("told", 0), ("high", 1))
    ]

    def scheduled(scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        if job is jobs[1]:
            say(scheduler, job)

    watch = hooked(job_scheduled=scheduled)
    virtual(Scheduler(*before, *jobs, jobs_window=1, instruments=[watch]).co_run)
    labels = starts.labels[len(before) :]
    assert labels[0] == "high"
    assert labels[-1] == "low"


def explained_after_a_second(scheduler: Scheduler, job: AbstractJob[Any]) -> Any:
    async def main() -> str:
        async with running(scheduler, 1):
            return scheduler.explain(job)

    return main


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (
            "auto",
            "; before it comes 'b' (critical path: the longest path from 'a' takes 9 s)",
        ),
        ("fifo", ""),
    ],
)
def test_explain_has_the_reason_of_the_policy(
    virtual: Virtual, policy: PolicyName, why: str
) -> None:
    starts = Starts()
    first = Job(starts._note, 9, label="first", priority=1)
    a, b = starts.job("a", expected_duration=9), starts.job("b", expected_duration=10)
    scheduler = Scheduler(first, a, b, jobs_window=1, policy=policy)
    found = virtual(explained_after_a_second(scheduler, a))
    assert found == f"'a' waits for a slot: the window is full, with 'first'{why}"


def test_explain_names_priorities(virtual: Virtual) -> None:
    starts = Starts()
    a, b, c = (
        Job(starts._note, 5, label=label, priority=n)
        for label, n in (("a", 9), ("b", 0), ("c", 1))
    )
    done = starts.job("done", priority=99)
    scheduler = Scheduler(
        a, b, c, starts.job("late", done), done, jobs_window=1, policy="depth-first"
    )
    found = virtual(explained_after_a_second(scheduler, b))
    assert found.endswith(
        "'a'; before it come 'c', 'late' (priority, depth first: what became ready last)"
    )


# --- the order of starts
def labelled(names: str, **options: Any) -> Iterator[Job[Any]]:
    return (Job(nap, 1, label=name, **options) for name in names)


def order_of(virtual: Virtual, make: Callable[[], Scheduler]) -> str:
    order: list[str] = []
    watch = hooked(job_started=lambda _, job: order.append(job.label))
    virtual(lambda: make().co_run(instruments=[watch], timeout=99))
    return "".join(order)


@pytest.mark.parametrize("total", [None, 99])
@pytest.mark.parametrize("window", [1, 2, 3, None])
def test_jobs_start_in_the_order_added(
    virtual: Virtual, window: int | None, total: int | None
) -> None:
    """Jobs that are ready together start in the order added, forever jobs too, even under a full window."""

    def make() -> Scheduler:
        needs = None if total is None else {"cpu": 1}
        ordinary = list(labelled("abcdefghij", needs=needs))
        forever = list(labelled("ABCDEFGHIJ", forever=True, needs=needs))
        pool = None if total is None else Pool(cpu=total)
        return Scheduler(
            list(zip(ordinary, forever, strict=True)), jobs_window=window, pool=pool
        )

    order = order_of(virtual, make)
    assert [name for name in order if name.islower()] == list("abcdefghij")
    assert [name for name in order if name.isupper()] == list("ABCDEFGHIJ")
    if window is None:
        assert order == "aAbBcCdDeEfFgGhHiIjJ"


@pytest.mark.parametrize(
    "names", ["".join(names) for names in itertools.permutations("abcd")]
)
def test_what_one_end_makes_ready_starts_in_the_order_added(
    virtual: Virtual, names: str
) -> None:
    """Whatever else lets it run: nothing, or another job that has failed, and is tolerated or waited for alone."""
    source, failed = Job(nap, 1, label="x"), Job(fail, 0, label="y", critical=False)
    jobs = {name: Job(nap, 1, label=name, required=source) for name in "abcd"}
    jobs["b"].requires(failed)
    jobs["c"].requires(failed, settled=True)
    jobs["d"] = Job(nap, 1, label="d", required=[source, failed], run_if="failed")
    scheduler = Scheduler(failed, source, [jobs[name] for name in names], jobs_window=1)
    assert order_of(virtual, lambda: scheduler) == "yx" + names


@pytest.mark.parametrize("priority", [0, 1])
def test_a_job_with_own_task_keeps_its_place_in_the_order(
    virtual: Virtual, priority: int
) -> None:
    def make() -> Scheduler:
        first = labelled("ab", priority=priority)
        return Scheduler(
            [*first, *labelled("c", own_task=True), *labelled("def")], jobs_window=2
        )

    assert order_of(virtual, make) == "abcdef"


@pytest.mark.parametrize(
    "seconds", [0.0, 0.0004], ids=["in one turn", "in several turns"]
)
@pytest.mark.parametrize("make_group", [Scheduler, First])
def test_first_jobs_of_siblings_start_in_the_order_of_groups(
    virtual: Virtual, make_group: Any, seconds: float
) -> None:
    """The first jobs of groups that start together start in order, however the loop resumes the tasks of a turn. trio
    resumes new tasks in order or in reverse, by chance, so there are several rounds."""
    for _ in range(10):
        names = "abcdefgh"
        groups = [
            make_group(
                Job(at_once, lambda: pass_time(virtual.backend, seconds), label=name),
                label=name.upper(),
            )
            for name in names
        ]
        started = order_of(virtual, lambda groups=groups: Scheduler(groups))  # type: ignore[misc]
        assert "".join(name for name in started if name.islower()) == names


@pytest.mark.parametrize("make_group", [Scheduler, First])
def test_a_worker_starts_its_first_job_in_its_turn(
    make_group: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On trio, it begins in its place, and waits no more; if time ran out then, later groups came first."""
    monkeypatch.setattr(_worker, "TURN_SECONDS", 0.0)
    names = "abcdefgh"
    for _ in range(10):
        started: list[str] = []

        async def work(name: str, started: list[str] = started) -> None:
            started.append(name)

        assert Scheduler([make_group(Job(work, name)) for name in names]).run(
            backend="trio"
        )
        assert "".join(started) == names


@pytest.mark.parametrize("make_group", [Scheduler, First])
def test_a_worker_that_finds_the_time_used_up_is_not_passed_by_later_ones(
    virtual: Virtual, make_group: Any
) -> None:
    """The groups start in order also if starting them takes several turns; workers of later groups came first."""
    names = "abcdefghijkl"
    started: list[str] = []

    async def work(name: str) -> None:
        started.append(name)

    scheduler = Scheduler([make_group(Job(work, name)) for name in names])
    takes_time = hooked(
        before_run=lambda _: pass_time(virtual.backend, _worker.TURN_SECONDS * 0.3)
    )
    assert virtual(lambda: scheduler.co_run(instruments=[takes_time]))
    assert "".join(started) == names


@pytest.mark.parametrize("own_task", [False, True])
@pytest.mark.parametrize("names", list(itertools.permutations(["one", "two"])))
def test_what_ends_at_once_gives_back_before_starts(
    virtual: Virtual, names: Any, own_task: bool
) -> None:
    """A job of a shorter path does not start between two ends of one instant, which free what the longest one needs."""
    ends = {"one": 1, "two": 2}
    common: dict[str, Any] = {"own_task": own_task}
    before = [
        Job(nap, 3, label=name, expected_duration=3, needs={"r": ends[name]}, **common)
        for name in names
    ]
    short = Job(nap, 3, label="short", expected_duration=3, needs={"r": 1}, **common)
    long = Job(
        nap,
        4,
        label="long",
        expected_duration=4,
        needs={"r": 3},
        required=before,
        **common,
    )
    assert virtual(
        Scheduler(short, *before, long, pool=Pool(r=3), policy="critical-path").co_run
    )
    assert (long.started_at, short.started_at) == (
        long.finished_at - 4,
        long.finished_at,
    )  # type: ignore[operator]


# --- Who gets a resource does not depend on how many jobs are ready that need none
def random_nest(seed: int, has_crowds: bool) -> tuple[Scheduler, list[Job[Any]]]:
    """Return a nest of jobs that share a pool, and these jobs. In crowds, each scheduler has jobs without needs, too.

    Nested schedulers come first: a crowd before them would delay when their jobs become ready."""
    dice, asked = random.Random(seed), list[Job[Any]]()

    def fill(depth: int, prefix: str) -> list[AbstractJob[Any]]:
        jobs = list[AbstractJob[Any]]()
        for number in range(dice.randrange(1, 5)):
            label, priority = f"{prefix}{number}", dice.choice([0, 0, 1, 5])
            if depth < 3 and dice.random() < 0.3:
                jobs.append(
                    Scheduler(*fill(depth + 1, f"{label}."), label=label, priority=99)
                )
                continue
            needs = {
                name: dice.randrange(1, 3) for name in "cd" if dice.random() < 0.5
            } or {"c": 1}
            required = [job for job in jobs if job in asked and dice.random() < 0.25]
            job = Job(
                nap,
                dice.randrange(1, 4),
                label=label,
                needs=needs,
                priority=priority,
                required=required,
            )
            asked.append(job)
            jobs.append(job)
        place, size, priority = (
            dice.randrange(len(jobs) + 1),
            dice.choice([5, 11, 13, 30]),
            dice.choice([0, 1, 5, 9]),
        )
        if has_crowds:
            jobs[place:place] = [Job(nap, 0, priority=priority) for _ in range(size)]
        return jobs

    return Scheduler(*fill(0, ""), pool=Pool(c=2, d=3)), asked


@pytest.mark.both_backends
@pytest.mark.parametrize(
    "seeds",
    [range(6), pytest.param(range(6, 40), marks=pytest.mark.ci)],
    ids=["few", "more"],
)
def test_a_crowd_without_needs_changes_no_start_of_the_jobs_that_have_needs(
    backend: Any, seeds: range
) -> None:
    """From eleven other jobs on, a job in a nested scheduler had overtaken one of a higher priority."""
    for seed in seeds:
        starts: list[list[float | None]] = []
        for has_crowds in (False, True):
            scheduler, asked = random_nest(seed, has_crowds)
            assert run_virtual(scheduler.co_run, backend=backend)
            starts.append([job.started_at for job in asked])
        assert starts[0] == starts[1], seed


@pytest.mark.both_backends
@pytest.mark.parametrize("word", ["pause", "cancel"])
def test_what_a_crowded_run_has_granted_comes_back(backend: Any, word: str) -> None:
    """A job that has its needs, and waits for its turn behind a crowd, is cancelled, or its run is paused."""

    def act() -> None:
        assert waits.state is JobState.SCHEDULED
        assert pool.free["c"] == 0
        (crowded.pause if word == "pause" else waits.cancel)()

    crowd = [Job(at_once, act), *(Job(nap, 1) for _ in range(20))]
    waits, other = Job(nap, 1, needs={"c": 1}), Job(nap, 1, needs={"c": 1})
    pool = Pool(c=1)
    crowded = Scheduler(*crowd, waits)
    group = Scheduler(other, label="other")
    # The crowd that is not paused ends at the same time.
    resumes = Job(
        at_once,
        crowded.resume if word == "pause" else crowded.is_paused,
        required=group,
    )
    assert run_virtual(
        Scheduler(crowded, group, resumes, pool=pool).co_run, backend=backend
    )
    assert other.started_at == 0
    assert waits.started_at == {"pause": 1, "cancel": None}[word]
    assert pool.free["c"] == 1


@pytest.mark.parametrize("window", [None, 13, 16, 40])
@pytest.mark.parametrize("work", ["at once", "in a later turn", "takes a second"])
@pytest.mark.parametrize("every", [2, 9])
def test_a_crowd_and_the_jobs_with_needs_in_it_start_in_order(
    backend: Any, window: int | None, work: str, every: int
) -> None:
    """Jobs with needs once took the slots of jobs before them that were not admitted yet."""
    order: list[int] = []

    async def job(number: int) -> None:
        order.append(number)
        if work == "in a later turn":
            await anyio.lowlevel.checkpoint()
        elif work == "takes a second":
            await anyio.sleep(1)

    jobs = [
        Job(job, number, needs={"c": 1} if number % every == every - 1 else {})
        for number in range(60)
    ]
    scheduler = Scheduler(*jobs, pool=Pool(c=60), jobs_window=window)
    assert run_virtual(scheduler.co_run, backend=backend)
    assert order == [*range(60)]
