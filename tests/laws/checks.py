"""Checks of a scenario: its two runs against the laws, the oracle, and each other."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import anyio
import trio
from hypothesis import HealthCheck, Phase, settings

from trioflow.testing._task_order import TaskOrder, set_task_order

from ..conftest import Virtual
from .flow_laws import LAWS_OF_FLOW
from .laws import LAWS_OF_RUNS, groups, members, plans
from .oracle import predict
from .real_run import RealRun, Recording
from .scenarios import Leaf, Scenario

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
FEW = settings(
    max_examples=6,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # no shrinking: of scenarios it takes minutes, which the soak tests have
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MANY = settings(
    FEW,
    max_examples=int(os.environ.get("TRIOFLOW_SOAK", "1000")),
    derandomize=False,
    phases=list(Phase),
    print_blob=True,
)


class Ordered(Virtual):
    """`Virtual`, with tasks that continue in an order which the seed determines."""

    def __init__(self, backend: str, seed: int) -> None:
        super().__init__(backend)
        self.seed = seed

    def __call__(self, async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        with set_task_order(TaskOrder(order_seed=self.seed), self.backend) as options:
            if self.backend == "trio":
                return trio.run(async_fn, *args, **options)
            return anyio.run(async_fn, *args, backend="asyncio", backend_options=options)


def perform(virtual: Virtual, scenario: Scenario) -> tuple[Recording, Recording]:
    """Run a scenario twice: as users do, and with an instrument that watches the tasks."""

    async def both() -> tuple[Recording, Recording]:
        real = RealRun(scenario)
        return await real.run(watched=False, holds_tasks=False), await real.run(watched=True)

    return virtual(both)


# ---------------------------------------------------------------- the oracle


def agrees_with_oracle(seen: Recording, backend: str) -> None:
    """Assert that states, times, shutdowns, result, reasons, culprits and the order of starts follow the contract."""
    expected = predict(seen.scenario, backend, seen.bound)
    if not expected.exact:
        return
    assert (seen.result, seen.ended_at) == (expected.result, expected.ended_at)
    assert seen.verdicts == expected.verdicts
    leaves = {name for name, plan in plans(seen).items() if isinstance(plan, Leaf)}
    for name, fate in expected.fates.items():
        if name != "root":  # the outermost scheduler is nobody's job
            real = seen.fates[name]
            assert (name, real.state, real.started, real.finished) == (name, fate.state, fate.started, fate.finished)
            assert (name, real.cause) == (name, fate.cause)
            assert name not in leaves or (name, real.shutdowns, real.calls) == (name, fate.shutdowns, fate.calls)
    assert seen.fates.keys() == expected.fates.keys()
    entered = list(dict.fromkeys(name for _, what, name in seen.bodies if what == "enter"))
    for group in groups(seen).values():
        own = {plan.name for plan in members(group)} & leaves
        assert [name for name in entered if name in own] == [name for name in expected.started if name in own]


def is_the_same_again(first: Recording, second: Recording) -> None:
    """Assert that a second run has the same outcome."""
    assert (first.result, first.ended_at) == (second.result, second.ended_at)
    assert first.verdicts == second.verdicts
    assert first.fates == second.fates


def check(virtual: Virtual, scenario: Scenario) -> None:
    """Check the two runs of a scenario against the laws, the oracle, and each other."""
    check_runs(virtual, scenario, *perform(virtual, scenario))


def check_runs(virtual: Virtual, scenario: Scenario, first: Recording, second: Recording) -> None:
    """Check two recorded runs of a scenario against the laws, the oracle, and each other."""
    for seen in (first, second):
        for law in (*LAWS_OF_RUNS, *LAWS_OF_FLOW):
            law(seen)
        agrees_with_oracle(seen, virtual.backend)
    if predict(scenario, virtual.backend).exact and not second.bound:
        is_the_same_again(first, second)


def check_shared(virtual: Virtual, scenario: Scenario) -> None:
    """Check the two runs of a scenario with shared limiters against the laws."""
    for seen in perform(virtual, scenario):
        for law in (*LAWS_OF_RUNS, *LAWS_OF_FLOW):
            law(seen)


def on_both(
    check: Callable[[Virtual, Scenario], None], scenario: Scenario, made: Callable[[str], Virtual] = Virtual
) -> None:
    """Check a scenario on both backends, because to draw one takes longer than to run it."""
    for backend in ("trio", "asyncio"):
        check(made(backend), scenario)
