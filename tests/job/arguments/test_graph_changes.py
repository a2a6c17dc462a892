"""Changes of a graph whose jobs have inputs: removals, and jobs that are added during a run."""

from typing import Any
import pytest
from trioflow import CycleError, Job, MissingRequirement, Scheduler, Sequence
from trioflow._core.scheduler._checks import store_implied_requirements
from trioflow.graph import topological_order
from trioflow.view import listing
from ...bodies import checked_result, give, later, take
from ...conftest import FRAMES, Virtual


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
@pytest.mark.parametrize(
    "change", ["its user is removed", "its user moves out", "it moves in"]
)
def test_groups_wait_for_each_other_only_while_one_has_an_input_in_the_other(
    virtual: Virtual, change: str
) -> None:
    source, other = Job(give, 1, 5), Job(give, 2, 1)
    user = Job(take, source)
    first, second = Scheduler(source), Scheduler(user, other)
    scheduler = Scheduler(first, second)
    virtual(checked_result(scheduler))
    assert other.started_at == 5
    home, job, place = (
        (first, source, second) if change == "it moves in" else (second, user, first)
    )
    home.remove(job)
    if change != "its user is removed":
        place.add(job)
    virtual(checked_result(scheduler))
    assert other.started_at == 0


@pytest.mark.parametrize("seconds", [1, 5], ids=["settled", "running"])
def test_a_job_added_late_waits_for_the_nested_scheduler_of_its_input(
    virtual: Virtual, seconds: float
) -> None:
    a = Job(give, "inside", seconds)
    job = Job(take, a)
    inner = Scheduler(a)
    scheduler = Scheduler(inner, Job(later, 2, lambda: scheduler.add(job)))
    virtual(checked_result(scheduler))
    assert job.result() == ("inside",)
    assert job.started_at == max(seconds, 2)


def test_adding_a_job_late_with_an_unsettled_input_outside_raises(
    virtual: Virtual,
) -> None:
    a = Job(give, None, 5, label="a")
    job = Job(take, a, label="user")

    def meddle() -> None:
        with pytest.raises(ValueError, match=r"'user'.*'a'.*not settled"):
            inner.add(job)

    inner = Scheduler(Job(later, 2, meddle))
    virtual(checked_result(Scheduler(a, inner)))
    assert job.scheduler is None


@pytest.mark.parametrize("seconds", [0.5, 3], ids=["settled", "running"])
def test_a_nested_scheduler_added_late_may_use_results_of_the_enclosing_one(
    virtual: Virtual, seconds: float
) -> None:
    a = Job(give, "outside", seconds)
    scheduler = Scheduler(a, Job(later, 1, lambda: scheduler.add(inner)))
    job = Job(take, a)
    inner = Scheduler(job)
    virtual(checked_result(scheduler))
    assert job.result() == ("outside",)
    assert inner.started_at == max(seconds, 1)


def test_adding_a_requirement_that_closes_a_cycle_of_implied_order_raises(
    virtual: Virtual,
) -> None:
    """A nested scheduler must follow the inputs of its jobs, and `requires()` rejects the opposite order at once."""
    gate = Job(give, None, 2)
    a = Job(give, "value", label="a", required=gate)
    scheduler = Scheduler(gate, a)
    job = Job(take, a)
    inner = Scheduler(job, label="inner")

    def meddle() -> None:
        with pytest.raises(
            CycleError,
            match=r"a requires inner requires a|inner requires a requires inner",
        ):
            a.requires(inner)

    virtual(checked_result(scheduler.update([inner, Job(later, 1, meddle)])))
    assert job.result() == ("value",)


def left_and_right() -> tuple[Scheduler, Scheduler]:
    """Return two schedulers of which each uses what is in the other."""
    a, b = Job(give, label="a"), Job(give, label="b")
    left, right = Scheduler(a, label="left"), Scheduler(b, label="right")
    left.add(Job(take, b))
    right.add(Job(take, a))
    return left, right


def test_adding_schedulers_whose_inputs_imply_a_cycle_raises(virtual: Virtual) -> None:
    left, right = left_and_right()

    def meddle() -> None:
        with pytest.raises(CycleError, match="left requires right requires left"):
            scheduler.update([left, right])

    scheduler = Scheduler(Job(later, 1, meddle))
    virtual(checked_result(scheduler))
    assert left.scheduler is None


