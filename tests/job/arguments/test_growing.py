"""Inputs and changes of the graph: what can not be taken away, and what comes while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trioflow import CycleError, Job, MissingRequirement, Scheduler

from ...bodies import checked_result, give, later, take

if TYPE_CHECKING:
    from ...conftest import Virtual


# --- changing the graph


def test_an_input_can_not_be_taken_back() -> None:
    """`requires(input, remove=True)`: ValueError naming both and `ref()`; nothing changes, others of the call included.

    A job without one of its arguments could not be called.
    """
    a, b = Job(give, label="a"), Job(give)
    job = Job(take, a, label="user", required=b)
    with pytest.raises(ValueError, match=r"'user'.*'a'.*ref\(job\)"):
        job.requires(b, a, remove=True)
    assert list(job.required) == [a, b]
    job.requires(a)
    assert list(job.required) == [a, b]


def test_sanitize_keeps_inputs(virtual: Virtual) -> None:
    """`sanitize()` drops order on what is elsewhere, never an input."""
    a, b, stray = Job(give, "a"), Job(give, "b"), Job(give)
    job = Job(take, a, b, required=stray)
    scheduler = Scheduler(a, Scheduler(b), job)
    assert scheduler.sanitize() == [(job, stray)]
    assert list(job.required) == [a, b]
    virtual(checked_result(scheduler))
    assert job.result() == ("a", "b")


def test_removed_input_is_missing_and_the_error_says_what_helps() -> None:
    """An input that is in no scheduler any more: the error does not send people to `sanitize()`, which keeps inputs."""
    a = Job(give, label="a")
    scheduler = Scheduler(Job(take, a, label="user"))
    scheduler.remove(a)
    with pytest.raises(MissingRequirement, match=r"'user'.*'a'.*add") as caught:
        scheduler.run()
    assert "sanitize() to drop" not in str(caught.value)


# --- while it runs


def test_late_job_uses_what_has_settled_elsewhere(virtual: Virtual) -> None:
    """A job that is added late may use a result of another scheduler of the scenario, if that has settled."""
    a = Job(give, "inside")
    job = Job(take, a)
    inner = Scheduler(a)
    scheduler = Scheduler(inner, Job(later, 2, lambda: scheduler.add(job)))
    virtual(checked_result(scheduler))
    assert job.result() == ("inside",)


def test_late_job_waits_for_what_is_nested_beside(virtual: Virtual) -> None:
    """If the input has not settled, the job waits for the nested scheduler that contains it."""
    a = Job(give, "inside", 5)
    job = Job(take, a)
    inner = Scheduler(a)
    scheduler = Scheduler(inner, Job(later, 2, lambda: scheduler.add(job)))
    virtual(checked_result(scheduler))
    assert job.result() == ("inside",)
    assert job.started_at == inner.finished_at == 5


def test_late_job_can_not_wait_for_an_input_further_out(virtual: Virtual) -> None:
    """An input outside the running scheduler that has not settled is a ValueError naming both; the job is not added."""
    a = Job(give, None, 5, label="a")
    job = Job(take, a, label="user")

    def meddle() -> None:
        with pytest.raises(ValueError, match=r"'user'.*'a'.*not settled"):
            inner.add(job)

    inner = Scheduler(Job(later, 2, meddle))
    virtual(checked_result(Scheduler(a, inner)))
    assert job.scheduler is None


@pytest.mark.parametrize("seconds", [0.5, 3], ids=["settled", "running"])
def test_late_nested_scheduler_uses_a_result_of_the_running_one(virtual: Virtual, seconds: float) -> None:
    """A nested scheduler added late may use jobs of the scheduler around it, and waits for them as others do."""
    a = Job(give, "outside", seconds)
    scheduler = Scheduler(a, Job(later, 1, lambda: scheduler.add(inner)))
    job = Job(take, a)
    inner = Scheduler(job)
    virtual(checked_result(scheduler))
    assert job.result() == ("outside",)
    assert inner.started_at == max(seconds, 1)


def test_late_requirement_that_an_implied_order_forbids_is_refused(virtual: Virtual) -> None:
    """A cycle by way of a nested job's input is refused at the call that would close it, as any other."""
    gate = Job(give, None, 2)
    a = Job(give, "value", label="a", required=gate)
    scheduler = Scheduler(gate, a)
    job = Job(take, a)
    inner = Scheduler(job, label="inner")

    def meddle() -> None:
        with pytest.raises(CycleError, match=r"a -> inner -> a|inner -> a -> inner"):
            a.requires(inner)

    virtual(checked_result(scheduler.update([inner, Job(later, 1, meddle)])))
    assert job.result() == ("value",)


def test_late_schedulers_that_need_each_other_are_refused(virtual: Virtual) -> None:
    """The inputs of nested schedulers of one update may imply a cycle: that is rejected too."""
    a, b = Job(give, label="a"), Job(give, label="b")
    left, right = Scheduler(a, label="left"), Scheduler(b, label="right")
    left.add(Job(take, b))
    right.add(Job(take, a))

    def meddle() -> None:
        with pytest.raises(CycleError, match=r"left -> right -> left|right -> left -> right"):
            scheduler.update([left, right])

    scheduler = Scheduler(Job(later, 1, meddle))
    virtual(checked_result(scheduler))
    assert left.scheduler is None
