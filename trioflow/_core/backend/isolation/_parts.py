"""Private parts of libraries: what the fast ways ask of them when they are imported."""

from __future__ import annotations

from typing import Any


class PartsDifferError(Exception):
    """A private part of a library is missing, or does not behave as the fast way uses it."""


def expect(behaves: bool, what: str) -> None:
    """Raise an error unless a private part behaves as it is used."""
    if not behaves:
        raise PartsDifferError(what)


def expect_parts(owner: Any, *names: str) -> None:
    """Raise an error unless a class or module has these private parts."""
    missing = [name for name in names if not hasattr(owner, name)]
    expect(not missing, f"{owner.__name__} has no {', '.join(missing)}")
