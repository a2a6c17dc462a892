"""Checks of the private parts of libraries, for fast isolation."""

from __future__ import annotations

from typing import Any


class PrivateApiMismatch(Exception):
    """A private part of a library is missing, or does not behave as fast isolation needs."""


def expect(behaves: bool, what: str) -> None:
    """Raise an error unless a private part behaves as needed."""
    if not behaves:
        raise PrivateApiMismatch(what)


def expect_parts(owner: Any, *names: str) -> None:
    """Raise an error unless a class or module has these private parts."""
    missing = [name for name in names if not hasattr(owner, name)]
    expect(not missing, f"{owner.__name__} has no {', '.join(missing)}")
