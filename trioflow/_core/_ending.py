"""How a run ends: step after step, in a task that nothing interrupts.

1. No job starts any more; those that run are cancelled and unwind.
2. After a critical failure or a timeout, the clean-up jobs run (`_clean_up`).
3. The forever jobs are cancelled and unwind.
4. So do the services, users before what they use; all within `shutdown_timeout` seconds, then all at once.
5. Each job's `co_shutdown`, all at once, within `shutdown_timeout` seconds; then what the jobs shared is closed,
   within as many.
6. `after_run`.
"""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from . import _clean_up, _resources
from ._jobs import AbstractJob
from ._outcomes import interruption_in
from ._states import StopReason

if TYPE_CHECKING:
    from ._run import Run
    from ._scheduler import BaseScheduler
    from ._worker import Worker


async def end(run: Run) -> None:
    """Bring a run to its end, in the order above."""
    if not run.stopping:
        run.crew.dismiss_parked()
    run.stop(StopReason.COMPLETED)
    left = {job: None for job in run.scheduler._shutting_down if job._has_shutdown()}
    if run.crew.workers or left or run.resources or _clean_up.is_needed(run):
        try:
            await run.group.uninterrupted(partial(_wind_up, run, left))
        except (KeyboardInterrupt, SystemExit) as interruption:  # told to the task that waited
            run.interrupt(interruption)
        except BaseException as fault:
            run.crash(fault)
    run.scheduler._note_end(run)
    run.tell("after_run")


async def _wind_up(run: Run, left: dict[AbstractJob[Any], None]) -> None:
    """End all tasks, and shut down the jobs in `left`; called again it goes on where it was."""
    await _until_gone(run, [worker for worker in run.crew.workers if not worker.shielded])
    await _clean_up.clean_up(run)
    await _end_workers(run, [worker for worker in run.crew.workers if not _serves(worker)])
    await _end_services(run)
    await _shut_down(run, left, run.scheduler.shutdown_timeout)
    if run.resources:
        await _resources.close(run, run.scheduler.shutdown_timeout)


def _serves(worker: Worker) -> bool:
    return worker.job is not None and worker.job._is_service


async def _end_workers(run: Run, workers: list[Worker], deadline: float = math.inf) -> None:
    for worker in workers:
        worker.end_with_run()
    await _until_gone(run, workers, deadline)


async def _end_services(run: Run) -> None:
    """Cancel the services that are alive, wave after wave: none as long as another one that uses it is there."""
    seconds = run.scheduler.shutdown_timeout
    deadline = math.inf if seconds is None else run.clock() + seconds
    waves = _waves(run, [worker for worker in run.crew.workers if _serves(worker)])
    for wave in waves:
        await _end_workers(run, wave, deadline)
    await _end_workers(run, [worker for wave in waves for worker in wave if worker in run.crew.workers])


def _waves(run: Run, workers: list[Worker]) -> list[list[Worker]]:
    """Sort the workers of services: those first whose services nobody alive uses, directly or by way of others."""
    if not workers:
        return []
    by_service = {worker.job: worker for worker in workers}
    levels: dict[AbstractJob[Any], int] = {}  # how many services alive a job needs, one behind the other
    for job in run.scheduler.topological_order():
        below = max((levels[one] for one in run.scheduler._waits_for(job)), default=0)
        levels[job] = below + (job in by_service)
    waves: dict[int, list[Worker]] = {}
    for service, worker in by_service.items():
        assert service is not None
        waves.setdefault(levels[service], []).append(worker)
    return [waves[level] for level in sorted(waves, reverse=True)]


async def _until_gone(run: Run, workers: list[Worker], deadline: float = math.inf) -> None:
    """Wait until these workers have left, or until `deadline`; name those that take their time."""
    patience = run.clock() + _clean_up.PATIENCE
    here = run.crew.workers
    left = deque(workers)
    while run.clock() < deadline:
        while left and left[0] not in here:  # from the front alone: not all of them again at each that leaves
            left.popleft()
        if not left:
            return
        run.changed = run.backend.event()
        with run.backend.scope(deadline=min(patience, deadline)):
            await run.changed.wait()
        if run.clock() >= patience:
            patience = math.inf
            for worker in left:
                if worker in here and worker.job is not None and not worker.job._limits_itself:
                    run.report(worker.job, _clean_up.stuck(worker))  # a nested scheduler names its own


async def _shut_down(run: Run, left: dict[AbstractJob[Any], None], seconds: float | None) -> None:
    """Await `co_shutdown` of all jobs in `left` at once, taking each out as it begins; report those that were cut."""
    cut: dict[AbstractJob[Any], None] = {}
    deadline = math.inf if seconds is None else run.clock() + seconds
    try:
        if left:
            await run.backend.together([partial(_shut_down_one, run, job, left, cut) for job in left], deadline)
    finally:
        for job in cut:
            why = f"did not end within shutdown_timeout={seconds} s" if run.clock() >= deadline else "was cancelled"
            run.report(job, f"co_shutdown of {job.label!r} {why}")


async def shut_down_nested(run: Run, nested: BaseScheduler) -> None:
    """Shut down the jobs of a scheduler that `run` has not come to start, within the nested one's own limit."""
    await _shut_down(run, {job: None for job in nested._shutting_down if job._has_shutdown()}, nested.shutdown_timeout)


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
        run.report(job, f"co_shutdown of {job.label!r} raised {rest!r}", rest)
        run.interruption = run.interruption or interruption_in(rest)
    else:
        del cut[job]
