"""Values as JSON text and back: results, and the arguments that identify a job.

The text names the type of each value that JSON itself does not have, as in `{"$": "bytes", "v": "aGk="}`, so the reader
need not know the types. A forged text cannot run code: no module is imported; a class must have been imported already,
and be a dataclass, a named tuple or an enumeration; and its `__init__` is not called.
A value that would not come back equal is rejected when it is written.

msgspec writes and reads the text, and converts dates, times, UUIDs and decimals.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import functools
import hashlib
import inspect
import math
import pathlib
import sys
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, Final, cast

from ..jobs.command._result import RSS_UNIT, CommandResult
from ..jobs.posix._processes import Usage
from ._msgspec import msgspec

MAX_TEXT_LENGTH: Final = 40
"""The maximum length of a text that identifies a value by itself; a longer one is replaced by its hash."""
TYPE: Final = "$"
"""The key that marks an object as a value that JSON itself does not have."""
CONVERTED: Final[dict[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        datetime.datetime,
        datetime.date,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        uuid.UUID,
    )
}
TIMES: Final = frozenset({datetime.datetime, datetime.time})
COLLECTIONS: Final[dict[str, type[Any]]] = {kind.__name__: kind for kind in (tuple, set, frozenset)}
PATHS: Final[dict[str, type[Any]]] = {
    "path": type(pathlib.Path()),
    "purepath": type(pathlib.PurePath()),
    "windowspath": pathlib.PureWindowsPath,
}
NAMES_OF_PATHS: Final[dict[type[Any], str]] = {kind: name for name, kind in reversed(PATHS.items())}
BIG_INTEGER: Final = 10**18
"""Integers of this size and more take the slow path, because msgspec may fail on them."""
PLAIN: Final = frozenset({str, int, bool, type(None)})


Extra = Callable[[Any], Any]


class NotSerializable(Exception):
    """A value cannot be written as JSON, or read back; the message names the value first, then the reason."""


def dumps(value: Any, extra: Extra | None = None) -> str:
    """Return a value as JSON text.

    Args:
        value: the value to write.
        extra: called with each value of an unknown type; it returns something known in its place, or raises.

    Raises:
        NotSerializable: it contains something that cannot be written.

    """
    if type(value) is int and -BIG_INTEGER < value < BIG_INTEGER:
        return str(value)
    try:
        return msgspec.json.encode(value if type(value) in PLAIN else _Writer(extra).convert(value)).decode()
    except UnicodeEncodeError:  # a lone surrogate, as in a file name that is not UTF-8
        return msgspec.json.encode(_RoundTripWriter(extra).convert(value)).decode()
    except RecursionError:
        raise NotSerializable("a value that contains itself, or is nested too deeply") from None
    except NotSerializable:
        raise
    except Exception as error:  # a number of too many digits, or from an attribute of a user's own class
        raise NotSerializable(f"a value of type {type_name(cast(Any, type(value)))}, which raised {error!r}") from None


def loads(text: str | bytes) -> Any:
    """Return the value of a text by `dumps`.

    Raises:
        NotSerializable: the text is damaged, or names a type that does not exist.

    """
    try:
        plain = msgspec.json.decode(text)
        return plain if '"$"' not in (text if isinstance(text, str) else text.decode()) else _restore(plain)
    except NotSerializable:
        raise
    except Exception as error:  # a damaged text can raise anything
        raise NotSerializable(f"a stored value that cannot be read ({type(error).__name__}: {error})") from None


def comparison_form(text: str | bytes) -> str:
    """Return a short form of a stored value for comparisons: the text itself if it is short, else its hash."""
    if isinstance(text, str):
        if len(text) <= MAX_TEXT_LENGTH:
            return text
        text = text.encode()
    return "~" + digest(text)


def digest(data: bytes) -> str:
    """Return a hash of 96 bits: enough to distinguish values, but not to resist forgery."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def type_name(kind: type[Any]) -> str:
    """Return the name of a class, as `module:qualname`."""
    return f"{kind.__module__}:{kind.__qualname__}"


