"""Windows, which limit how many jobs run at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from ..base import _amounts
from ..job import _job_options

if TYPE_CHECKING:
    from ..backend import CapacityLimiter

    Window: TypeAlias = "int | VariableWindow | CapacityLimiter"


class VariableWindow:
    """A window whose size changes during a run, between two sizes: a part of the run sets it."""

    def __init__(self, minimum: int, maximum: int) -> None:
        self._minimum: Final = minimum
        self._maximum: Final = maximum

    @property
    def minimum(self) -> int:
        """The smallest size. A run begins with it."""
        return self._minimum

    @property
    def maximum(self) -> int:
        """The largest size."""
        return self._maximum

    _make_part: Any
    """A method of a subclass, which returns the part of a run that sets the number of slots."""


def check_window(
    value: object, name: str, subject: _job_options.Subject
) -> Window | None:
    """Check the value of a window option, and return it. For 0, return None, which means no limit.

    Raises:
        TypeError: the value has the wrong type.
        ValueError: the value is negative.

    """
    if (
        value is None
        or isinstance(value, VariableWindow)
        or hasattr(value, "acquire_on_behalf_of")
    ):
        return cast("Window | None", value)
    value = _amounts.plain_number(value)
    advice = "give a positive whole number, None or 0 for no limit, a CapacityLimiter or an Adaptive"
    if isinstance(value, int) and not isinstance(value, bool):
        if value >= 0:
            return value or None
        raise _job_options.bad_value_error(ValueError, value, name, subject, advice)
    raise _job_options.bad_value_error(TypeError, value, name, subject, advice)


def is_limiter(window: object) -> bool:
    """Return whether a window is a limiter, whose tokens are taken by jobs at any depth."""
    return window is not None and not isinstance(window, (int, VariableWindow))


def max_slots(window: Window | None) -> int | None:
    """Return the largest number of jobs that a window lets run at once, or None for no limit."""
    if isinstance(window, VariableWindow):
        return window.maximum
    tokens = (
        window if window is None or isinstance(window, int) else window.total_tokens
    )
    if tokens is None or tokens == math.inf:
        return None
    return int(tokens)
