"""What the jobs of one run have of pools: where a name is looked up, what a job corrects, and keys that are throttled.

Which job gets what, and when, is decided in `limits`; this is what a run has to say about it.
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
    """The pools that the jobs of one run take from."""

    __slots__ = ("_resources", "_run", "keeper")

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        # What its scheduler keeps of pools further out, and what is in its own pool.
        self._resources: Final[dict[str, Resource]] = {}
        # The innermost scheduler around its jobs that keeps what it needs.
        self.keeper: AbstractJob[Any] | None = None
        scheduler = run.scheduler
        if run.outer_worker is not None:
            kept: dict[str, Resource] = (
                scheduler._facts.grant.parts() if scheduler._facts is not None and scheduler._facts.grant else {}
            )
            self._resources.update(kept)
            self.keeper = scheduler if kept else run.outer_worker.run.grants.keeper
        if scheduler._pool is not None:
            self._resources.update(scheduler._pool._resources)

    def find(self, name: str) -> Resource:
        """Return a resource, from the nearest pool that has it, here or further out."""
        run = self._run
        while name not in run.grants._resources:
            total = run.scheduler._run_resource_totals().get(name)
            if run.outer_worker is not None and total is None:
                run = run.outer_worker.run
            else:  # other names were checked before the run
                run.grants._resources[name] = CountedResource(name, RUN_RESOURCES[name]() if total is None else total)
        return run.grants._resources[name]

    def reacquire(self, job: AbstractJob[Any]) -> None:
        """Take again what a job needs of rates, because it is called again; it does not wait for that."""
        if job._facts is not None and job._facts.grant is not None:
            job._facts.grant.reacquire()

    def correct(self, job: AbstractJob[Any], amounts: Mapping[str, Any]) -> None:
        """Count what a job says that it has used of rates.

        Raises:
            ValueError, TypeError: it has taken nothing of a name, or an amount is wrong.

        """
        grant = None if job._facts is None else job._facts.grant
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
        """Let nothing start on the keys of these throttles for their time; return what the job fails with, if it does.

        It may go on, and so fails with nothing, if it can be called again.
        """
        grant = None if job._facts is None else job._facts.grant
        for one in throttles:
            taken = None if grant is None else grant.of(one.key)
            if taken is None:
                error = ValueError(
                    f"{job.label!r} raised Throttled({one.key!r}), but needs nothing of that name: name it in needs=, "
                    f"and give its scheduler a pool that has it"
                )
                error.__cause__ = failure
                return error
            taken[0].throttle(one.after)
        why: str | None = None
        if job._is_one_shot():
            why = "was made from a coroutine object, or gives up its arguments: make it from the function"
        elif job._is_ready():
            why = "is a service, and has said that it is ready"
        elif worker not in self._run.workers.alive:
            why = "is a clean-up job, and waits for nothing"
        if why is None:
            return None
        add_note(failure, f"{job.label!r} cannot be called again after it was throttled: it {why}")
        return failure
