"""Ways to do work other than by awaiting it, each a kind of job."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # with a default, so that `ThreadJob` alone stands for one with any result
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")
