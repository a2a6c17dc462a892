"""`--set name=value`: conversion of the command line's words to arguments of the user's function."""

from __future__ import annotations

import datetime
import enum
import inspect
import types
import typing
import uuid
from collections import abc
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import click

from ..abc import printable
from ._suggestions import nearest

CONVERTED_BY_CLICK: Final[dict[Any, click.ParamType[Any]]] = {
    bool: click.BOOL,
    int: click.INT,
    float: click.FLOAT,
    uuid.UUID: click.UUID,
    datetime.datetime: click.DateTime(),
}
COLLECTIONS: Final[dict[Any, Callable[[list[Any]], Any]]] = {
    **dict.fromkeys((list, abc.Sequence, abc.Iterable, abc.Collection, abc.MutableSequence), list),
    **dict.fromkeys((tuple,), tuple),
    **dict.fromkeys((set, abc.Set, abc.MutableSet), set),
    frozenset: frozenset,
}


def bind(function: Callable[..., Any], settings: Iterable[str]) -> inspect.BoundArguments:
    """Return the arguments for `function`, each value converted to the type of its parameter's annotation or default.

    Raises:
        UsageError: a setting without `=`, an unknown or missing parameter, or a value of the wrong type.

    """
    signature = _signature(function)
    by_name = _group_by_name(settings)
    values: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            values[name] = {key: _single_text(key, texts) for key, texts in by_name.items()}
            by_name = {}
        elif name in by_name and parameter.kind is not parameter.VAR_POSITIONAL:
            values[name] = _convert(parameter, by_name.pop(name))
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
            raise click.UsageError(f"the scenario needs a value for {name!r}: --set {name}=...")
    if by_name:
        name, known = next(iter(by_name)), list(signature.parameters)
        near = nearest(name, known)
        hint = f"do you mean {near}=?" if near else f"known are: {', '.join(known) or 'none'}"
        raise click.UsageError(f"--set {printable(name)}=: there is no such parameter; {hint}")
    bound = inspect.BoundArguments(signature, values)
    bound.apply_defaults()
    return bound


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except Exception:  # only type checkers can evaluate some annotations
        pass
    try:
        return inspect.signature(function)
    except (ValueError, TypeError) as error:  # some functions written in C have no signature
        raise click.UsageError(f"the scenario's parameters cannot be read: {error}") from None


def _group_by_name(settings: Iterable[str]) -> dict[str, list[str]]:
    by_name: dict[str, list[str]] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise click.UsageError(f"--set {printable(setting)}: write --set name=value")
        by_name.setdefault(name, []).append(text)
    return by_name


def _convert(parameter: inspect.Parameter, texts: list[str]) -> Any:
    annotated: Any = parameter.annotation
    default: Any = parameter.default
    if annotated is parameter.empty or isinstance(annotated, str):
        annotated = str if default in (parameter.empty, None) else cast(Any, type(default))
    try:
        return _convert_to(annotated, parameter.name, texts)
    except (ValueError, TypeError, ArithmeticError, click.BadParameter) as error:
        message = error.message if isinstance(error, click.BadParameter) else str(error)
        raise click.UsageError(f"--set {parameter.name}={printable(texts[-1])}: {message}") from None


def _convert_to(kind: Any, name: str, texts: list[str]) -> Any:
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _convert_to(inside[0], name, texts)
    if origin in (typing.Union, types.UnionType):
        return _convert_to_first(inside, name, texts)
    if origin in COLLECTIONS or kind in COLLECTIONS:
        return COLLECTIONS[origin or kind](_convert_items(origin, inside, texts))
    return _convert_one(kind, _single_text(name, texts))


def _convert_items(origin: Any, inside: tuple[Any, ...], texts: list[str]) -> list[Any]:
    if origin is tuple and ... not in inside:
        if len(texts) != len(inside):
            raise ValueError(f"it takes {len(inside)} values, each with a --set of its own")
        return [_convert_one(kind, text) for kind, text in zip(inside, texts, strict=True)]
    return [_convert_one(inside[0] if inside else str, text) for text in texts]


def _convert_to_first(kinds: tuple[Any, ...], name: str, texts: list[str]) -> Any:
    """Convert to the first of several types that accepts the text; `none` means None, where that is allowed."""
    if types.NoneType in kinds and [text.lower() for text in texts] == ["none"]:
        return None
    candidates = sorted((kind for kind in kinds if kind is not types.NoneType), key=lambda kind: kind is str)
    for kind in candidates[:-1]:
        try:
            return _convert_to(kind, name, texts)
        except (ValueError, TypeError, ArithmeticError, click.BadParameter):
            continue
    return _convert_to(candidates[-1], name, texts)


def _single_text(name: str, texts: list[str]) -> str:
    if len(texts) > 1:
        raise click.UsageError(f"--set {printable(name)}= is given {len(texts)} times, but takes one value")
    return texts[0]


def _convert_one(kind: Any, text: str) -> Any:
    if kind in CONVERTED_BY_CLICK:
        return CONVERTED_BY_CLICK[kind].convert(text, None, None)
    if typing.get_origin(kind) is typing.Literal:
        return _convert_choice({str(value): value for value in typing.get_args(kind)}, text)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _convert_choice(dict(kind.__members__), text)
    return text if kind in (str, Any, object) or not callable(cast(Any, kind)) else kind(text)


def _convert_choice(choices: dict[str, Any], text: str) -> Any:
    if text not in choices:
        raise ValueError(f"choose one of {', '.join(choices)}")
    return choices[text]
