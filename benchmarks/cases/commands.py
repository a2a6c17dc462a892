"""The cost of a command that does nothing, or writes a kibibyte.

All processes count, so wall time is compared; the figures of a busy machine mean little.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from ..measuring import Contest, Contestant, Sample, Setting, Stopwatch
from ..plans import Plan
from ..rivals.of_commands import CommandRival, installed

WINDOW: Final = 2
PLAIN: Final = "true"
CAPTURED: Final = "1 KiB captured"
BODIES: Final = {
    PLAIN: [shutil.which("true") or "/bin/true"],
    CAPTURED: [shutil.which("head") or "/usr/bin/head", "-c", "1024", "/dev/zero"],
}


def commands(plan: Plan) -> Iterator[Contest]:
    """The same command many times in a window of two."""
    for body, command in BODIES.items():
        contestants = [
            contestant(rival, body, command, plan.commands)
            for rival in installed()
            if rival.backend in ("", *plan.backends)
            and (rival.captures or body == PLAIN)
        ]
        yield Contest("commands", contestants, plan.few_rounds)


def contestant(
    rival: CommandRival, body: str, command: Sequence[str], number: int
) -> Contestant:
    """Enter a rival, which runs its share of the commands."""
    setting = Setting(
        rival.backend, "", body, max(WINDOW, round(number * rival.share)), WINDOW
    )
    run = partial(rival.run, command, captures=body == CAPTURED, window=WINDOW)
    return Contestant(
        rival.name,
        setting,
        partial(attempt, run, setting.size),
        partial(run, number=WINDOW),
    )


def attempt(run: partial[None], number: int) -> Sample:
    """Run all, and divide the time by their number."""
    with Stopwatch() as watch:
        run(number=number)
    return {"command wall": watch.wall / number * 1e6}
