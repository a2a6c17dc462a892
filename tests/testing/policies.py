"""`check_policy`, which checks that a policy does what a run expects of it."""

from __future__ import annotations

import math
import operator
import random
from typing import Any, Final, get_args

import anyio

from trioflow._core.api import (
    AbstractJob,
    Job,
    JobState,
    Outlook,
    Policy,
    Pool,
    StopReason,
    current_job,
    current_scheduler,
    ref,
)
from trioflow._core.api.kinds import loop_running, short_repr
from trioflow._scheduler import Scheduler
from trioflow.abc import BackendName, PolicyName
from trioflow.clock import run_virtual
from trioflow.simulation._simulate import simulate

from .kinds import captured_warnings

SEEDS: Final = range(8)


def check_policy(policy: Policy | PolicyName) -> None:
    """Check that a policy orders the jobs of random scenarios as a run expects, on trio and on asyncio.

    The scenarios have windows, pools, priorities, unknown durations, nested schedulers, and jobs that are added during
    the run; the policy serves several schedulers at once. They are simulated, and run on virtual time. Call this from a
    test.

    Args:
        policy: the policy, or the name of one.

    Raises:
        AssertionError: a key is invalid, changes from call to call, or cannot be compared; `reason` raises, or returns
            no text; the policy changes a job; a simulation or a run fails; or the order differs from run to run.
        RuntimeError: an event loop is running in this thread.

    """
    if loop_running():
        raise RuntimeError("check_policy() starts event loops of its own: call it from a plain function")
    checked: Any = policy if isinstance(policy, str) else CheckedPolicy(policy)
    for seed in SEEDS:
        orders: list[list[str]] = []
        for backend in get_args(BackendName):
            for _ in range(2):
                scenario = PolicyScenario(checked, seed)
                with captured_warnings():
                    fault = scenario.run(backend)
                if fault is not None:
                    text = (
                        f"with the policy {short_repr(policy)}, a run ended with {scenario.stop_reason}, on {backend}"
                    )
                    raise AssertionError(f"{text}: {fault}") from fault
                if isinstance(checked, CheckedPolicy) and checked.bad_reason is not None:
                    raise AssertionError(checked.bad_reason)
                orders.append(scenario.order)
        if any(order != orders[0] for order in orders):
            raise AssertionError(
                f"{short_repr(policy)} does not order the same jobs alike in each run: jobs started in these orders: "
                f"{'; '.join(', '.join(order) for order in orders)}"
            )


class CheckedPolicy(Policy):
    def __init__(self, policy: Policy) -> None:
        self._policy: Final = policy
        for name in ("key", "reason"):
            if not callable(getattr(policy, name, None)):
                raise AssertionError(f"{short_repr(policy)} has no method {name!r}")
        if not isinstance(getattr(policy, "needs_ranks", None), bool):
            raise AssertionError(f"{short_repr(policy)} has no attribute 'needs_ranks' that is True or False")
        self.needs_ranks = policy.needs_ranks
        self.bad_reason: str | None = None  # a fault of `reason`, which the engine would only log

    def key(self, job: AbstractJob[Any], outlook: Outlook) -> float | tuple[float, ...]:
        before = _facts(job)
        keys = [self._policy.key(job, outlook) for _ in range(2)]
        if _facts(job) != before:
            raise AssertionError(f"{short_repr(self._policy)} changes {job.label!r}: a policy only reads")
        parts: Any = keys[0] if isinstance(keys[0], tuple) else (keys[0],)
        if keys[0] != keys[1]:
            raise AssertionError(
                f"the key of {job.label!r} is {keys[0]!r}, and then {keys[1]!r}: {short_repr(self._policy)} must not "
                f"depend on the number of calls (nor return NaN)"
            )
        if not parts or any(isinstance(part, complex) or not isinstance(part, (int, float)) for part in parts):
            raise AssertionError(
                f"{short_repr(self._policy)} returns {short_repr(keys[0])}: a key is a number, or a tuple of numbers"
            )
        if any(math.isnan(part) for part in parts):
            raise AssertionError(f"{short_repr(self._policy)} returns NaN, which cannot be compared")
        return keys[0]

    def reason(self, job: AbstractJob[Any], outlook: Outlook) -> str:
        try:
            reason: Any = self._policy.reason(job, outlook)
        except Exception as error:
            self.bad_reason = f"`reason` of {short_repr(self._policy)} raises {type(error).__name__}: {error}"
            raise
        if not isinstance(reason, str) or not reason:
            self.bad_reason = f"{short_repr(self._policy)} gives no reason, but {short_repr(reason)}"
        return str(reason)


def _facts(job: AbstractJob[Any]) -> tuple[Any, ...]:
    return job.label, job.state, job.priority, job.expected_duration, job.needs, list(job.required)


class PolicyScenario:
    """A random scenario, which is the same for the same seed."""

    def __init__(self, policy: Any, seed: int) -> None:
        self._policy: Final = policy
        self._draw: Final = random.Random(seed)
        self._starts: Final[list[tuple[str, str]]] = []  # the labels of the schedulers and of their jobs that started
        self._numbers: Final = iter(range(10_000))
        self._scheduler: Final = self._make_scheduler(2)

    def _make_scheduler(self, depth: int) -> Scheduler:
        draw = self._draw
        members: list[AbstractJob[Any]] = []
        for _ in range(draw.randint(3, 9)):
            required = draw.sample(members, min(len(members), draw.randint(0, 2)))
            if depth and draw.random() < 0.3:
                nested = self._make_scheduler(depth - 1)
                nested.requires(*required)
                members.append(nested)
            else:
                members.append(self._make_job(required=required, needs=draw.choice([None, None, {"unit": 1}])))
        window = draw.choice([1, 1, 2, 3])
        label = f"scheduler {next(self._numbers)}"
        return Scheduler(*members, jobs_window=window, policy=self._policy, pool=Pool(unit=1), label=label)

    def _make_job(self, **options: Any) -> Job[None]:
        draw = self._draw
        added = self._make_job() if draw.random() < 0.2 else None
        return Job(
            self._work,
            draw.choice([0.1, 0.5, 1, 2]) + draw.random() / 100,  # trio resumes tasks of the same instant in any order
            ref(added) if added is not None else None,
            label=f"job {next(self._numbers)}",
            expected_duration=draw.choice([None, 0, 1, 2.5]),
            priority=draw.choice([0, 0, 0, 1]),
            **options,
        )

    async def _work(self, seconds: float, added: Job[None] | None) -> None:
        scheduler = current_scheduler()
        self._starts.append((scheduler.label, current_job().label))
        for other in scheduler:
            scheduler.explain(other)  # asks for the reason, if it waits behind others
        await anyio.sleep(seconds)
        if added is not None:
            scheduler.add(added)

    @property
    def order(self) -> list[str]:
        """The labels of the jobs in the order in which they started, scheduler by scheduler."""
        return [job for _, job in sorted(self._starts, key=operator.itemgetter(0))]

    @property
    def stop_reason(self) -> StopReason | None:
        return self._scheduler.stop_reason

    def run(self, backend: BackendName) -> BaseException | None:
        """Simulate the scenario, and run it; return the first fault of the policy or of a job, if there is one."""
        scheduler = self._scheduler
        try:
            simulate(scheduler)
            run_virtual(lambda: scheduler.co_run(check=True), backend=backend)
        except Exception as error:
            return error
        assert all(job.state is JobState.SUCCEEDED for job in scheduler.iterate_jobs())
        return None