# --- inputs of a job that are added with it, or that are in its own, an enclosing or another nested scheduler
# --- added with the job
def scheduler_with(how: str, job: Job[Any]) -> Scheduler:
    if how == "constructor":
        return Scheduler(job)
    if how == "sequence":
        return Scheduler(Sequence(job))
    scheduler = Scheduler()
    if how == "add":
        assert scheduler.add(job) is job
    elif how == "update":
        scheduler.update([job])
    else:
        Job(take, job, scheduler=scheduler)
    return scheduler


@pytest.mark.parametrize("how", ["constructor", "sequence", "add", "update", "option"])
def test_inputs_are_added_before_the_job_that_uses_them(how: str) -> None:
    a, b, c = (Job(give, label=label) for label in "abc")
    ab = Job(take, a, b, label="ab")
    job = Job(take, c, [ab], a, label="job")
    scheduler = scheduler_with(how, job)
    assert list(scheduler)[:5] == [c, a, b, ab, job]
    assert all(one.scheduler is scheduler for one in (a, b, c, ab, job))


def test_update_adds_the_inputs_of_each_job_directly_before_it() -> None:
    """But not its requirements."""
    a, b, c = Job(give), Job(give), Job(give)
    first, second, third = Job(take, a, required=c), Job(give), Job(take, b, a)
    scheduler = Scheduler()
    assert list(scheduler.update([first, second, third])) == [
        a,
        first,
        second,
        b,
        third,
    ]
    assert scheduler.is_runnable() is False


@pytest.mark.usefixtures("few_frames")
def test_adding_a_job_adds_a_long_chain_of_inputs(virtual: Virtual) -> None:
    job: Job[Any] = Job(give, 0, 0)
    for _ in range(FRAMES):
        job = Job(give, job, 0)
    scheduler = Scheduler(job)
    assert len(scheduler) == FRAMES + 1
    virtual(checked_result(scheduler))
    assert job.result() == 0


def test_adding_an_input_that_is_in_another_scheduler_raises() -> None:
    a, stray = Job(give, label="a"), Job(give)
    inner = Scheduler(Job(take, a, label="user"), label="inner")
    with pytest.raises(
        ValueError,
        match=r"'a' is in .* 'inner'.*an input of 'user'; remove this add\(\), or",
    ):
        Scheduler().add(a)
    Scheduler(stray)
    with pytest.raises(ValueError, match="remove it there first"):
        Scheduler(a, inner, stray)
    assert a.scheduler is inner
    inner.add(a)
    assert len(inner) == 2


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("deep", [False, True])
def test_an_input_moves_to_the_enclosing_scheduler_that_lists_it(
    virtual: Virtual, is_first: bool, deep: bool
) -> None:
    b = Job(give, "b")
    a = Job(take, b, label="a")
    user = Job(take, a)
    inner = Scheduler(Scheduler(user) if deep else user)
    beside = Job(take, a)
    outer = Scheduler(*([a, beside, inner] if is_first else [inner, a, beside]))
    assert list(outer) == ([b, a, beside, inner] if is_first else [inner, b, a, beside])
    assert len(inner) == 1
    virtual(checked_result(outer))
    assert user.result() == beside.result() == (("b",),)


def test_adding_an_input_to_the_enclosing_scheduler_moves_it_unless_a_run_is_on(
    virtual: Virtual,
) -> None:
    a = Job(give, "a", label="a")
    user = Job(take, a)
    inner = Scheduler(user)
    outer = Scheduler(inner)
    outer.add(a)
    assert list(outer) == [inner, a]
    virtual(checked_result(outer))
    assert user.result() == ("a",)
    moved = Job(give, label="moved")
    nested = Scheduler(Job(take, moved))
    late = Job(later, 1, lambda: outer.update([moved, nested]))
    outer.add(late)
    virtual(outer.co_run)
    assert "'moved' is in" in str(late.raised_exception())
    assert moved.scheduler is nested


