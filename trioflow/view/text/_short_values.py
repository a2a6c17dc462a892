"""Results and exceptions as one short line each. Nothing here raises, even if a value's own `__repr__` does."""

from __future__ import annotations

import itertools
import reprlib
from typing import Any, Final

LONGEST: Final = 100
"""Characters: together with what precedes it, a line of a wide terminal."""


def result(value: object) -> str:
    """Return the repr of `value`, shortened, even if it is huge, contains itself, or raises."""
    try:
        return _shortened(_SHORT.repr(value))
    except Exception:  # reprlib goes by a type's name, so a user's class called "list" misleads it
        return _shortened(_SHORT.repr_instance(value, 0))


def exception(error: BaseException, longest: int = LONGEST) -> str:
    """Return the type and the message of `error`, shortened, even if its `__str__` raises."""
    try:
        message = str(error)
    except Exception as broken:
        message = f"<its str() raised {type(broken).__name__}>"
    return _shortened(f"{type(error).__name__}: {message}" if message else type(error).__name__, longest)


class _ShortRepr(reprlib.Repr):
    """Looks only at the beginning of a collection: a result may have millions of items."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3  # with ten items each, at most a thousand items are shown
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = self.maxarray = 10
        self.maxdict = 10
        self.maxstring = self.maxlong = LONGEST

    def repr_instance(self, x: Any, level: int) -> str:
        """Show an object by its own repr, or say that its repr raised."""
        try:
            return repr(x)
        except Exception as error:
            return f"<{type(x).__name__}: its repr() raised {type(error).__name__}>"

    def repr_bytes(self, x: bytes, level: int) -> str:
        """Show the beginning: the value may be all the output of a command."""
        return repr(x[: self.maxstring]) + "..." * (len(x) > self.maxstring)

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


def _shortened(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."
