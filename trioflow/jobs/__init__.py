"""Kinds of jobs that do their work in threads, processes, executors and commands, here or on other machines."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # with a default, so that a bare `ThreadJob` means `ThreadJob[Any]`
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")
