"""Functions that read the parts of an exception as Python itself does, even if its class overrides the attributes.

A user-defined class may have an attribute of its own named like a part, such as `args`, and reading it may raise.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

_base: Final[Any] = BaseException
_group: Final[Any] = BaseExceptionGroup

get_args: Final[Callable[[BaseException], tuple[Any, ...]]] = _base.args.__get__
get_cause: Final[Callable[[BaseException], BaseException | None]] = _base.__cause__.__get__
get_context: Final[Callable[[BaseException], BaseException | None]] = _base.__context__.__get__
get_traceback: Final[Callable[[BaseException], TracebackType | None]] = _base.__traceback__.__get__
set_traceback: Final[Callable[[BaseException, TracebackType | None], None]] = _base.__traceback__.__set__
get_group_message: Final[Callable[[BaseExceptionGroup[Any]], str]] = _group.message.__get__
_get_members: Final[Callable[[BaseException], tuple[BaseException, ...]]] = _group.exceptions.__get__


def get_group_members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions in a group; an empty tuple if `error` is not a group."""
    return _get_members(error) if BaseExceptionGroup in type(error).__mro__ else ()


def with_traceback(error: BaseException, traceback: TracebackType | None) -> BaseException:
    set_traceback(error, traceback)
    return error
