"""The views: a scheduler, or the record of its run, as text, pictures, pages and files."""

import typing as _typing

from ._save import listing as listing
from ._save import save as save

if _typing.TYPE_CHECKING:
    from ..simulation._simulate import Simulation as Simulation
    from .trace._spans import Span as Span
    from .trace._spans import Wait as Wait
    from .trace._time_spent import FamilyTime as FamilyTime
    from .trace._time_spent import TimeSpent as TimeSpent

listing.__module__ = save.__module__ = __name__

_LAZY_NAMES = {
    "FamilyTime": ".trace._time_spent",
    "Simulation": "..simulation._simulate",
    "Span": ".trace._spans",
    "TimeSpent": ".trace._time_spent",
    "Wait": ".trace._spans",
}
"""The classes of what views and `simulate` return, with their modules, which are imported on first use."""

__all__ = ["FamilyTime", "Simulation", "Span", "TimeSpent", "Wait", "listing", "save"]


def __getattr__(name: str) -> _typing.Any:
    """Import a public name on first use (PEP 562).

    Raises:
        AttributeError: there is no such name.

    """
    if name not in _LAZY_NAMES:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}", name=name
        )
    import importlib

    public = getattr(importlib.import_module(_LAZY_NAMES[name], __name__), name)
    public.__module__ = __name__
    globals()[name] = public
    return public
