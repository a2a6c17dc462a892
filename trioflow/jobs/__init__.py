"""Kinds of jobs that work in threads, processes, executors and commands, on this machine or on others."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # The default makes a bare `ThreadJob` mean `ThreadJob[Any]`.
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")
