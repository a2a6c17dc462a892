"""The pools of one run: the look-up of names, corrections by jobs, and throttled keys.

The package `limits` decides on the grants; this is the run's part.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..admission._rate import RateResource
from ..admission._resource import CountedResource
from ..base import _amounts
from ..base._reprs import shown
from ..job._job_options import RUN_RESOURCES
from ..job._outcome import add_note

if TYPE_CHECKING:
    from ..admission._resource import Resource
    from ..job._errors import Throttled
    from ..job._job import AbstractJob
    from ._run import Run
    from ._worker import Worker


class RunPools:
    """The pools of the jobs of one run."""

    __slots__ = ("_resources", "_run", "keeper")

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        # The share of its scheduler in pools of enclosing ones, and its own pool.
        self._resources: Final[dict[str, Resource]] = {}
        # The innermost scheduler with needs that encloses its jobs.
        self.keeper: AbstractJob[Any] | None = None
        scheduler = run.scheduler
        if run.outer_worker is not None:
            grant = scheduler._grant()
            kept: dict[str, Resource] = {} if grant is None else grant.parts()
            self._resources.update(kept)
            self.keeper = scheduler if kept else run.outer_worker.run.pools.keeper
        if scheduler._pool is not None:
            self._resources.update(scheduler._pool._resources)

    def find(self, name: str) -> Resource:
        """Return a resource, from the nearest pool that has it, of this run or an enclosing one."""
        run = self._run
        while name not in run.pools._resources:
            total = run.scheduler._run_resource_totals().get(name)
            if run.outer_worker is not None and total is None:
                run = run.outer_worker.run
            else:  # other names were checked before the run
                run.pools._resources[name] = CountedResource(name, RUN_RESOURCES[name]() if total is None else total)
        return run.pools._resources[name]

    def reacquire(self, job: AbstractJob[Any]) -> None:
        """Take a job's needs of rates again, for a further call, without waiting."""
        if (grant := job._grant()) is not None:
            grant.reacquire()

    def correct(self, job: AbstractJob[Any], amounts: Mapping[str, Any]) -> None:
        """Account for a job's report of its use of rates.

        Raises:
            ValueError, TypeError: the job does not need a name, or an amount is wrong.

        """
        grant = job._grant()
        corrections: list[Callable[[], None]] = []
        for name, given in amounts.items():
            what = f"used({name}={shown(given)}) of {job.label!r}"
            taken = None if grant is None else grant.of(name)
            if taken is None:
                raise ValueError(f"{what}: it needs nothing of that name; name it in needs= first")
            resource, has = taken
            if not isinstance(resource, RateResource):
                raise ValueError(
                    f"{what}: that is not a Rate; what is taken of it is given back when the job has settled"
                )
            used = resource.used(_amounts.amount_or_parts(given, what), what)
            corrections.append(partial(self._correct, resource, has, used))
        in_thread = threading.get_ident() != self._run.thread
        for correct in corrections:
            if in_thread:
                self._run.queue.jobs.sharing.call_in_loop(correct)
            else:
                correct()

    def _correct(self, resource: RateResource, has: Any, used: Any) -> None:
        resource.correct(has, used)
        self._run.queue.jobs.sharing.note_change()

    def throttle(
        self, worker: Worker, job: AbstractJob[Any], throttles: Iterable[Throttled], failure: BaseException
    ) -> BaseException | None:
        """Hold up all starts on the keys of these throttles; return the exception with which the job fails, or None.

        A job that can be called again does not fail.
        """
        grant = job._grant()
        for throttle in throttles:
            taken = None if grant is None else grant.of(throttle.key)
            if taken is None:
                error = ValueError(
                    f"{job.label!r} raised Throttled({throttle.key!r}), but needs nothing of that name: name it "
                    f"in needs=, and give its scheduler a pool that has it"
                )
                error.__cause__ = failure
                return error
            taken[0].throttle(throttle.after)
            self._run.queue.jobs.sharing.note_change()
        why: str | None = None
        if job._is_one_shot():
            why = "was made from a coroutine object, or gives up its arguments: make it from the function"
        elif job._is_ready():
            why = "is a service, and has reported that it is ready"
        elif worker not in self._run.workers.alive:
            why = "is a clean-up job, and does not wait"
        if why is None:
            return None
        add_note(failure, f"{job.label!r} cannot be called again after it was throttled: it {why}")
        return failure
