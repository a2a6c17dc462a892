"""What is about to go: it works for a while longer, and says what takes its place."""

from __future__ import annotations

import sys
import warnings
from typing import NamedTuple

PACKAGE = "trioflow"


class Renamed(NamedTuple):
    """The new name of a public name, and two versions: the first that warns of the old one, and the first without."""

    name: str
    since: str
    gone: str


RENAMED: dict[str, Renamed] = {}
"""Old names of `trioflow`, which still work."""


def new_name(old: str) -> str | None:
    """Return the new name for an old one, with a warning; None if there never was such a name."""
    found = RENAMED.get(old)
    if found is None:
        return None
    deprecated(f"{PACKAGE}.{old}", f"{PACKAGE}.{found.name}", since=found.since, gone=found.gone)
    return found.name


def deprecated(what: str, instead: str, *, since: str, gone: str) -> None:
    """Warn, at the line outside of trioflow that has brought us here.

    Args:
        what: what is deprecated, as users write it: "run(check=)".
        instead: what to write in its place.
        since: the first version that warns.
        gone: the first version that will not have it.

    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        level, frame = level + 1, frame.f_back
    text = f"{what} is deprecated since trioflow {since}, and gone in {gone}: write {instead}"
    warnings.warn(text, DeprecationWarning, stacklevel=level)
