"""The law for one seed: its run, what each reader was told of it, and what the next run restores."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import anyio
from trioflow.testing import run_virtual
from ..model.real import IN_MEMORY
from .doors import Doors, Loops, run
from .readers import Log, Readers, duration_differences, journal_differences
from .worlds import World

CUT_OFF_AFTER = 4.3
"""The seconds after which an earlier run is cut off that has begun the journal."""
LOOKS_EVERY = (1, 25, 25, 25, 25, 25, 25, 25)
"""How many events of jobs lie between two looks at a run, by the seed."""
REPORTS_EVERY = 8


def broken_by(seed: int, backend: str) -> list[str]:
    """Return in words what breaks the law in the run of a seed; nothing if all is well."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        return [*_broken_by(seed, backend, Path(folder))]


def _broken_by(seed: int, backend: str, folder: Path) -> Iterator[str]:
    journal, durations = str(folder / "run.db"), folder / "durations.json"
    world = World(str(seed), journal)
    if world.plan.is_begun:
        earlier = World(str(seed), journal)

        async def begin() -> None:
            with anyio.move_on_after(CUT_OFF_AFTER):
                await earlier.scheduler.co_run()

        with logged():
            run_virtual(begin, backend=backend)
        world.bodies.results.update(earlier.bodies.results)
    world.scheduler.durations = durations
    doors, loops = Doors(world, str(seed)), Loops(world, str(seed))
    readers = Readers(
        world, folder, looks_every=LOOKS_EVERY[seed // 2 % len(LOOKS_EVERY)], has_report=seed % REPORTS_EVERY == 0
    )
    with logged(readers.log), world.story.recorded():
        run_virtual(run, world, doors, loops, readers.instruments, backend=backend)
    yield from readers.differences(loops)
    if world.plan.keeps_jobs:
        yield from duration_differences(world, durations)
    if world.plan.has_journal:
        after = World(str(seed), journal, is_mended=True, results=world.bodies.results)
        with logged(), after.story.recorded():
            run_virtual(run, after, None, None, [], backend=backend)
        yield from journal_differences(world, after)


@contextmanager
def logged(log: Log | None = None) -> Iterator[None]:
    """Let this handler alone get the log of the package."""
    logger = logging.getLogger("trioflow")
    handlers, propagates = [*logger.handlers], logger.propagate
    logger.handlers, logger.propagate = [log or logging.NullHandler()], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagates
