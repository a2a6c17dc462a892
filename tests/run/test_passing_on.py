"""Whatever gives something back passes it on: a job of another run that waits for it starts in the same instant."""

import ast
from collections.abc import Callable
from typing import Any
import anyio
import pytest
from trioflow import Job, Pool, Rate, Retry, Scheduler, Throttled
from trioflow.abc import Instrument
from ..bodies import fail, later, nap
from ..conftest import Virtual
from ..trees import parts_with, sources

AGAIN = Retry(1, first=90, jitter=False)


class Canceller(Instrument):
    """An instrument that cancels the job which has the cpu, when another one has ended."""

    def job_settled(self, scheduler: Any, job: Any) -> None:
        if job.label == "gate":
            one(scheduler, "holder").cancel()


def one(scheduler: Scheduler, label: str) -> Any:
    return next(job for job in scheduler.iterate_jobs() if job.label == label)


def holder(function: Any, *args: Any, **options: Any) -> Job[Any]:
    return Job(function, *args, **{"needs": {"cpu": 1}, "label": "holder"} | options)


def clean_up(function: Any, *args: Any, **options: Any) -> Scheduler:
    bad = Job(fail, critical=True, label="bad")
    job = holder(function, *args, required=bad, run_if="failed", **options)
    return Scheduler(bad, job, cleanup_timeout=2 if args == (99,) else 60)


def beside_token(**options: Any) -> Scheduler:
    return Scheduler(
        Job(nap, 99), holder(nap), jobs_window=anyio.CapacityLimiter(1), **options
    )


def cancel_holder(scheduler: Scheduler) -> None:
    one(scheduler, "holder").cancel()


Way = tuple[Callable[[], Scheduler], Callable[[Scheduler], object]]
WAYS: dict[str, Way] = {
    "a job ends": (lambda: Scheduler(holder(nap, 3)), len),
    "a job fails": (lambda: Scheduler(holder(fail, 3)), len),
    "a critical job fails": (lambda: Scheduler(holder(fail, 3, critical=True)), len),
    "a job is cancelled": (lambda: Scheduler(holder(nap, 99)), cancel_holder),
    "a hook cancels a job": (
        lambda: Scheduler(
            holder(nap, 99), Job(nap, 3, label="gate"), instruments=[Canceller()]
        ),
        len,
    ),
    "a run is cancelled": (lambda: Scheduler(holder(nap, 99)), Scheduler.cancel),
    "a run with a forever job is cancelled": (
        lambda: Scheduler(holder(nap, 99), Job(nap, 999, forever=True)),
        Scheduler.cancel,
    ),
    "a run times out": (lambda: Scheduler(holder(nap, 99), timeout=3), len),
    "a job times out": (lambda: Scheduler(holder(nap, 99, timeout=3)), len),
    "a job moves on": (
        lambda: Scheduler(holder(nap, 99, timeout=3, on_timeout="move_on")),
        len,
    ),
    "a job will be repeated": (lambda: Scheduler(holder(fail, 3, retry=AGAIN)), len),
    "a job is throttled": (
        lambda: Scheduler(
            holder(fail, 3, Throttled("api", after=90), needs={"cpu": 1, "api": 1})
        ),
        len,
    ),
    "a group ends": (lambda: Scheduler(Scheduler(Job(nap, 3), needs={"cpu": 1})), len),
    "a forever job ends": (
        lambda: Scheduler(holder(nap, 3, forever=True), Job(nap, 99)),
        len,
    ),
    "a run ends its forever job": (
        lambda: Scheduler(holder(nap, 99, forever=True), Job(nap, 3)),
        len,
    ),
    "an admitted job is cancelled": (beside_token, cancel_holder),
    "the run of an admitted job is cancelled": (beside_token, Scheduler.cancel),
    "the run of an admitted job drains": (beside_token, Scheduler.drain),
    "the run of an admitted job times out": (lambda: beside_token(timeout=3), len),
    "a clean-up job ends": (lambda: clean_up(nap, 2), len),
    "a clean-up job fails": (lambda: clean_up(fail, 2), len),
    "a clean-up job will be repeated": (lambda: clean_up(fail, 2, retry=AGAIN), len),
    "a clean-up job is cancelled": (lambda: clean_up(nap, 50), cancel_holder),
    "a clean-up job runs into its deadline": (lambda: clean_up(nap, 99), len),
}
"""Each way: a scheduler that gives its cpu back after 3 s, and what is called then."""


@pytest.mark.parametrize("shared", ["a group beside", "another run"])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_given_back_starts_a_job_of_another_run(
    virtual: Virtual, way: str, shared: str
) -> None:
    """The only cpu is given back after 3 s, in whatever way, and a job elsewhere that waits for it starts then."""
    make, act = WAYS[way]

    async def main() -> None:
        pool = Pool(cpu=1, api=Rate(requests=9, per=1))
        giving, gate = make(), Job(nap, 2)
        wants = Job(nap, 1, needs={"cpu": 1}, required=gate, label="wants")
        taking = Scheduler(gate, wants, Job(nap, 40))
        if shared == "another run":
            wholes = [
                Scheduler(each, pool=pool, critical_jobs=False)
                for each in (giving, taking)
            ]
        else:
            wholes = [Scheduler(giving, taking, pool=pool, critical_jobs=False)]
        async with anyio.create_task_group() as group:
            for whole in wholes:
                group.start_soon(whole.co_run)
            group.start_soon(later, 3, lambda: act(giving))
            await anyio.sleep(30)
            group.cancel_scope.cancel()
        assert wants.started_at == 3
        assert pool.free["cpu"] == 1

    virtual(main)


PASS_ON = {
    "refund": {
        "run/_steps.py": "whatever settles, in whatever way",
        "run/_reopening.py": "what is taken back while it waits",
        "admission/_line.py": "what returns to the line",
        "admission/_resource.py": "each resource of a grant",
    },
    "look": {
        "admission/_line.py": "the line asks itself, in order",
        "run/_worker.py": "the crew, which has searchers",
    },
    "ensure_searcher": {
        "run/_worker.py": "what a worker does before its own task waits, or ends",
        "run/_steps.py": "whatever settles or becomes ready outside of a worker",
        "run/_run.py": "what the task of a run does",
        "run/_ending.py": "what the task of a run does as it cleans up",
        "run/_steering.py": "a word that opens slots",
        "admission/_admission.py": "what a round has admitted",
        "parts/_first_rule.py": "what has waited until an end was told",
    },
}
"""Which modules pass on what was given back, or let what is ready start, and what it is. None else thinks of it."""


def callers(name: str) -> set[str]:
    """Return the modules of the engine that call a method of this name, or hand it over; `look` only of a line."""
    found = set[str]()
    for module, text in sources().items():
        file = f"{module.removeprefix('trioflow._core.').replace('.', '/')}.py"
        if not module.startswith("trioflow._core."):
            continue
        for _, each in parts_with([f".{name}"], text, module):
            match each:
                case ast.Attribute(value, attribute) if attribute == name:
                    if name != "look" or ast.unparse(value).endswith("line"):
                        found.add(file)
    return found


@pytest.mark.parametrize("name", PASS_ON)
def test_nobody_else_has_to_remember_to_pass_on(name: str) -> None:
    """What settles outside of a worker passes on by itself: no other part of the engine refunds, or admits."""
    callers_found = callers(name)
    others = callers_found - {*PASS_ON[name]}
    assert not others, f"leave {name} to the modules in PASS_ON: {others}"
    assert callers_found == {*PASS_ON[name]}, "a module of PASS_ON does so no more"