class _Writer:
    """A converter of values to JSON's own types."""

    __slots__ = ("_extra",)

    def __init__(self, extra: Extra | None) -> None:
        self._extra: Final = extra

    def convert(self, value: Any) -> Any:
        """Convert `value`, at any depth, to JSON's own types."""
        kind = cast(Any, type(value))
        if kind in PLAIN:
            return self.text(value) if kind is str else value
        if kind is float:
            return value if math.isfinite(value) else {TYPE: "float", "v": repr(value)}
        if kind is list:
            return [self.convert(item) for item in value]
        if kind is dict:
            if TYPE not in value and all(type(key) is str for key in value):
                return self.plain_dict(value)
            return {TYPE: "dict", "v": [[self.convert(key), self.convert(item)] for key, item in value.items()]}
        name = kind.__name__
        if CONVERTED.get(name) is kind:
            if kind in TIMES and (value.fold or not _is_plain_zone(value.tzinfo)):
                return self._encode_time(value, name)
            return {TYPE: name, "v": msgspec.to_builtins(value)}
        if COLLECTIONS.get(name) is kind:
            items = [self.convert(item) for item in value]
            return {TYPE: name, "v": items if kind is tuple else sorted(items, key=msgspec.json.encode)}
        if kind is bytes or kind is bytearray:
            return {TYPE: name, "v": base64.b64encode(value).decode()}
        if kind in NAMES_OF_PATHS:
            return {TYPE: NAMES_OF_PATHS[kind], "v": self.text(str(value))}
        if kind is CommandResult:
            return {TYPE: "CommandResult", "v": self._encode_command_result(value)}
        return self._encode_instance(value, kind)

    def text(self, value: str) -> Any:
        """Return a string."""
        return value

    def plain_dict(self, value: dict[str, Any]) -> Any:
        """Return a dict whose keys are strings."""
        return {key: self.convert(item) for key, item in value.items()}

    def _encode_command_result(self, value: CommandResult) -> list[Any]:
        outputs = [data if data is None else base64.b64encode(data).decode() for data in (value.stdout, value.stderr)]
        return [value.returncode, value.elapsed, value.user_time, value.system_time, value.max_rss, *outputs]

    def _encode_time(self, value: Any, name: str) -> Any:
        """Convert a time, with the fields that ISO 8601 lacks: the zone's name and `fold`."""
        encoded: dict[str, Any] = {TYPE: name, "v": msgspec.to_builtins(value.replace(tzinfo=None, fold=0))}
        if value.fold:
            encoded["fold"] = 1
        if value.tzinfo is not None:
            encoded["zone"] = _encode_zone(value.tzinfo)
        return encoded

    def _encode_instance(self, value: Any, kind: type[Any]) -> Any:
        if isinstance(value, enum.Enum) and kind.__members__.get(value.name) is value:
            return {TYPE: "enum", "t": _importable_name(kind), "v": value.name}
        if dataclasses.is_dataclass(kind):
            names = _field_names(kind)
            _reject_extra_attributes(value, kind, names)
            return {
                TYPE: "dataclass",
                "t": _importable_name(kind),
                "v": {n: self.convert(getattr(value, n)) for n in names},
            }
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            _reject_extra_attributes(value, kind, ())
            items: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]
            return {
                TYPE: "namedtuple",
                "t": _importable_name(kind),
                "v": [self.convert(item) for item in items],
            }
        if self._extra is not None:
            return self._extra(value)
        raise NotSerializable(f"a value of type {type_name(kind)}")


class _RoundTripWriter(_Writer):
    """A converter for values that contain strings with lone surrogates."""

    __slots__ = ()

    def text(self, value: str) -> Any:
        """Return a string, encoded as an object if it has lone surrogates."""
        try:
            value.encode()
        except UnicodeEncodeError:
            return {TYPE: "str", "v": base64.b64encode(value.encode(errors="surrogatepass")).decode()}
        return value

    def plain_dict(self, value: dict[str, Any]) -> Any:
        """Return a dict whose keys are strings."""
        return {TYPE: "dict", "v": [[self.text(key), self.convert(item)] for key, item in value.items()]}


def _is_plain_zone(zone: datetime.tzinfo | None) -> bool:
    """Return whether ISO 8601 can express a zone: none, UTC, or an unnamed offset in whole minutes."""
    if zone is None or zone is datetime.UTC:
        return True
    if type(zone) is not datetime.timezone:
        return False
    offset = zone.utcoffset(None)
    return not offset % datetime.timedelta(minutes=1) and repr(zone) == repr(datetime.timezone(offset))


def _encode_zone(zone: datetime.tzinfo) -> Any:
    """Return the stored form of a zone: its name, or its offset with the name of that, if any.

    Raises:
        NotSerializable: the zone cannot be restored from a name or an offset.

    """
    if type(zone) is zoneinfo.ZoneInfo and zone.key is not None:  # pyright: ignore[reportUnnecessaryComparison]
        return zone.key
    if type(zone) is datetime.timezone:
        offset = zone.utcoffset(None)
        seconds = [offset.days * 86400 + offset.seconds, offset.microseconds]
        return seconds if repr(zone) == repr(datetime.timezone(offset)) else [*seconds, zone.tzname(None)]
    raise NotSerializable(f"a time with a zone of type {type_name(type(zone))}, which has no name to find it by")


@functools.lru_cache
def _field_names(kind: Any) -> tuple[str, ...]:
    """Return the names of the fields of a dataclass.

    Raises:
        NotSerializable: the class cannot be instantiated without running its code.

    """
    try:
        object.__new__(kind)
    except TypeError:
        other = next((base.__qualname__ for base in kind.__mro__[1:-1] if "__new__" in base.__dict__), "something else")
        raise NotSerializable(f"a value of type {type_name(kind)}, a dataclass that is also a {other}") from None
    return tuple(field.name for field in dataclasses.fields(kind))


