"""`check_policy`: the policies of this package pass, and each fault of a policy is found."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, get_args

import pytest

from trioflow.abc import Policy, PolicyName

from ..bodies import DepthFirst
from .policies import check_policy


class By(Policy):
    """A policy that orders by a function of the job and the outlook."""

    def __init__(self, key: Callable[[Any, Any], Any], reason: Any = "because") -> None:
        self._key = key
        self._reason = reason

    def key(self, job: Any, outlook: Any) -> Any:
        return self._key(job, outlook)

    def reason(self, job: Any, outlook: Any) -> Any:
        if self._reason is ZeroDivisionError:
            raise self._reason
        return self._reason


class NoPolicy:
    def key(self, job: Any, outlook: Any) -> int:
        return 0

    def reason(self, job: Any, outlook: Any) -> str:
        return "because"


@pytest.mark.parametrize("policy", [*get_args(PolicyName), DepthFirst(), By(lambda job, _: (job.priority, 0.5))])
def test_correct_policies_pass(policy: Any) -> None:
    """The policies that have names pass, and so do those of users."""
    check_policy(policy)


def rename(job: Any, outlook: Any) -> int:
    job.label = "renamed"
    return 0


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (By(lambda job, _: random.random()), "must not depend on the number of calls"),
        (By(lambda job, _: float("nan")), "must not depend on the number of calls (nor return NaN)"),
        (By(lambda job, _: job.label), "a key is a number, or a tuple of numbers"),
        (By(lambda job, _: ()), "a key is a number, or a tuple of numbers"),
        (By(rename), "changes 'renamed': a policy only reads"),
        (By(lambda job, _: 1 / 0), "division by zero"),
        (By(lambda job, outlook: outlook.rank(job)), "needs_ranks"),
        (By(lambda job, _: hash(job)), "does not order the same jobs alike in each run"),
        (By(lambda job, _: -(job.expected_duration or 0), reason=None), "gives no reason, but None"),
        (By(lambda job, _: -(job.expected_duration or 0), reason=ZeroDivisionError), "`reason` of"),
        (By(lambda job, _: 0 if job.scheduler.is_running() else 1 / 0), "division by zero"),
        (object(), "has no method 'key'"),
        (NoPolicy(), "has no attribute 'needs_ranks' that is True or False"),
    ],
)
def test_faults_of_a_policy_are_found(policy: Any, text: str) -> None:
    """The error says what is wrong, and names the policy."""
    with pytest.raises(AssertionError) as info:
        check_policy(policy)
    assert text in str(info.value)


def test_it_is_no_async_function(virtual: Any) -> None:
    """In an event loop, it says that it starts loops of its own."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="event loops of its own"):
            check_policy("fifo")

    virtual(main)
