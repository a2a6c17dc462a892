"""Which runs take the tokens of which limiter, and who has them; `Tokens` decides the order."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from ..admission._tokens import RunTokens, Tokens
from ..job._job import AbstractJob
from ._current import enclosing_workers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ._run import Run
    from ._worker import Worker


def use_limiter(run: Run) -> None:
    """Let the jobs of a run take tokens of its limiter, or else of the one that counts them further out, if any."""
    limiter, host = run.queue.limiter, takes_limits_of(run)
    if limiter is None and host is not None and host.run.queue.tokens is not None:
        limiter = host.run.queue.tokens.limiter  # it counts the jobs at any depth
    if limiter is not None:
        if limiter not in run.limits:
            run.limits[limiter] = Tokens(run.backend, limiter)
        run.queue.use_tokens(RunTokens(run.queue, run.limits[limiter]))


def ask_in_order(runs: list[Run]) -> None:
    """Let the jobs of runs whose pause is over ask for tokens in the order in which they became ready.

    As in a round of the admission, each run keeps its own order, and between runs a higher priority comes first.
    """
    waiting = [run.queue.tokens for run in runs if run.queue.tokens is not None]
    for each in waiting:
        each.is_held_back = True
    for each in waiting:
        each.line.admit()
    asking = [[(-one[2]._options.priority, one[1], one, each) for one in each.drain()] for each in waiting]
    for each in waiting:
        each.is_held_back = False
    for *_, entry, each in heapq.merge(*asking):
        if each.ask(entry):
            each.line.startable.append(entry[2])
            each.line.run.workers.spawn_searcher()


def takes_limits_of(run: Run) -> Worker | None:
    """Return the worker that runs the scheduler of `run` under the limits of its run.

    Return None if there is no such run, or if no limit applies, because the scheduler is a forever or clean-up job.
    """
    worker = run.outer_worker
    is_unlimited = worker is None or worker.is_shielded or worker.workers is not worker.run.workers
    return None if is_unlimited else worker


def token_holder(limiter: Any) -> AbstractJob[Any] | None:
    """Return the innermost job, from the current one outwards, that holds a token of `limiter`; None if none does."""
    workers = [worker for worker in enclosing_workers() if worker.job is not None]
    holders = {*token_holders((worker.run for worker in workers), limiter)}
    return next((worker.job for worker in workers if worker.job in holders), None)


def token_holders(runs: Iterable[Run], limiter: Any) -> Iterator[AbstractJob[Any]]:
    """Yield the jobs of these runs that hold a token of `limiter`, also those that have not begun. Any thread may ask.

    A running job may have the limiter itself, in place of the window's.
    """
    for run in runs:
        working = (worker.job for worker in list(run.workers.alive))
        yield from (job for job in working if job is not None and job._own_limiter is limiter)
        if run.queue.tokens is not None and run.queue.tokens.limiter is limiter:
            yield from list(run.queue.tokens.borrowers)
