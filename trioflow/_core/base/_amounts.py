"""Amounts of a limited resource: numbers, and sizes such as "24 GiB"."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ._text_forms import short_repr

if TYPE_CHECKING:
    from fractions import Fraction

    Amount = int | Fraction
    SingleNeed: TypeAlias = float | str | Fraction
    Need: TypeAlias = SingleNeed | Mapping[str, SingleNeed]
    """The user's value for one name of `needs`: an amount, or amounts by key."""
else:
    # `fractions` is slow to import, and few programs need it.
    Amount = int
ExactNeed = Amount | tuple[tuple[str, Amount], ...]
CheckedNeed = ExactNeed | str
"""The checked forms of a `Need`: an exact amount or, of a `Rate`, pairs of key and amount. Text is a size or a key."""

SIZE_UNITS: Final = {"": 1, "B": 1}
# "4G" is 4 GiB, as for ulimit and Slurm.
for _power, _prefix in enumerate("kMGTP", start=1):
    SIZE_UNITS[f"{_prefix}B"] = 1000**_power
    SIZE_UNITS[f"{_prefix.upper()}iB"] = SIZE_UNITS[_prefix.upper()] = 1024**_power
SIZE_PATTERN: Final = re.compile(r"\s*+(\d+(?:\.\d*)?|\.\d+)\s*+([a-zA-Z]*)\s*")


AMOUNT_ADVICE: Final = "give a finite number, 0 or more, or a size such as '24 GiB'"


def amount_of(value: Any, subject: str, advice: str = AMOUNT_ADVICE) -> Amount:
    """Check an amount, which is a number or a size, and return it as an exact number.

    A float becomes the exact fraction of its decimal form, so that ten times 0.1 is 1.

    Args:
        value: a finite number, 0 or more, or text such as "24 GiB".
        subject: the beginning of the error message: the option with its value.
        advice: the end of the error message, unless the value is text.

    Raises:
        TypeError: `value` is neither a number nor text.
        ValueError: `value` is negative, not finite, or not a valid size.

    """
    if isinstance(value, str):
        return _parse_size(value, subject)
    value = plain_number(value)
    if not is_number(value):
        raise TypeError(f"{subject}: {advice}")
    if not is_finite(value) or value < 0:
        raise ValueError(f"{subject}: {advice}")
    if isinstance(value, float):
        value = _to_fraction(str(value))
    return _int_if_whole(value)


def plain_number(value: Any) -> Any:
    """Return a whole number of another library, such as NumPy's, as an `int`, and any other value as it is."""
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, (int, float, str)) or not hasattr(kind, "__index__"):
        return value
    try:
        return operator.index(value)
    except Exception:
        # From the code of its class.
        return value


def is_number(value: object) -> bool:
    """Return whether `value` is an `int`, a `float` or a `Fraction`. A `bool` is not a number here."""
    if isinstance(value, (int, float)):
        return not isinstance(value, bool)
    from fractions import Fraction

    return isinstance(value, Fraction)


def is_finite(value: float | Fraction) -> bool:
    """Return whether `value` is finite and fits into a float. An `int` of 400 digits does not."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _to_fraction(text: str) -> Fraction:
    from fractions import Fraction

    return Fraction(text)


def check_need(value: Any, subject: str, advice: str = AMOUNT_ADVICE) -> ExactNeed:
    """Check an amount, or a dict of amounts by key, and return it in its exact form.

    Args:
        value: the user's value.
        subject: the beginning of the error message, as in `amount_of`.
        advice: the end of the error message, as in `amount_of`.

    Raises:
        TypeError, ValueError: as in `amount_of`. Also if a key is not text.

    """
    amounts = value
    if not isinstance(value, Mapping):
        return amount_of(value, subject, advice)
    for key in amounts:
        if not isinstance(key, str):
            raise TypeError(f"{subject}: the key {short_repr(key)} is not a string")
    return tuple(
        (key, amount_of(amounts[key], subject, advice)) for key in sorted(amounts)
    )


def amount_text(number: Amount) -> str:
    """Return an amount as decimal text."""
    if isinstance(number, int):
        return str(number)
    return f"{float(number):g}"


def is_size(value: object) -> bool:
    """Return whether the user's amount is text with a unit, such as "24 GiB", and so counts bytes."""
    return isinstance(value, str) and any(character.isalpha() for character in value)


def need_text(value: CheckedNeed) -> str:
    """Return an amount, or amounts by key, as decimal text, and text as it would be written in Python."""
    if isinstance(value, str):
        return short_repr(value)
    if not isinstance(value, tuple):
        return amount_text(value)
    texts = [f"{short_repr(key)}: {amount_text(number)}" for key, number in value]
    return f"{{{', '.join(texts)}}}"


def need_as_numbers(value: CheckedNeed) -> Any:
    """Return an amount as an `int` or a `float`, amounts by key as a dict of such numbers, and other text as it is."""
    if isinstance(value, str):
        try:
            return as_number(amount_of(value, ""))
        except ValueError:
            return value
    if isinstance(value, tuple):
        return {key: as_number(number) for key, number in value}
    return as_number(value)


def as_number(number: Amount) -> float:
    if isinstance(number, int):
        return number
    return float(number)


def _parse_size(text: str, subject: str) -> Amount:
    """Return the number of bytes of a size such as "24 GiB", or a number without a unit."""
    match = SIZE_PATTERN.fullmatch(text)
    if match is None or match[2] not in SIZE_UNITS:
        raise ValueError(
            f"{subject}: write a number and a unit: B, kB, MB, GB, TB, PB, KiB, MiB, GiB, TiB or PiB"
        )
    number = _to_fraction(match[1]) * SIZE_UNITS[match[2]]
    if not is_finite(number):
        raise ValueError(f"{subject}: the size is too large")
    return _int_if_whole(number)


def _int_if_whole(number: Amount) -> Amount:
    """Convert an amount to an `int` if it is whole, because arithmetic with fractions is slower."""
    return number.numerator if number.denominator == 1 else number
