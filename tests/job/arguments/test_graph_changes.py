"""Changes of a graph whose jobs have inputs: removals, and jobs that are added during a run."""

import pytest
from trioflow import CycleError, Job, MissingRequirement, Scheduler
from ...bodies import checked_result, give, later, take
from ...conftest import Virtual


# --- changing the graph
def test_removing_an_input_from_the_requirements_raises() -> None:
    a, b = Job(give, label="a"), Job(give)
    job = Job(take, a, label="user", required=b)
    with pytest.raises(ValueError, match=r"'user'.*'a'.*ref\(job\)"):
        job.requires(b, a, remove=True)
    assert list(job.required) == [a, b]
    job.requires(a)
    assert list(job.required) == [a, b]


def test_sanitize_keeps_inputs(virtual: Virtual) -> None:
    a, b, stray = Job(give, "a"), Job(give, "b"), Job(give)
    job = Job(take, a, b, required=stray)
    scheduler = Scheduler(a, Scheduler(b), job)
    assert scheduler.sanitize() == [(job, stray)]
    assert list(job.required) == [a, b]
    virtual(checked_result(scheduler))
    assert job.result() == ("a", "b")


def test_a_run_with_a_removed_input_raises_missing_requirement_with_advice() -> None:
    a = Job(give, label="a")
    scheduler = Scheduler(Job(take, a, label="user"))
    scheduler.remove(a)
    with pytest.raises(MissingRequirement, match=r"'user'.*'a'.*add") as caught:
        scheduler.run()
    assert "sanitize()" not in str(caught.value)


# --- during a run
@pytest.mark.parametrize("change", ["its user is removed", "its user moves out", "it moves in"])
def test_groups_wait_for_each_other_only_while_one_has_an_input_in_the_other(virtual: Virtual, change: str) -> None:
    source, other = Job(give, 1, 5), Job(give, 2, 1)
    user = Job(take, source)
    first, second = Scheduler(source), Scheduler(user, other)
    scheduler = Scheduler(first, second)
    virtual(checked_result(scheduler))
    assert other.started_at == 5
    home, job, place = (first, source, second) if change == "it moves in" else (second, user, first)
    home.remove(job)
    if change != "its user is removed":
        place.add(job)
    virtual(checked_result(scheduler))
    assert other.started_at == 0


def test_a_job_added_late_may_use_a_settled_job_of_a_nested_scheduler(virtual: Virtual) -> None:
    a = Job(give, "inside")
    job = Job(take, a)
    inner = Scheduler(a)
    scheduler = Scheduler(inner, Job(later, 2, lambda: scheduler.add(job)))
    virtual(checked_result(scheduler))
    assert job.result() == ("inside",)


def test_a_job_added_late_waits_for_the_nested_scheduler_of_its_input(virtual: Virtual) -> None:
    a = Job(give, "inside", 5)
    job = Job(take, a)
    inner = Scheduler(a)
    scheduler = Scheduler(inner, Job(later, 2, lambda: scheduler.add(job)))
    virtual(checked_result(scheduler))
    assert job.result() == ("inside",)
    assert job.started_at == inner.finished_at == 5


def test_adding_a_job_late_with_an_unsettled_input_outside_raises(virtual: Virtual) -> None:
    a = Job(give, None, 5, label="a")
    job = Job(take, a, label="user")

    def meddle() -> None:
        with pytest.raises(ValueError, match=r"'user'.*'a'.*not settled"):
            inner.add(job)

    inner = Scheduler(Job(later, 2, meddle))
    virtual(checked_result(Scheduler(a, inner)))
    assert job.scheduler is None


@pytest.mark.parametrize("seconds", [0.5, 3], ids=["settled", "running"])
def test_a_nested_scheduler_added_late_may_use_results_of_the_enclosing_one(virtual: Virtual, seconds: float) -> None:
    a = Job(give, "outside", seconds)
    scheduler = Scheduler(a, Job(later, 1, lambda: scheduler.add(inner)))
    job = Job(take, a)
    inner = Scheduler(job)
    virtual(checked_result(scheduler))
    assert job.result() == ("outside",)
    assert inner.started_at == max(seconds, 1)


def test_adding_a_requirement_that_closes_a_cycle_of_implied_order_raises(virtual: Virtual) -> None:
    """A nested scheduler must follow the inputs of its jobs, and `requires()` rejects the opposite order at once."""
    gate = Job(give, None, 2)
    a = Job(give, "value", label="a", required=gate)
    scheduler = Scheduler(gate, a)
    job = Job(take, a)
    inner = Scheduler(job, label="inner")

    def meddle() -> None:
        with pytest.raises(CycleError, match=r"a requires inner requires a|inner requires a requires inner"):
            a.requires(inner)

    virtual(checked_result(scheduler.update([inner, Job(later, 1, meddle)])))
    assert job.result() == ("value",)


def test_adding_schedulers_whose_inputs_imply_a_cycle_raises(virtual: Virtual) -> None:
    a, b = Job(give, label="a"), Job(give, label="b")
    left, right = Scheduler(a, label="left"), Scheduler(b, label="right")
    left.add(Job(take, b))
    right.add(Job(take, a))

    def meddle() -> None:
        with pytest.raises(CycleError, match="left requires right requires left"):
            scheduler.update([left, right])

    scheduler = Scheduler(Job(later, 1, meddle))
    virtual(checked_result(scheduler))
    assert left.scheduler is None
