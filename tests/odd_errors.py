"""Exceptions whose classes have code of their own, which raises or misleads: for the engine, and for all views."""

from collections.abc import Callable
from typing import Any
from trioflow import RequirementFailed


def refuse(*_: Any) -> Any:
    raise OSError("code of the user's")


class Mute(RuntimeError):
    __str__ = __repr__ = refuse


class MuteType(TypeError):
    """A TypeError, a type that calls for an explanation, whose str, repr and `add_note` raise."""

    __str__ = __repr__ = refuse
    add_note = refuse


class Closed(Exception):
    """An exception that takes no notes."""

    @property
    def __notes__(self) -> Any:
        raise OSError("code of the user's")

    add_note = refuse


def overriding(name: str) -> type[Exception]:
    """Return an exception class with an attribute of its own in place of a part of each exception."""
    return type(f"Own{name.strip('_').title()}", (Exception,), {name: property(refuse)})


PARTS = (
    "args", "__cause__", "__context__", "__suppress_context__", "__traceback__", "__notes__", "exceptions",
    "returncode",
)  # fmt: skip


class Unlikely(Exception):
    """An exception that cannot be compared, hashed, tested or changed."""

    __eq__ = __hash__ = __bool__ = __setattr__ = with_traceback = refuse  # type: ignore[assignment]


class Text(str):
    split = __len__ = __format__ = refuse  # type: ignore[assignment]


class Textual(Exception):
    def __str__(self) -> str:
        return Text("odd")


class Unblocked(RequirementFailed):
    """An exception like those of the engine, but without the arguments and the cause."""

    __cause__ = property(refuse)  # type: ignore[assignment]

    def __init__(self) -> None:
        Exception.__init__(self, "odd")


class OddGroup(ExceptionGroup[Exception]):
    """An exception group that cannot be split."""

    derive = split = subgroup = refuse  # type: ignore[assignment]
    __str__ = __repr__ = refuse


class OddBaseGroup(BaseExceptionGroup[BaseException]):
    """An exception group that cannot be split, and may hold cancellations."""

    derive = split = subgroup = refuse  # type: ignore[assignment]


class Silent:
    """An object without a repr that a function returns instead of an awaitable."""

    __repr__ = refuse


class Faceless:
    @property
    def __class__(self) -> Any:
        raise OSError("code of the user's")


MAKERS: dict[str, Callable[[], BaseException]] = {
    "text": Mute,
    "type": MuteType,
    "notes": Closed,
    "argument": lambda: RuntimeError(Silent()),
    "cause": lambda: _caused(Mute()),
    "group": lambda: OddGroup("odd", [Mute(), Closed()]),
    "inside": lambda: ExceptionGroup("even", [OddGroup("odd", [Mute()])]),
    "base": lambda: OddBaseGroup("odd", [Mute()]),
    "unlikely": Unlikely,
    "textual": Textual,
    "unblocked": Unblocked,
    "syntax": lambda: SyntaxError("odd", (5, "a", None, 7)),  # type: ignore[arg-type]
    "circle": lambda: _caused_by_itself(OSError("circle")),
    **{part: overriding(part) for part in PARTS},
}


def _caused(cause: BaseException) -> BaseException:
    error = OSError("caused")
    error.__cause__ = cause
    return error


def _caused_by_itself(error: BaseException) -> BaseException:
    error.__cause__ = _caused(error)
    return error
