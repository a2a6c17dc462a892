"""The start order of a run's ready jobs, by the policy of its scheduler.

If jobs have needs, this also sets up their admission.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from ..admission import _policies
from ..base import _graph_algorithms
from ..job._job import AnyJob

if TYPE_CHECKING:
    from ..scheduler._base_scheduler import BaseScheduler
    from ._run import Run


def may_need_order(run: Run) -> bool:
    """Return whether jobs of a run may have to start in another order than they become ready.

    Most small runs do not, so they have no `StartOrder`.
    """
    if (
        run.members.jobs_with_scheduling_options
        or run.members.nested_schedulers
        or run.outermost().durations
    ):
        return True
    return (
        _policies.BUILTIN_POLICIES[run.scheduler._policy][False]
        is not _policies.FIFO_POLICY
    )


class StartOrder:
    """The start order of a run, which is computed before any job is ready, and updated for jobs that are added."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        self._policies: Final = _policies.BUILTIN_POLICIES[run.scheduler._policy]
        # The estimated durations of nested schedulers, at any depth, or None before they are estimated.
        self._nested_durations: dict[BaseScheduler, float] | None = None

    def prepare(self) -> Iterator[None]:
        """Choose the order before any job is ready. Yield whenever a pause is due. O(V + E)."""
        members = self._run.members
        if (
            members.nested_schedulers
            and self._policies[True] is not _policies.FIFO_POLICY
        ):
            yield from self._estimate_nested()
        requirements: _policies.Requirements = members.all_requirements
        if not (members.implied_requirements or members.has_outside_requirements):
            requirements = attrgetter("_required")
        yield from self._choose_order(requirements, members.is_ordered)

    def add_jobs(self, jobs: list[AnyJob]) -> None:
        """Extend the order to jobs that were added together to the running scheduler."""
        order = self._run.line.order
        has_needs = self._run.line.admission is None and any(
            job._options.needs for job in jobs
        )
        if order is None and not (
            has_needs or any(job._options.affects_order for job in jobs)
        ):
            return
        known = self._run.scheduler._expected_durations(jobs)
        if order is not None and not (
            known and order.policy is not self._policies[True]
        ):
            order.add_jobs(jobs, known, self._run.members.all_requirements)
            if has_needs:
                self._run.line.use_order(order, has_needs)
            return
        for _ in self._choose_order(self._run.members.all_requirements, in_order=False):
            pass

    def forget(self, job: AnyJob) -> None:
        if self._nested_durations:
            self._nested_durations.pop(job, None)  # type: ignore[call-overload]
        if self._run.line.order is not None:
            self._run.line.order.forget(job)

    def _choose_order(
        self, requirements: _policies.Requirements, in_order: bool
    ) -> Iterator[None]:
        """Choose the start order, and pass it to the line. Yield whenever a pause is due.

        Args:
            requirements: returns the jobs that a member requires.
            in_order: whether each member comes after all jobs that it requires.

        """
        members = self._run.members
        options = [job._options for job in members.jobs_with_scheduling_options]
        if self._policies[True] is not _policies.FIFO_POLICY:
            known = self._known_durations(self._run.scheduler)
        else:
            known = {}
        policy = self._policies[bool(known)]
        has_needs = self._run.line.admission is not None or any(
            own.needs for own in options
        )
        has_order = has_needs or policy is not _policies.FIFO_POLICY
        has_order = has_order or any(own.priority for own in options)
        if self._run.line.order is None and not has_order:
            return
        order = _policies.StartKeys(policy, known)
        if policy.needs_ranks:
            if in_order:
                jobs = list(members.jobs)
            else:
                jobs = _graph_algorithms.topological_order(members.jobs, requirements)
            yield from order.compute_ranks(jobs, requirements)
        self._run.line.use_order(order, has_needs)

    def _known_durations(self, scheduler: BaseScheduler) -> dict[AnyJob, float]:
        """Return the expected durations of the members of a scheduler, estimated ones included, as far as known."""
        jobs = None if scheduler is self._run.scheduler else scheduler._members.jobs
        own = self._run.scheduler._expected_durations(jobs)
        estimated = self._nested_durations
        if not estimated:
            return own
        nested = scheduler._members.nested_schedulers
        return {
            **{each: estimated[each] for each in nested if each in estimated},
            **own,
        }

    def _estimate_nested(self) -> Iterator[None]:
        """Estimate the durations of nested schedulers as the length of the longest path through their jobs.

        A nested scheduler gets no estimate if none of its jobs has a known duration.
        """
        outer = None
        if self._run.outer_worker is not None:
            outer = self._run.outer_worker.run._start_order
        if outer is not None and outer._nested_durations is not None:
            self._nested_durations = outer._nested_durations
            return
        self._nested_durations = {}
        knows_some = bool(self._run.outermost().durations)
        all_nested: list[BaseScheduler] = list(self._run.members.nested_schedulers)
        # Enclosing schedulers come first.
        for nested in all_nested:
            all_nested.extend(nested._members.nested_schedulers)
            knows_some |= bool(nested._members.jobs_with_scheduling_options)
        if not knows_some:
            return
        for nested in reversed(all_nested):
            members = nested._members
            known = self._known_durations(nested)
            if known:
                order = _policies.StartKeys(_policies.CRITICAL_PATH_POLICY, known)
                jobs = _graph_algorithms.topological_order(
                    members.jobs, members.all_requirements
                )
                yield from order.compute_ranks(jobs, members.all_requirements)
                self._nested_durations[nested] = max(order.ranks.values())
