"""The options of a subcommand, which the fields of a dataclass declare by `option`."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from ._outputs import errors_as

T = TypeVar("T")


def takes_options(
    declared: type[Any],
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Decorate a subcommand so that it is called with an instance of `declared`, whose fields are its options.

    A field without flags, help and so on is a parameter that another decorator declares.
    """
    fields = dataclasses.fields(declared)

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        @functools.wraps(function)
        def call_with_options(*arguments: object, **values: object) -> T:
            return function(
                *arguments,
                declared(**{field.name: values.pop(field.name) for field in fields}),
                **values,
            )

        command: Callable[..., T] = call_with_options
        for field in reversed([field for field in fields if field.metadata]):
            command = _click_option(field)(command)
        return command

    return decorate


def _click_option(
    field: dataclasses.Field[Any],
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    settings = dict(field.metadata)
    flags = settings.pop("flags") or [f"--{field.name.replace('_', '-')}"]
    parse = settings.pop("parse", None)
    if field.type in (bool, "bool"):
        # Text, if its module postpones annotations.
        settings["is_flag"] = True
    elif parse is not None:
        settings["type"] = option_type(parse)
        if settings.get("multiple"):
            settings["callback"] = merge_values
    elif settings.get("metavar") in ("FILE", "DIR"):
        # The shell completes the names of files.
        settings.setdefault("type", click.Path())
        if not settings.get("multiple"):
            settings |= {"multiple": True, "callback": single_value}
    return click.option(*flags, field.name, **settings)


def option_type(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Create the type of a click option from a function that parses a value or raises ValueError."""

    def convert(value: str) -> T:
        with errors_as(click.BadParameter, ValueError):
            return parse(value)

    return convert


def single_value(
    _: click.Context, __: click.Parameter, values: Sequence[T]
) -> T | None:
    """Return the only value of an option that names a place: of two, one would be read or written without a word.

    The last of other options is taken, so that a command line can follow an alias with defaults.

    Raises:
        BadParameter: there are several values.

    """
    if len(values) > 1:
        raise click.BadParameter(
            "several are given, and only one can be taken: leave the others out"
        )
    return values[0] if values else None


def merge_values(
    _: click.Context, option: click.Parameter, mappings: Sequence[dict[str, T]]
) -> dict[str, T]:
    """Merge the values of a repeatable option, which are mappings, into a single mapping.

    Raises:
        BadParameter: a name is in two of the mappings.

    """
    counts = collections.Counter(itertools.chain(*mappings))
    if repeated := [name for name in counts if counts[name] > 1]:
        raise click.BadParameter(f"{repeated[0]} is given twice: give each name once")
    return dict(collections.ChainMap(*mappings[::-1]))
