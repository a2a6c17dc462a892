"""The parts that a run may have; see `Part` in `run/_part`. A run gets them when it is made, and knows none by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..admission._window import Adaptive
from ._adaptive_window import AdaptiveWindow
from ._first_rule import FirstRule
from ._idle_timeout import IdleTimeout
from ._settled_calls import SettledCalls

if TYPE_CHECKING:
    from ..run._part import Part
    from ..run._run import Run


def make_parts(run: Run, window: Any) -> tuple[Part, ...]:
    """Return the parts that the options of a run ask for, in the order in which the run asks them."""
    scheduler = run.scheduler
    parts: list[Part] = []
    if isinstance(window, Adaptive):  # it comes first, so that the others see the new size
        parts.append(AdaptiveWindow(run, window))
    if scheduler._enough is not None:
        parts.append(FirstRule(run, scheduler._enough, scheduler._stagger))
    if scheduler._on_settled is not None:
        parts.append(SettledCalls(run, scheduler._on_settled))
    if scheduler._options.idle_timeout is not None:
        parts.append(IdleTimeout(run, scheduler._options.idle_timeout))
    return tuple(parts)
