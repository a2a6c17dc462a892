"""The end of a run: step by step, in a task that nothing interrupts.

1. No more jobs start. Those that are running are cancelled and unwind.
2. After a critical failure or a timeout, the clean-up jobs run (`_clean_up`).
3. The forever jobs are cancelled and unwind.
4. The services are cancelled and unwind, each one before those that it uses. After `shutdown_timeout` seconds, all the
   others are cancelled together.
5. The `co_shutdown` of all jobs is called, concurrently, within `shutdown_timeout` seconds. Then the shared objects of
   the jobs are closed, within the same number of seconds again.
6. `after_run` is called.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..base._states import COMPLETED
from ..job._job import AbstractJob
from ..job._outcome import in_one_line, interruption_in
from ._clean_up import PATIENCE, CleanUp, report_stuck

if TYPE_CHECKING:
    from ..scheduler._base_scheduler import BaseScheduler
    from ._run import Run
    from ._worker import Worker

FEW_TURNS: Final = 3
"""Turns in which parked workers leave by themselves. One or two are enough, and cost less than an uninterruptible
task."""


class Ending:
    """The end of one run."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        # Jobs whose `co_shutdown` has not been called. If `_wind_up` is called again, it resumes with these.
        self._pending_shutdowns: Final = _jobs_with_shutdown(run.scheduler) if run.members.shutting_down else {}

    async def execute(self) -> None:
        """Take the steps that are listed above, in order."""
        run = self._run
        run.stop(COMPLETED)
        run.workers.dismiss_parked()
        for _ in range(FEW_TURNS if run.workers.alive else 0):
            if not run.workers.alive or any(worker.job is not None for worker in run.workers.alive):
                break
            if not await run.group.host.yield_to_loop():
                break  # the cancellation is raised when the run has ended
        if run.workers.alive or self._pending_shutdowns or run.shared_resources is not None or CleanUp.is_needed(run):
            try:
                await run.group.host.run_uninterrupted(self._wind_up)
            except (KeyboardInterrupt, SystemExit) as interruption:  # raised in the task that waited
                run.interrupt(interruption)
            except BaseException as fault:
                run.crash(fault)
        run.scheduler._note_end(run)
        run.notify("after_run")

    async def _wind_up(self) -> None:
        run = self._run
        alive = run.workers.alive
        await self._wait_until_left([worker for worker in alive if not worker.shielded])
        if CleanUp.is_needed(run):
            await CleanUp(run).execute()
        await self._end_workers([worker for worker in alive if not _runs_service(worker)])
        await self._end_services()
        await _shut_down(run, self._pending_shutdowns, run.scheduler._shutdown_timeout)
        if run.shared_resources is not None:
            await run.shared_resources.close(run.scheduler.shutdown_timeout)

    async def _end_workers(self, workers: list[Worker], deadline: float = math.inf) -> None:
        """Cancel shielded workers, and wait until they have left. Services that are ready then count as SUCCEEDED."""
        run, group, alive = self._run, self._run.group, self._run.workers.alive
        for worker in workers:
            worker.ended_by_run = worker.cancelled_alone = True
        if run.scheduler._cancels_once:
            run.cancel_once(workers)
        elif alive.keys() <= set(workers):
            group.cancel_shielded()  # all together, at a fifth of the cost
        else:
            for worker in workers:
                group.cancel_one(worker)
        await self._wait_until_left(workers, deadline)

    async def _end_services(self) -> None:
        """Cancel the live services, wave by wave: each service only after those that use it have ended."""
        alive = self._run.workers.alive
        seconds = self._run.scheduler.shutdown_timeout
        deadline = math.inf if seconds is None else self._run.clock() + seconds
        waves = self._waves([worker for worker in alive if _runs_service(worker)])
        for wave in waves:
            await self._end_workers(wave, deadline)
        await self._end_workers([worker for wave in waves for worker in wave if worker in alive])

    def _waves(self, workers: list[Worker]) -> list[list[Worker]]:
        """Sort the workers of services into waves: first those whose services no other live service requires."""
        if not workers:
            return []
        members = self._run.members
        by_service = {worker.job: worker for worker in workers}
        levels: dict[AbstractJob[Any], int] = {}  # the most live services on one path of requirements to a job
        for job in self._run.scheduler.topological_order():
            below = max((levels[requirement] for requirement in members.waits_for(job)), default=0)
            levels[job] = below + (job in by_service)
        waves: dict[int, list[Worker]] = {}
        for service, worker in by_service.items():
            assert service is not None
            waves.setdefault(levels[service], []).append(worker)
        return [waves[level] for level in sorted(waves, reverse=True)]

    async def _wait_until_left(self, workers: Iterable[Worker], deadline: float = math.inf) -> None:
        """Wait until these workers have left, or until `deadline`; report those that take long."""
        run = self._run
        patience = run.clock() + PATIENCE
        alive = run.workers.alive
        left = deque(workers)
        while run.clock() < deadline:
            while left and left[0] not in alive:  # only at the front: a scan of all at each exit would be quadratic
                left.popleft()
            if not left:
                return
            run.changed = changed = run.backend.event()
            with run.backend.scope(deadline=min(patience, deadline)):
                await changed.wait()
            if run.clock() >= patience:
                patience = math.inf
                report_stuck(run, [worker for worker in left if worker in alive])


async def shut_down_nested(run: Run, nested: BaseScheduler) -> None:
    """Shut down the jobs of a nested scheduler that `run` did not start, within its own `shutdown_timeout`."""
    await _shut_down(run, _jobs_with_shutdown(nested), nested.shutdown_timeout)


def _jobs_with_shutdown(scheduler: BaseScheduler) -> dict[AbstractJob[Any], None]:
    return {job: None for job in scheduler._members.shutting_down if job._has_shutdown()}


def _runs_service(worker: Worker) -> bool:
    return worker.job is not None and worker.job._is_service


async def _shut_down(run: Run, left: dict[AbstractJob[Any], None], seconds: float | None) -> None:
    """Call `co_shutdown` of all jobs in `left` concurrently; report those that did not end.

    Each job is removed from `left` when its call begins.
    """
    cut: dict[AbstractJob[Any], None] = {}
    deadline = math.inf if seconds is None else run.clock() + seconds
    try:
        if left:
            await run.backend.run_concurrently([partial(_shut_down_one, run, job, left, cut) for job in left], deadline)
    finally:
        for job in cut:
            why = f"did not end within shutdown_timeout={seconds} s" if run.clock() >= deadline else "was cancelled"
            run.report(job, f"co_shutdown of {job.label!r} {why}")


async def _shut_down_one(
    run: Run, job: AbstractJob[Any], left: dict[AbstractJob[Any], None], cut: dict[AbstractJob[Any], None]
) -> None:
    del left[job]
    cut[job] = None
    try:
        await job.co_shutdown()
    except BaseException as error:
        rest = run.backend.split(error)[1]
        if rest is None:
            raise
        del cut[job]
        run.report(job, f"co_shutdown of {job.label!r} raised {in_one_line(rest)}", rest)
        run.interruption = run.interruption or interruption_in(rest)
    else:
        del cut[job]