def _reject_extra_attributes(value: Any, kind: Any, fields: tuple[str, ...]) -> None:
    """Reject a value with attributes besides its fields: they would be lost.

    Raises:
        NotSerializable: it has an attribute that is not a field, and not the cache of a property.

    """
    for name in (*getattr(value, "__dict__", ()), *_slot_names(kind)):
        if name in fields:
            continue
        is_cache = isinstance(inspect.getattr_static(kind, name, None), functools.cached_property)
        if not is_cache and name != "__orig_class__" and hasattr(value, name):
            raise NotSerializable(f"a value of type {type_name(kind)}, whose attribute {name!r} is not a field")


@functools.lru_cache
def _slot_names(kind: Any) -> tuple[str, ...]:
    """Return the slots of a class and its bases that can hold an attribute."""
    slots: list[str] = []
    for base in kind.__mro__:
        own: Any = base.__dict__.get("__slots__", ())
        slots += [own] if isinstance(own, str) else own
    return tuple(name for name in slots if name not in ("__dict__", "__weakref__"))


def _importable_name(kind: type[Any]) -> str:
    """Return the name of a class; reject a class that cannot be found by that name."""
    name = type_name(kind)
    try:
        actual = _find_class(name)
    except NotSerializable:
        actual = None
    if actual is not kind:
        raise NotSerializable(f"a value of type {name}, a class that is not at the top level of its module")
    return name


def _find_class(name: str) -> type[Any]:
    """Return a class by its name; its module must have been imported already."""
    module, _, qualified = name.partition(":")
    current: Any = sys.modules.get(module)
    for part in qualified.split("."):
        current = getattr(current, "__dict__", {}).get(part)  # no `__getattr__` is called
    if not isinstance(current, type):
        raise NotSerializable(f"a value of type {name}, which has not been imported")
    return cast("type[Any]", current)


def _restore(plain: Any) -> Any:
    """Restore a value from the form by `_Writer`."""
    if isinstance(plain, list):
        return [_restore(item) for item in plain]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(plain, dict):
        return plain
    mapping = cast("dict[str, Any]", plain)
    if TYPE not in mapping:
        return {key: _restore(item) for key, item in mapping.items()}
    name, value = mapping[TYPE], mapping["v"]
    if name in CONVERTED:
        restored = msgspec.convert(value, CONVERTED[name])
        if "zone" in mapping:
            restored = restored.replace(tzinfo=_read_zone(mapping["zone"]))
        return restored.replace(fold=1) if "fold" in mapping else restored
    if name in COLLECTIONS:
        return COLLECTIONS[name](_restore(value))
    if name in PATHS:
        return PATHS[name](_restore(value))
    return READERS[name](value, mapping.get("t", ""))


def _read_zone(zone: Any) -> datetime.tzinfo:
    if isinstance(zone, str):
        return zoneinfo.ZoneInfo(zone)
    seconds, microseconds, *name = zone
    return datetime.timezone(datetime.timedelta(seconds=seconds, microseconds=microseconds), *name)


def _read_command_result(value: list[Any], _: str) -> CommandResult:
    returncode, elapsed, user, system, rss, *outputs = value
    usage = Usage(user, system, (rss or 0) // RSS_UNIT)
    out, err = (None if data is None else base64.b64decode(data) for data in outputs)
    return CommandResult(returncode, elapsed, usage, out, err)


def _read_enum(value: str, name: str) -> Any:
    kind = _find_class(name)
    if not issubclass(kind, enum.Enum) or value not in kind.__members__:
        raise NotSerializable(f"{value!r} of {name}, which is not there any more")
    return kind.__members__[value]


def _read_dataclass(value: dict[str, Any], name: str) -> Any:
    kind = _find_class(name)
    if not dataclasses.is_dataclass(kind) or {field.name for field in dataclasses.fields(kind)} != set(value):
        raise NotSerializable(f"a value of type {name}, whose fields have changed")
    made = object.__new__(kind)  # no code of the class runs: the journal names the class, and may be forged
    for name, item in value.items():
        object.__setattr__(made, name, _restore(item))
    return made


def _read_named_tuple(value: list[Any], name: str) -> Any:
    kind: Any = _find_class(name)
    fields: Any = getattr(kind, "_fields", ())
    if not issubclass(kind, tuple) or len(fields) != len(value):
        raise NotSerializable(f"a value of type {name}, whose fields have changed")
    return cast(Any, tuple).__new__(kind, [_restore(item) for item in value])


READERS: Final[dict[str, Callable[[Any, str], Any]]] = {
    "float": lambda value, _: float(value),
    "str": lambda value, _: base64.b64decode(value).decode(errors="surrogatepass"),
    "bytes": lambda value, _: base64.b64decode(value),
    "bytearray": lambda value, _: bytearray(base64.b64decode(value)),
    "dict": lambda value, _: {_restore(key): _restore(item) for key, item in value},
    "CommandResult": _read_command_result,
    "enum": _read_enum,
    "dataclass": _read_dataclass,
    "namedtuple": _read_named_tuple,
}
