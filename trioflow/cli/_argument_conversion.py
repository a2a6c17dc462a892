"""Conversion of `--set name=value` on the command line to arguments of the user's function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import click

from ..abc import printable
from ._suggestions import nearest_name


def bind_settings(function: Callable[..., Any], settings: Iterable[str]) -> inspect.BoundArguments:
    """Return the arguments to call `function` with, which come from the settings on the command line.

    Each value is converted to the type of the parameter's annotation, or to that of its default.

    Raises:
        UsageError: a setting has no `=`.
        UsageError: a parameter is unknown, or has neither a value nor a default.
        UsageError: a value cannot be converted, or a setting is repeated.

    """
    signature = _signature(function)
    texts_by_name = _split(settings)
    values: dict[str, Any] = {}
    required_names: list[str] = []
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            values[name], texts_by_name = texts_by_name, {}
        elif name in texts_by_name and parameter.kind is not parameter.VAR_POSITIONAL:
            values[name] = _convert(parameter, texts_by_name.pop(name))
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


def _split(settings: Iterable[str]) -> dict[str, str]:
    texts_by_name: dict[str, str] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise click.UsageError(f"--set {printable(setting)}: write --set name=value")
        if name in texts_by_name:
            raise click.UsageError(
                f"--set {printable(name)}= is given twice: give it once; a list is JSON, as in [1, 2]"
            )
        texts_by_name[name] = text
    return texts_by_name


def _convert(parameter: inspect.Parameter, text: str) -> Any:
    """Convert a text to a parameter's type. A list or dict is JSON."""
    import msgspec  # imported here, because --help does not need it

    name: str = parameter.name
    default: Any = parameter.default
    annotation: Any = parameter.annotation
    if annotation is parameter.empty or isinstance(annotation, str):
        annotation = str if default in (parameter.empty, None) else type(default)  # pyright: ignore[reportUnknownVariableType]
    try:
        try:
            return msgspec.convert(text, annotation, strict=False)
        except msgspec.ValidationError:
            if not text.startswith(("[", "{")):
                raise
            return msgspec.json.decode(text, type=annotation)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise click.UsageError(
            f"--set {printable(name)}={printable(text)}: {printable(str(error))}; "
            "give a text, a number, true, false or a date, or a list or dict as JSON"
        ) from None
