"""What-if: simulations of a run with more slots or more of a resource, compared with real runs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as Tree

import anyio
import pytest

from trioflow import AbstractJob, Job, Pool, Rate, Scheduler, Sequence, Service, Trace, WhatIf
from trioflow.abc import Policy, run_of
from trioflow.view.trace.report import _sections

from ..bodies import fail, nap, serve

if TYPE_CHECKING:
    from ..conftest import Virtual


def release(**options: Any) -> Scheduler:
    """Return some short jobs, then a long chain, which begins last in the order added."""
    jobs = [Job(nap, 2 + place % 3, label=f"test {place}") for place in range(9)]
    chain = Sequence([Job(nap, 4, label=f"image {place}") for place in range(4)])
    return Scheduler(*jobs, chain, **options)


def run(virtual: Virtual, scheduler: Scheduler, **options: Any) -> Trace:
    trace = Trace()
    virtual(functools.partial(scheduler.co_run, instruments=[trace], **options))
    return trace


def makespan(trace: Trace) -> float:
    ends = [span.finished_at for span in trace.spans if not span.forever]
    return max(end for end in ends if end is not None) - trace._get_record().start_time


def seconds(found: WhatIf) -> dict[tuple[int | None, str], float]:
    return {(point.size, point.policy): point.seconds for point in found.points}


@pytest.mark.parametrize("size", [1, 2, 3, 5, None])
def test_each_point_is_the_duration_of_a_run_with_its_size_and_policy(virtual: Virtual, size: int | None) -> None:
    """Each point of a what-if has the duration of a real run with its size and policy and the measured durations."""
    trace = run(virtual, release(), jobs_window=2)
    found = trace.what_if(sizes=[size])
    known = {span.path: span.elapsed for span in trace.spans if span.elapsed is not None}
    for policy in ("fifo", "critical-path"):
        other = run(virtual, release(policy=policy, durations=known), jobs_window=size)
        assert seconds(found)[size, policy] == pytest.approx(makespan(other))
    assert found.simulated_seconds == pytest.approx(makespan(trace))
    assert found.this_run is not None
    assert (found.this_run.size, found.this_run.policy, found.this_run.seconds) == (
        2,
        "fifo",
        pytest.approx(makespan(trace)),
    )


def test_a_simulation_agrees_with_a_run_of_real_sleeps(backend: Any) -> None:
    """For jobs that sleep, the simulation is within 5 % of the real run, unless the machine is busy."""

    def agrees() -> bool:
        jobs = [Job(anyio.sleep, 0.02 + 0.01 * (place % 3), label=f"{place}", needs={"card": 1}) for place in range(9)]
        trace, pool = Trace(), Pool(card=2)
        Scheduler(*jobs, pool=pool).run(backend=backend, instruments=[trace])
        found = trace.what_if("card", sizes=[2], policies=["fifo"])
        return found.points[0].seconds == pytest.approx(makespan(trace), rel=0.05, abs=0.02)

    assert any(agrees() for _ in range(50))


def test_best_is_the_smallest_size_of_the_fastest_points(virtual: Virtual) -> None:
    """The best point is the smallest of the fastest; `str()` also states that more slots do not help."""
    found = run(virtual, release(), jobs_window=2).what_if()
    assert (found.best.size, found.best.policy, found.best.seconds) == (3, "critical-path", 16)
    assert found.gain == pytest.approx(1 - 16 / 29)
    assert str(found) == (
        "This run: 2 slots, fifo, 29 s. With 3 slots and critical-path, it takes 16 s (\N{MINUS SIGN}45 %); more "
        "do not help. It assumes that each job takes as long as it did, however many run at the same time, and that "
        "none fails or is throttled."
    )
    assert found.table().splitlines()[:4] == [
        "slots  fifo  critical-path   bound",
        "    1  43 s           43 s    43 s",
        "    2  29 s           22 s  21.5 s  this run",
        "    3  24 s           16 s    16 s  best: critical-path",
    ]


def test_one_slot_is_enough_for_a_single_chain_of_jobs(virtual: Virtual) -> None:
    """For a single chain of jobs, `str()` of a what-if states that one slot is enough."""
    chain = Sequence([Job(nap, 2) for _ in range(3)])
    found = run(virtual, Scheduler(chain), jobs_window=4).what_if()
    assert "No other number of slots or policy is faster; 1 slot is enough." in str(found)


def test_what_if_varies_the_amount_of_a_resource(virtual: Virtual) -> None:
    """What-if varies the amount of a resource, rejects too little for a job, and divides the work by it as bound."""
    jobs = [Job(nap, one, label=f"train {one}", needs={"gpu": 2}) for one in (3, 4, 5, 6, 7)]
    other = Job(nap, 1, needs={"ram": "8 GiB"})
    trace = run(virtual, Scheduler(*jobs, other, pool=Pool(gpu=[0, 1, 2, 3], ram="8 GiB")))
    found = trace.what_if("gpu", policies=["fifo"])
    took = {point.size: point.seconds for point in found.points}
    assert (took[2], took[4]) == (25, 15)
    assert dict(found.bounds)[4] == 12.5
    assert str(found).startswith("This run: 4 gpu, fifo, 15 s. With 12 gpu and fifo, it takes 7 s ")
    with pytest.raises(ValueError, match="sizes: 1 is less than 2: a job needs 2 of 'gpu'"):
        trace.what_if("gpu", sizes=[1])


def test_what_if_varies_a_rate_together_with_its_burst(virtual: Virtual) -> None:
    """What-if varies the first key of a rate, here the number of requests, together with the burst."""
    jobs = [Job(nap, 1, needs={"api": 1}) for _ in range(8)]
    trace = run(virtual, Scheduler(*jobs, pool=Pool(api=Rate(requests=2, per=4, burst=1))))
    found = trace.what_if("api", sizes=[2, 4])
    assert [point.seconds for point in found.points[:2]] == [pytest.approx(15), pytest.approx(7)]


def test_calls_on_a_cluster_share_its_threads(virtual: Virtual) -> None:
    """In what-if, calls on a cluster share its threads: more slots than threads do not help, as `str()` explains."""
    thread = anyio.CapacityLimiter(2)

    class ClusterJob(AbstractJob[None]):
        async def co_run(self) -> None:
            handle = run_of(self)
            since = handle.clock()
            async with thread:
                handle.record_machine_wait(self, since)
                handle.record_call_place(self, "cluster", 2)
                await anyio.sleep(1)

    scheduler = Scheduler(ClusterJob(label=f"call {place}") for place in range(8))
    trace = run(virtual, scheduler, jobs_window=8)
    assert trace.time_spent().work == pytest.approx(8)
    found = trace.what_if(sizes=[1, 2, 4, None], policies=["fifo"])
    assert [point.seconds for point in found.points] == [pytest.approx(one) for one in (8, 4, 4, 4)]
    assert "Calls on the cluster share its 2 threads, as in the run." in str(found)


def test_what_if_simulates_nested_schedulers_services_and_failed_jobs(virtual: Virtual) -> None:
    """In what-if, failed jobs take their measured time, services the time until ready, and jobs that never ran none."""
    service = Service(serve, 2, label="db")
    inner = Scheduler(Job(nap, 3, label="a"), Job(fail, 2, label="b"), label="inner", required=service)
    never = Job(nap, 50, label="never", run_if="failed")
    trace = run(virtual, Scheduler(service, inner, never, timeout=60), jobs_window=3)
    found = trace.what_if(sizes=[3])
    assert found.simulated_seconds == 5
    assert makespan(trace) == 5


def in_parts(**options: Any) -> Scheduler:
    """Return two parts in a row, where the order of starts matters; only the parts have durations."""
    parts: list[Scheduler] = []
    for part in range(2):
        jobs = [Job(nap, n, expected_duration=n, label=f"{n}") for n in (1, 1, 2, 4)]
        parts.append(Scheduler(*jobs, jobs_window=2, label=f"part {part}", required=parts))
    return Scheduler(*parts, **options)


def test_what_if_simulates_each_scheduler_with_its_own_policy(virtual: Virtual) -> None:
    """What-if simulates each scheduler with its own policy; if these differ, it calls them "own policies"."""
    for options, name in (({}, "critical-path"), ({"policy": "fifo"}, "own policies")):
        trace = run(virtual, in_parts(jobs_window=6, **options))
        found = trace.what_if()
        assert found.simulated_seconds == makespan(trace) == 8
        assert found.this_run is not None
        assert (found.this_run.policy, found.policies()[0]) == (name, name)
        assert (seconds(found)[6, name], seconds(found)[6, "fifo"]) == (8, 10)
        assert "best" not in found.table()
        assert str(found).startswith(
            f"This run: 6 slots, {name}, 8 s. No other number of slots or policy is faster. "
            "These slots are only for nested schedulers, whose jobs have their own windows. "
        )


def test_what_if_uses_the_durations_known_at_the_start_of_the_run(virtual: Virtual, tmp_path: Path) -> None:
    """What-if uses the durations known at the start of a run: none in the first, though its file has them later."""
    for policy, took in (("fifo", 10), ("critical-path", 8)):
        jobs = [Job(nap, n, label=f"{place}") for place, n in enumerate((2, 2, 4, 8))]
        found = run(virtual, Scheduler(*jobs, jobs_window=2, durations=tmp_path / "d.json")).what_if()
        assert found.this_run is not None
        assert (found.this_run.policy, found.this_run.seconds, found.simulated_seconds) == (policy, took, took)


def test_what_if_lowers_the_burst_of_a_slower_rate(virtual: Virtual) -> None:
    """For a slower rate what-if lowers the burst, but not below what one job needs, and adapts texts and bounds."""
    jobs = [Job(nap, 1, needs={"api": 2}) for _ in range(6)]
    trace = run(virtual, Scheduler(*jobs, label="ask", pool=Pool(api=Rate(requests=4, per=1, burst=2))))
    found = trace.what_if("api")
    assert str(found).startswith("This run: 4 requests per second, fifo, 3.5 s. With 24 requests per second and fifo, ")
    assert {4, 8, 16} <= dict(found.bounds).keys()
    assert seconds(found)[1, "fifo"] == pytest.approx(11) == dict(found.bounds)[1]
    assert seconds(found)[4, "fifo"] == pytest.approx(3.5) == dict(found.bounds)[4]


def test_the_bound_counts_work_for_a_resource_in_nested_schedulers(virtual: Virtual) -> None:
    """The bound of a what-if counts the time for which jobs in nested schedulers occupy the resource."""
    inner = Scheduler(
        *(Job(nap, 2, needs={"gpu": 1}) for _ in range(4)), label="inner", required=(first := Job(nap, 1))
    )
    trace = run(virtual, Scheduler(first, inner, Job(nap, 3, required=inner), pool=Pool(gpu=1)))
    assert trace.what_if("gpu", sizes=[1, 2, 4]).bounds == ((1, 12), (2, 8), (4, 6))


def test_a_user_defined_policy_is_compared_with_the_named_ones(virtual: Virtual) -> None:
    """What-if compares a user's own policy with the named ones, and lists it before them."""

    class Backwards(Policy):
        def key(self, job: Any, outlook: Any) -> float:
            return -len(job.label)

    jobs = [Job(nap, 3 - place, label="x" * place) for place in range(1, 3)]
    found = run(virtual, Scheduler(*jobs, policy=Backwards()), jobs_window=1).what_if(sizes=[1, 2])
    assert found.policies()[1:] == ["fifo", "critical-path"]
    assert len(found.points) == 6


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"resource": "disk"}, ValueError, "no pool has it; the pools have 'gpu'"),
        ({"sizes": [0]}, ValueError, "sizes: 0 is less than 1"),
        ({"sizes": []}, ValueError, "sizes is empty"),
        ({"sizes": [1.5]}, TypeError, "sizes: 1.5 is not a whole number"),
        ({"sizes": [True]}, TypeError, "sizes: True is not a whole number"),
        ({"sizes": [None], "resource": "gpu"}, ValueError, "'gpu' is always limited"),
        ({"policies": ["random"]}, ValueError, "random"),
    ],
)
def test_invalid_arguments_of_what_if_are_rejected(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """An invalid argument of `what_if` raises an error with the reason."""
    trace = Trace()
    Scheduler(Job(anyio.sleep, 0, needs={"gpu": 1}), pool=Pool(gpu=1)).run(instruments=[trace])
    with pytest.raises(error, match=message):
        trace.what_if(**options)


def test_what_if_is_rejected_without_exactly_one_completed_run(virtual: Virtual) -> None:
    """`what_if` rejects a trace without a run, without a completed run, with a run under way, or with two runs."""
    with pytest.raises(ValueError, match="no job has completed"):
        Trace().what_if()
    with pytest.raises(ValueError, match="no job has completed"):
        run(virtual, Scheduler(Job(nap, run_if="failed"))).what_if()
    trace, errors = Trace(), list[str]()

    async def ask() -> None:
        await nap(1)
        try:
            trace.what_if()
        except ValueError as error:
            errors.append(str(error))

    virtual(functools.partial(Scheduler(Job(nap, 0), Job(ask), label="now").co_run, instruments=[trace]))
    assert errors == ["what_if() while 'now' is running: call it when the run has ended"]

    async def both() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(functools.partial(Scheduler(Job(nap, 1)).co_run, instruments=[trace]))

    virtual(both)
    with pytest.raises(ValueError, match="of 2 runs: use a separate Trace for each run"):
        trace.what_if()


def test_jobs_of_coroutines_and_of_open_schedulers_are_simulated(virtual: Virtual) -> None:
    """What-if also works for jobs that can run only once, of coroutine objects or open schedulers, without a call."""
    trace = Trace()

    async def both() -> None:
        async with Scheduler(jobs_window=1, instruments=[trace]) as scheduler:
            scheduler.update([Job(nap, 2), Job(nap(3))])

    virtual(both)
    assert trace.what_if(sizes=[2]).best.seconds == 3


def test_jobs_dropped_by_keep_jobs_false_cannot_be_simulated(virtual: Virtual) -> None:
    """After jobs were dropped by `keep_jobs=False`, the error advises to call `what_if()` earlier."""
    trace = Trace()

    async def dropping() -> None:
        async with Scheduler(keep_jobs=False, label="server", instruments=[trace]) as scheduler:
            scheduler.update([Job(nap, 2), Job(nap, 3)])

    virtual(dropping)
    with pytest.raises(
        ValueError, match=r"'server', which has 0 of its 2 jobs left: call it before .* keep_jobs=False"
    ):
        trace.what_if()


def test_the_what_if_chart_shows_policies_bound_this_run_and_the_best(virtual: Virtual) -> None:
    """The chart of a what-if has a line for each policy, the bound, this run and the best point; labels are escaped."""
    needs = [Job(nap, 1, needs={"<b>&": 1}) for _ in range(4)]
    slots = run(virtual, Scheduler(*(Job(nap, 2 + place % 3) for place in range(6))), jobs_window=2)
    cards = run(virtual, Scheduler(*needs, pool=Pool(**{"<b>&": 1})), jobs_window=9)
    for trace, marks in ((slots, 2), (cards, 2)):
        page = _sections.what_if_section(trace._get_record())
        picture = Tree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
        text = " ".join(element.text or "" for element in picture.iter("{http://www.w3.org/2000/svg}text"))
        assert "It assumes that each job takes as long as it did" in page
        assert "this run, " in text
        assert "best: " in text
        assert "(both scales are logarithmic)" in text
        classes = [element.get("class") for element in picture.iter()]
        assert {"line line0", "line line1", "bound", "this"} <= {*classes}
        assert sum((css or "").startswith("dot") or css == "this" for css in classes) == marks


def test_a_report_simulates_more_of_what_jobs_waited_for_longest(
    virtual: Virtual, tmp_path: Path, monkeypatch: Any
) -> None:
    """A report simulates more slots, or more of the resource, that jobs waited for longest, unless no job waited."""
    jobs = [Job(nap, 2, needs={"gpu": 1}) for _ in range(4)]

    trace = run(virtual, Scheduler(*jobs, pool=Pool(gpu=1, ram=5)), jobs_window=9)
    page = _sections.what_if_section(trace._get_record())
    assert page.count("<svg") == 1
    assert "This run: 1 gpu" in page
    trace.export_as_htmlfile(tmp_path / "r.html")
    assert page in (tmp_path / "r.html").read_text(encoding="utf-8")
    monkeypatch.setattr(_sections, "MAX_JOBS_PER_RUN", 3)
    assert "To do it anyway, call <code>trace.what_if()</code>." in _sections.what_if_section(trace._get_record())
    assert (
        _sections.what_if_section(run(virtual, in_parts(jobs_window=2))._get_record()) == ""
    )  # jobs waited for windows of nested schedulers
    assert _sections.what_if_section(run(virtual, Scheduler(*(Job(nap) for _ in range(4))))._get_record()) == ""
