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
    """Return the value of JSON text."""
    return _decoder()(text)


def to_builtins(value: Any) -> Any:
    """Return a date, a time, a UUID or a decimal as text."""
    return library().to_builtins(value)


def convert(value: Any, kind: Any) -> Any:
    """Return the value of type `kind` for a text by `to_builtins`."""
    return library().convert(value, kind)


@functools.cache
def encoder() -> Callable[[Any], bytes]:
    """Return msgspec's encode function, without the cost of a wrapper."""
    found: Callable[[Any], bytes] = library().json.Encoder().encode
    return found


@functools.cache
def _decoder() -> Callable[[str | bytes], Any]:
    found: Callable[[str | bytes], Any] = library().json.Decoder().decode
    return found


def library() -> Any:
    """Import msgspec; raise `JournalError` with the command to install it if it is missing."""
    try:
        import msgspec
    except ModuleNotFoundError:
        raise JournalError("a journal needs msgspec: pip install 'trioflow[journal]'") from None
    return msgspec
