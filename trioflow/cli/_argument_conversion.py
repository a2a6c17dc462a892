"""Conversion of `--set name=value` on the command line to arguments of the user's function."""

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
from ._suggestions import nearest_name

CLICK_TYPES: Final[dict[Any, click.ParamType[Any]]] = {
    bool: click.BOOL,
    int: click.INT,
    float: click.FLOAT,
    uuid.UUID: click.UUID,
    datetime.datetime: click.DateTime(),
    datetime.date: click.types.FuncParamType(datetime.date.fromisoformat),
    datetime.time: click.types.FuncParamType(datetime.time.fromisoformat),
}
COLLECTION_TYPES: Final[dict[Any, Callable[[list[Any]], Any]]] = {
    **dict.fromkeys((list, abc.Sequence, abc.Iterable, abc.Collection, abc.MutableSequence), list),
    **dict.fromkeys((tuple,), tuple),
    **dict.fromkeys((set, abc.Set, abc.MutableSet), set),
    frozenset: frozenset,
}


def bind_settings(function: Callable[..., Any], settings: Iterable[str]) -> inspect.BoundArguments:
    """Return the arguments to call `function` with, which come from the settings on the command line.

    Each value is converted to the type of the parameter's annotation, or to that of its default.

    Raises:
        UsageError: a setting has no `=`.
        UsageError: a parameter is unknown, or has neither a value nor a default.
        UsageError: a value cannot be converted, or a setting is repeated for a parameter that takes one value.

    """
    signature = _signature(function)
    texts_by_name = _group_by_name(settings)
    values: dict[str, Any] = {}
    required_names: list[str] = []
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            values[name] = {key: _single_text(key, texts) for key, texts in texts_by_name.items()}
            texts_by_name = {}
        elif name in texts_by_name and parameter.kind is not parameter.VAR_POSITIONAL:
            values[name] = _convert_for_parameter(parameter, texts_by_name.pop(name))
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
            required_names.append(name)
    if texts_by_name:
        name, parameter_names = next(iter(texts_by_name)), list(signature.parameters)
        near = nearest_name(name, parameter_names)
        hint = f"do you mean {near}=?" if near else f"its parameters: {', '.join(parameter_names) or 'none'}"
        raise click.UsageError(f"--set {printable(name)}=: unknown parameter; {hint}")
    for name in required_names:
        raise click.UsageError(f"the scenario needs a value for {name!r}: --set {name}=...")
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
    texts_by_name: dict[str, list[str]] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise click.UsageError(f"--set {printable(setting)}: write --set name=value")
        texts_by_name.setdefault(name, []).append(text)
    return texts_by_name


def _convert_for_parameter(parameter: inspect.Parameter, texts: list[str]) -> Any:
    annotation: Any = parameter.annotation
    default: Any = parameter.default
    if annotation is parameter.empty or isinstance(annotation, str):
        annotation = str if default in (parameter.empty, None) else cast(Any, type(default))
    try:
        return _convert_to_type(annotation, parameter.name, texts)
    except (ValueError, TypeError, ArithmeticError, click.BadParameter) as error:
        message = error.message if isinstance(error, click.BadParameter) else str(error)
        raise click.UsageError(f"--set {parameter.name}={printable(texts[-1])}: {message}") from None


def _convert_to_type(target_type: Any, name: str, texts: list[str]) -> Any:
    origin, type_arguments = typing.get_origin(target_type), typing.get_args(target_type)
    if origin is typing.Annotated:
        return _convert_to_type(type_arguments[0], name, texts)
    if origin in (typing.Union, types.UnionType):
        return _convert_to_union(type_arguments, name, texts)
    if origin in COLLECTION_TYPES or target_type in COLLECTION_TYPES:
        return COLLECTION_TYPES[origin or target_type](_convert_items(origin, type_arguments, texts))
    return _convert_text(target_type, _single_text(name, texts))


def _convert_items(origin: Any, type_arguments: tuple[Any, ...], texts: list[str]) -> list[Any]:
    if origin is tuple and ... not in type_arguments:
        if len(texts) != len(type_arguments):
            raise ValueError(f"it takes {len(type_arguments)} values; give --set once for each")
        return [_convert_text(target_type, text) for target_type, text in zip(type_arguments, texts, strict=True)]
    return [_convert_text(type_arguments[0] if type_arguments else str, text) for text in texts]


def _convert_to_union(union_types: tuple[Any, ...], name: str, texts: list[str]) -> Any:
    """Convert the texts to the first type of a union that accepts them, trying `str` last.

    `none` means None if the union includes None.
    """
    if types.NoneType in union_types and [text.lower() for text in texts] == ["none"]:
        return None
    candidate_types = sorted(
        (target_type for target_type in union_types if target_type is not types.NoneType),
        key=lambda target_type: target_type is str,
    )
    for target_type in candidate_types[:-1]:
        try:
            return _convert_to_type(target_type, name, texts)
        except (ValueError, TypeError, ArithmeticError, click.BadParameter):
            continue
    return _convert_to_type(candidate_types[-1], name, texts)


def _single_text(name: str, texts: list[str]) -> str:
    if len(texts) > 1:
        raise click.UsageError(f"--set {printable(name)}= is given {len(texts)} times, but takes one value")
    return texts[0]


def _convert_text(target_type: Any, text: str) -> Any:
    if target_type in CLICK_TYPES:
        return CLICK_TYPES[target_type].convert(text, None, None)
    if typing.get_origin(target_type) is typing.Literal:
        return _convert_choice({str(value): value for value in typing.get_args(target_type)}, text)
    if isinstance(target_type, type) and issubclass(target_type, enum.Enum):
        return _convert_choice(dict(target_type.__members__), text)
    return text if target_type in (str, Any, object) or not callable(cast(Any, target_type)) else target_type(text)


def _convert_choice(choices: dict[str, Any], text: str) -> Any:
    if text not in choices:
        raise ValueError(f"choose one of {', '.join(choices)}")
    return choices[text]