def test_an_input_of_two_jobs_is_added_to_one_scheduler_only() -> None:
    a = Job(give)
    first = Scheduler(Job(take, a))
    second = Scheduler(Job(take, a))
    assert a.scheduler is first
    assert a not in second


def test_inputs_added_during_a_run_are_dropped_without_keep_jobs(
    virtual: Virtual,
) -> None:
    scheduler = Scheduler(keep_jobs=False)
    scheduler.add(Job(later, 1, lambda: scheduler.add(Job(take, Job(give, label="a")))))
    virtual(checked_result(scheduler))
    assert len(scheduler) == 1


def test_an_input_in_the_same_scheduler_implies_no_further_requirement() -> None:
    scheduler = Scheduler(Job(take, Job(give)))
    store_implied_requirements(scheduler)
    assert (
        scheduler._members.implied_requirements,
        scheduler._members.users_outside,
    ) == ({}, {})


def test_a_rejected_update_adds_no_inputs() -> None:
    a, elsewhere = Job(give), Job(give)
    Scheduler(elsewhere)
    scheduler = Scheduler()
    with pytest.raises(ValueError, match="remove it there first"):
        scheduler.update([Job(take, a), elsewhere])
    assert len(scheduler) == 0
    assert a.scheduler is None


def test_adding_a_job_during_a_run_adds_its_inputs(virtual: Virtual) -> None:
    a = Job(give, "late")
    job = Job(take, a)
    scheduler = Scheduler(Job(later, 1, lambda: scheduler.add(job)))
    virtual(checked_result(scheduler))
    assert list(scheduler)[1:] == [a, job]
    assert job.result() == ("late",)


# --- in another scheduler of the same scenario
def test_topological_order_respects_inputs_across_levels() -> None:
    a, b = Job(give, label="a"), Job(give, label="b")
    left = Scheduler(a, label="left")
    right = Scheduler(Job(take, a), label="right")
    outer = Scheduler(right, left, b)
    left.add(Job(take, b))
    assert topological_order(outer) == [b, left, right]
    listed = listing(outer)
    assert listed.index(" b>") < listed.index(" left>") < listed.index(" right>")


def test_cycle_that_inputs_imply_raises_with_its_members() -> None:
    outer = Scheduler(left_and_right())
    assert outer.is_runnable() is False
    with pytest.raises(CycleError, match="left requires right requires left") as caught:
        topological_order(outer)
    assert set(caught.value.cycle) == set(outer)


def test_cycle_of_an_input_and_a_requirement_raises_before_the_run(
    virtual: Virtual,
) -> None:
    """A scheduler cannot require a job that uses a result from inside that scheduler: the run raises CycleError."""
    a = Job(give, label="a")
    inner = Scheduler(a, label="inner")
    job = Job(take, a, label="job")
    inner.requires(job)
    with pytest.raises(
        CycleError,
        match=r"inner requires job requires inner|job requires inner requires job",
    ):
        virtual(Scheduler(inner, job).co_run)
    assert a.is_idle()


def test_a_run_with_an_input_in_an_unrelated_scheduler_raises(virtual: Virtual) -> None:
    a, first = Job(give, label="a"), Job(give)
    Scheduler(a, label="elsewhere")
    scheduler = Scheduler(first, Scheduler(Job(take, a, label="user"), label="home"))
    with pytest.raises(
        MissingRequirement,
        match=r"'user' in 'home' requires 'a', which is in 'elsewhere'",
    ):
        virtual(scheduler.co_run)
    assert first.is_idle()


@pytest.mark.parametrize("checked", ["never", "alone", "as a group"])
def test_running_a_nested_scheduler_alone_with_an_unsettled_outer_input_raises(
    virtual: Virtual, checked: str
) -> None:
    a = Job(give, "outside", label="a")
    outer = Scheduler(a)
    job = Job(take, a, label="user")
    inner = Scheduler(job, label="inner", scheduler=outer)
    if checked != "never":
        assert (inner if checked == "alone" else outer).is_runnable() is (
            checked == "as a group"
        )
    with pytest.raises(ValueError, match=r"'user'.*'a'.*not settled"):
        virtual(inner.co_run)
    virtual(checked_result(outer))
    virtual(checked_result(inner))
    assert job.result() == ("outside",)
