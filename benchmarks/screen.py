"""The screen during a measurement: the suite's alone, since measured programs may write anything."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def alone_on_the_screen() -> Iterator[Console]:
    """Yield a console; all other output meanwhile, that of child processes included, is lost.

    An exception that leaves the block is shown as usual.
    """
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with open(os.devnull, "wb") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
    try:
        with open(kept[0], "w", encoding=sys.stdout.encoding, closefd=False) as ours:
            yield Console(file=ours)
    finally:
        for stream in streams:
            stream.flush()
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
