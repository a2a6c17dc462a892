"""JSON by msgspec, which is imported at the first use: `from trioflow import *` works without the extra `journal`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .._core.api.journals import JournalError


def encode(value: Any) -> bytes:
    """Return a value of JSON's own types as text in UTF-8."""
    return encoder()(value)


def decode(text: str | bytes) -> Any:
    """Return the value of a text."""
    return _decoder()(text)


def to_builtins(value: Any) -> Any:
    """Return a date, a time, a UUID or a decimal as text."""
    return library().to_builtins(value)


def convert(value: Any, kind: Any) -> Any:
    """Return the value of this kind that `to_builtins` has made a text of."""
    return library().convert(value, kind)


@functools.cache
def encoder() -> Callable[[Any], bytes]:
    """Return `encode` itself, for those who call it often."""
    found: Callable[[Any], bytes] = library().json.Encoder().encode
    return found


@functools.cache
def _decoder() -> Callable[[str | bytes], Any]:
    found: Callable[[str | bytes], Any] = library().json.Decoder().decode
    return found


def library() -> Any:
    """Return msgspec, or raise `JournalError` that says how to install it."""
    try:
        import msgspec
    except ModuleNotFoundError:
        raise JournalError("a journal needs msgspec: pip install 'trioflow[journal]'") from None
    return msgspec
