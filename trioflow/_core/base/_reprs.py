"""Values as one short line each: results in listings, arguments in errors.

Nothing here raises, even if a value's own `__repr__` or `__eq__` does, and the size of a value does not matter.
"""

from __future__ import annotations

import itertools
import re
import reprlib
from typing import Any, Final, cast

LONGEST: Final = 100
"""Characters: with its prefix, the message fits a line of a wide terminal."""
BIG: Final = 10**40
"""Writing out an integer with thousands of digits is slow, and Python rejects it."""


def short_repr(value: Any) -> str:
    """Return the repr of `value`, shortened, even if it is huge, contains itself, or raises.

    Example:
        >>> short_repr("a"), short_repr(10**400), len(short_repr("a" * 1000))
        ("'a'", '<a whole number of some 401 digits>', 100)

    """
    kind = cast(Any, type(value))
    if (kind is int and -BIG < value < BIG) or kind is float or (kind is str and len(value) < LONGEST // 2):
        return repr(value)  # at a tenth of the cost
    try:
        return beginning(_SHORT.repr(value))
    except Exception:  # reprlib goes by a type's name, so a user's class called "list" misleads it
        return beginning(_SHORT.repr_instance(value, 0))


def beginning(text: str, longest: int = LONGEST) -> str:
    """Return the beginning of a text, with an ellipsis if there is more."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


def headline(text: str) -> str:
    r"""Return the first line of a text, without a last sentence that only announces the next lines.

    Example:
        >>> headline("exit code 1: make. Its standard error ended:\nno rule")
        'exit code 1: make'

    """
    first, _, more = text.partition("\n")
    return re.sub(r"\. [^.]*:$", "", first) if more else first


def is_among(value: Any, choices: tuple[object, ...]) -> bool:
    """Return whether a value is equal to one of these; False if it cannot be compared.

    Example:
        >>> is_among("slot", (None, "slot")), is_among(1, ("wait", "end"))
        (True, False)

    """
    try:
        return value in choices
    except Exception:
        return False


class _ShortRepr(reprlib.Repr):
    """A repr that reads only the beginning of a collection: a result may have millions of items."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3  # at ten items a level, at most a thousand items are shown
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxarray = 10
        self.maxdict = 10
        self.maxstring = self.maxlong = LONGEST

    def repr_instance(self, x: Any, level: int) -> str:
        """Show an object by its own repr, or the error of that repr."""
        try:
            return repr(x)
        except Exception as error:
            return f"<{type(x).__name__}: its repr() raised {type(error).__name__}>"

    def repr_int(self, x: int, level: int) -> str:
        """Show a whole number, or its number of digits."""
        if -BIG < x < BIG:
            return repr(x)
        digits = int(x.bit_length() * 0.30103) + 1
        return f"<a whole number of some {digits} digits>"

    def repr_bytes(self, x: bytes, level: int) -> str:
        """Show the first bytes: the value may be the whole output of a command."""
        return repr(x[: self.maxstring])

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """Show the first items in their own order; reprlib would sort all keys first."""
        if level <= 0:
            return "{...}"
        items = itertools.islice(x.items(), self.maxdict)
        shown = [f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}" for key, value in items]
        return "{" + ", ".join(shown + ["..."] * (len(x) > self.maxdict)) + "}"

    def repr_set(self, x: set[Any], level: int) -> str:
        """Show some of the members, sorted; reprlib would sort all of them first."""
        return super().repr_set(set(itertools.islice(x, self.maxset + 1)), level)

    def repr_frozenset(self, x: frozenset[Any], level: int) -> str:
        """Show some of the members, sorted; reprlib would sort all of them first."""
        return super().repr_frozenset(frozenset(itertools.islice(x, self.maxfrozenset + 1)), level)


_SHORT: Final = _ShortRepr()
