"""Serialization of results, and of the arguments that identify a job, as JSON text.

The text names the type of each value that JSON itself does not have, as in `{"$": "bytes", "v": "aGk="}`. The reader
does not need to know the types. A forged text cannot run code: no module is imported, and no `__init__` is called. A
class can be named only if it has been imported, and if it is a dataclass, a named tuple or an enumeration. It has
neither a `__del__` nor fields that its own code sets. If the text has an instance in a set or as a key, its `__hash__`
and `__eq__` are called.
A value that would differ after it was read is rejected when it is written.

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
import itertools
import math
import os
import pathlib
import sys
import types
import uuid
import zoneinfo
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from .._core.base._user_code import find_by_name
from ..jobs.command._output_sinks import OutputSpool
from ..jobs.command._result import RSS_UNIT_BYTES, CommandResult
from ..jobs.posix._processes import ReportedUsage

if TYPE_CHECKING:
    import msgspec as msgspec
else:
    try:
        import msgspec
    except ModuleNotFoundError:
        # `trioflow` must be importable without it.
        msgspec = None

IS_INSTALLED: Final = msgspec is not None  # pyright: ignore[reportUnnecessaryComparison]
MAX_TEXT_LENGTH: Final = 40
"""The maximum length, in characters, of a text that is compared. A longer text is replaced by its hash."""
TYPE_KEY: Final = "$"
"""The key that marks a JSON object as a value of a type that JSON does not have."""
MSGSPEC_CONVERTED_TYPES: Final[dict[str, type[Any]]] = {
    class_.__name__: class_
    for class_ in (
        datetime.datetime,
        datetime.date,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        uuid.UUID,
    )
}
TIME_TYPES: Final = frozenset({datetime.datetime, datetime.time})
MAIN: Final = "__main__"
COLLECTION_TYPES: Final[dict[str, type[Any]]] = {
    class_.__name__: class_ for class_ in (tuple, set, frozenset)
}
PATH_CLASSES: Final[dict[str, type[Any]]] = {
    "path": type(pathlib.Path()),
    "purepath": type(pathlib.PurePath()),
    "windowspath": pathlib.PureWindowsPath,
}
PATH_CLASS_NAMES: Final[dict[type[Any], str]] = {
    class_: name for name, class_ in reversed(PATH_CLASSES.items())
}
MIN_SLOW_INTEGER: Final = 10**18
"""Integers of at least this magnitude take the slow path, because msgspec may fail on them."""
PLAIN_TYPES: Final = frozenset({str, int, bool, type(None)})

ConvertUnknown = Callable[[Any], Any]
NameClass = Callable[[type[Any]], str]
Spools = dict[OutputSpool, int]


class NotSerializable(Exception):
    """A value cannot be written as JSON or read back. The message names the value and the reason.

    Args:
        reason: the reason.
        quoted: the end of the message, which may contain the value, or None for nothing.

    """

    def __init__(self, reason: str, quoted: object = None) -> None:
        message = reason
        if quoted is not None:
            message = f"{reason} {quoted!r}"
            reason += f" {type_name(type(quoted))}"
        super().__init__(message)
        self._redacted: Final = reason

    def shown(self, redact: bool) -> str:
        """Return the message. For a redacted job, it has only the type of the quoted value."""
        if redact:
            return self._redacted
        return str(self)


def dumps(
    value: object,
    convert_unknown: ConvertUnknown | None = None,
    spools: Spools | None = None,
    name_class: NameClass | None = None,
) -> str:
    """Serialize a value as JSON text.

    Args:
        value: the value to serialize.
        convert_unknown: a function that converts a value of an unknown type to JSON types, or returns NotImplemented.
        spools: gets the outputs of commands that are on disk, with the numbers that the text has for them, or None to
            have these outputs in the text.
        name_class: a function that names a class in the text. By default, it is `type_name`, whose names `loads` knows.

    Raises:
        NotSerializable: the value contains something that cannot be serialized.

    """
    if type(value) is int and -MIN_SLOW_INTEGER < value < MIN_SLOW_INTEGER:
        return str(value)
    try:
        converted = value
        if type(value) not in PLAIN_TYPES:
            converter = _JsonConverter(convert_unknown, spools, name_class)
            converted = converter.convert(value)
        return msgspec.json.encode(converted).decode()
    except UnicodeEncodeError:
        # A string has a lone surrogate, which comes from a file name that is not UTF-8.
        if spools is not None:
            spools.clear()
        converter = _JsonConverter(
            convert_unknown, spools, name_class, has_surrogates=True
        )
        return msgspec.json.encode(converter.convert(value)).decode()
    except RecursionError:
        raise NotSerializable(
            "a value that contains itself, or is nested too deeply"
        ) from None
    except NotSerializable:
        raise
    except Exception as error:
        # An integer has too many digits, or an attribute of a user-defined class raises.
        raise NotSerializable(
            f"a value of type {type_name(cast(Any, type(value)))}, which raised", error
        ) from None


def loads(text: str | bytes, spools: Sequence[OutputSpool] = ()) -> Any:
    """Restore a value from a text that `dumps` has returned, and from the outputs whose numbers are in it.

    Raises:
        NotSerializable: the text is damaged, or names a type that does not exist.

    """
    try:
        json_value = msgspec.json.decode(text)
        if isinstance(text, bytes):
            text = text.decode()
        if '"$"' not in text:
            return json_value
        return _restore(json_value, spools)
    except NotSerializable:
        raise
    except Exception as error:
        # A damaged text can raise anything.
        raise NotSerializable("a stored value that cannot be read:", error) from None


def comparison_form(text: str | bytes, hides: bool = False) -> str:
    """Return a text that stands for a stored value in comparisons: the stored text if it is short, otherwise its hash.

    Args:
        text: the stored text.
        hides: whether to return the hash of a short text, too.

    """
    if isinstance(text, str):
        if len(text) <= MAX_TEXT_LENGTH and not hides:
            return text
        text = text.encode()
    return "~" + digest(text)


def digest(data: bytes) -> str:
    """Return a hash of 96 bits, which is enough to distinguish values, but not to resist forgery."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def hide_if(hides: bool, text: str) -> str:
    """Return a text, or its hash if nobody may read it."""
    if hides:
        return f"~{digest(text.encode())}"
    return text


def escape_surrogates(text: str) -> str:
    """Escape lone surrogates, which come from file names that are not UTF-8. Neither JSON nor SQLite can store them."""
    return text.encode(errors="backslashreplace").decode()


def escape_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    escaped: list[Any] = []
    for item in row:
        if isinstance(item, str):
            escaped.append(escape_surrogates(item))
        else:
            escaped.append(item)
    return tuple(escaped)


def type_name(class_: type[Any]) -> str:
    """Return the name of a class, as `module:qualname`."""
    return f"{stored_module(class_.__module__)}:{class_.__qualname__}"


def stored_module(name: object) -> Any:
    """Return the name of a module in results. For `__main__`, this is the name of its program when it is imported.

    So `python a.py` reads the results of `trioflow run a.py`.
    """
    if name != MAIN:
        return name
    main = sys.modules[MAIN]
    if (spec := getattr(main, "__spec__", None)) is not None:
        return spec.name
    file = getattr(main, "__file__", None)
    if file is None:
        return name
    return os.path.splitext(os.path.basename(file))[0].replace(".", "_")


class _JsonConverter:
    def __init__(
        self,
        convert_unknown: ConvertUnknown | None,
        spools: Spools | None,
        name_class: NameClass | None,
        *,
        has_surrogates: bool = False,
    ) -> None:
        """Create a converter. `has_surrogates` says whether strings in the value may have lone surrogates."""
        self._convert_unknown: Final[ConvertUnknown] = convert_unknown or (
            lambda _: NotImplemented
        )
        self._spools: Final = spools
        self._name_class: Final = name_class or type_name
        self._has_surrogates: Final = has_surrogates

    def convert(self, value: Any) -> Any:
        class_ = cast(Any, type(value))
        if class_ in PLAIN_TYPES:
            if class_ is str:
                return self.convert_text(value)
            return value
        if class_ is float:
            if math.isfinite(value):
                return value
            return {TYPE_KEY: "float", "v": repr(value)}
        if class_ is list:
            return [self.convert(item) for item in value]
        if class_ is dict:
            if (
                TYPE_KEY not in value
                and all(type(key) is str for key in value)
                and not self._has_surrogates
            ):
                return {key: self.convert(item) for key, item in value.items()}
            return {
                TYPE_KEY: "dict",
                "v": [
                    [self.convert(key), self.convert(item)]
                    for key, item in value.items()
                ],
            }
        name = class_.__name__
        if MSGSPEC_CONVERTED_TYPES.get(name) is class_:
            if class_ in TIME_TYPES and (
                value.fold or not _is_plain_zone(value.tzinfo)
            ):
                return self._encode_time(value, name)
            return {TYPE_KEY: name, "v": msgspec.to_builtins(value)}
        if COLLECTION_TYPES.get(name) is class_:
            items = [self.convert(item) for item in value]
            if class_ is not tuple:
                items.sort(key=msgspec.json.encode)
            return {TYPE_KEY: name, "v": items}
        if class_ is bytes or class_ is bytearray:
            return {TYPE_KEY: name, "v": base64.b64encode(value).decode()}
        if class_ in PATH_CLASS_NAMES:
            return {
                TYPE_KEY: PATH_CLASS_NAMES[class_],
                "v": self.convert_text(str(value)),
            }
        if class_ is CommandResult:
            return {TYPE_KEY: "CommandResult", "v": self._encode_command_result(value)}
        return self._encode_instance(value, class_)

    def convert_text(self, value: str) -> Any:
        """Return a string unchanged, or an object if the string has lone surrogates."""
        if self._has_surrogates and value != escape_surrogates(value):
            return {
                TYPE_KEY: "str",
                "v": base64.b64encode(value.encode(errors="surrogatepass")).decode(),
            }
        return value

    def _encode_command_result(self, value: CommandResult) -> list[Any]:
        outputs = [
            self._encode_output(output) for output in (value._stdout, value._stderr)
        ]
        rss = value.max_rss
        if value.max_rss_bound is not None:
            rss = -value.max_rss_bound
        times = value.elapsed, value.user_time, value.system_time
        return [value.returncode, *times, rss, *outputs]

    def _encode_output(self, output: bytes | OutputSpool | None) -> str | int | None:
        if isinstance(output, OutputSpool):
            if self._spools is not None:
                return self._spools.setdefault(output, len(self._spools))
            output = output.read()
        if output is None:
            return None
        return base64.b64encode(output).decode()

    def _encode_time(self, value: Any, name: str) -> Any:
        """Convert a time. Its `fold` and its zone are stored separately, because ISO 8601 cannot express them."""
        encoded: dict[str, Any] = {
            TYPE_KEY: name,
            "v": msgspec.to_builtins(value.replace(tzinfo=None, fold=0)),
        }
        if value.fold:
            encoded["fold"] = 1
        if value.tzinfo is not None:
            encoded["zone"] = _encode_zone(value.tzinfo)
        return encoded

    def _encode_instance(self, value: Any, class_: Any) -> Any:
        content: Any
        if isinstance(value, enum.Enum) and class_.__members__.get(value.name) is value:
            kind = "enum"
            content = value.name
        elif dataclasses.is_dataclass(class_):
            kind = "dataclass"
            names = _field_names(cast("Any", class_))
            _reject_extra_attributes(value, class_, names)
            content = {name: self.convert(getattr(value, name)) for name in names}
        elif isinstance(value, tuple) and hasattr(class_, "_fields"):
            kind = "namedtuple"
            _reject_finalizer(class_)
            _reject_extra_attributes(value, class_, ())
            items: Any = zip(class_._fields, cast(Any, value), strict=True)
            content = {name: self.convert(item) for name, item in items}
        else:
            converted = self._convert_unknown(value)
            if converted is NotImplemented:
                raise NotSerializable(f"a value of type {type_name(class_)}")
            return converted
        return {
            TYPE_KEY: kind,
            "t": self._name_importable(cast(Any, class_)),
            "v": content,
        }

    def _name_importable(self, class_: type[Any]) -> str:
        """Return the full name of a class, after checking that the class can be found by its name."""
        name = type_name(class_)
        try:
            actual = _find_class(name)
        except NotSerializable:
            actual = None
        if actual is not class_:
            raise NotSerializable(
                f"a value of type {name}, a class that is not at the top level of its module"
            )
        return self._name_class(class_)


def _is_plain_zone(zone: datetime.tzinfo | None) -> bool:
    """Return whether ISO 8601 can express a zone. It can if the zone is None, UTC, or an unnamed offset in minutes."""
    if zone is None or zone is datetime.UTC:
        return True
    if type(zone) is not datetime.timezone:
        return False
    offset = zone.utcoffset(None)
    return not offset % datetime.timedelta(minutes=1) and repr(zone) == repr(
        datetime.timezone(offset)
    )


def _encode_zone(zone: datetime.tzinfo) -> Any:
    """Return the stored form of a zone.

    For a zone of the time zone database, it is the key. For a fixed offset, it is a list: seconds, microseconds and, if
    the offset has a name of its own, the name.

    Raises:
        NotSerializable: the zone cannot be restored from a name or an offset.

    """
    if type(zone) is zoneinfo.ZoneInfo and zone.key is not None:  # pyright: ignore[reportUnnecessaryComparison]
        return zone.key
    if type(zone) is datetime.timezone:
        offset = zone.utcoffset(None)
        seconds = [offset.days * 86400 + offset.seconds, offset.microseconds]
        if repr(zone) == repr(datetime.timezone(offset)):
            return seconds
        return [*seconds, zone.tzname(None)]
    raise NotSerializable(
        f"a time with a zone of type {type_name(type(zone))}, which cannot be found by a name"
    )


@functools.lru_cache
def _field_names(class_: Any) -> tuple[str, ...]:
    """Return the names of the fields of a dataclass.

    Raises:
        NotSerializable: an instance cannot be restored without running code of the class.

    """
    _reject_finalizer(class_)
    try:
        object.__new__(class_)
    except TypeError:
        bases = [base for base in class_.__mro__[1:-1] if "__new__" in vars(base)]
        base = "something else"
        if bases:
            base = bases[0].__qualname__
        raise NotSerializable(
            f"a value of type {type_name(class_)}, a dataclass that is also a {base}"
        ) from None
    names = tuple(field.name for field in dataclasses.fields(class_))
    for name in names:
        attribute: object = inspect.getattr_static(class_, name, None)
        if hasattr(type(attribute), "__set__") and not isinstance(
            attribute, types.MemberDescriptorType
        ):
            raise NotSerializable(
                f"a value of type {type_name(class_)}, whose field {name!r} is set by its own code"
            )
    return names


@functools.lru_cache
def _reject_finalizer(class_: type[Any]) -> None:
    """Reject a class with a finalizer, which would run for each restored instance, with the values of the journal.

    Raises:
        NotSerializable: the class has a `__del__`.

    """
    if any("__del__" in base.__dict__ for base in class_.__mro__):
        raise NotSerializable(
            f"a value of type {type_name(class_)}, a class with a __del__ method"
        )


def _reject_extra_attributes(value: Any, class_: Any, fields: tuple[str, ...]) -> None:
    """Reject a value that has attributes besides its fields, because these would not be stored.

    Raises:
        NotSerializable: the value has an attribute that is neither a field nor the cached value of a property.

    """
    for name in (*getattr(value, "__dict__", ()), *_slot_names(class_)):
        if name in fields:
            continue
        is_cache = isinstance(
            inspect.getattr_static(class_, name, None), functools.cached_property
        )
        if not is_cache and name != "__orig_class__" and hasattr(value, name):
            raise NotSerializable(
                f"a value of type {type_name(class_)}, whose attribute {name!r} is not a field"
            )


@functools.lru_cache
def _slot_names(class_: type[Any]) -> tuple[str, ...]:
    return tuple(itertools.chain.from_iterable(map(own_slots, class_.__mro__)))


def own_slots(class_: type[Any]) -> list[str]:
    """Return the names of the attributes that a class, without its bases, has in slots."""
    slots: Any = class_.__dict__.get("__slots__", ())
    if isinstance(slots, str):
        slots = [slots]
    return [name for name in slots if name not in ("__dict__", "__weakref__")]


def _find_class(name: str) -> type[Any]:
    """Find a class by its full name in a module that has been imported already."""
    module, _, qualified = name.partition(":")
    if module == stored_module(MAIN):
        module = MAIN
    current = find_by_name(module, qualified)
    if not isinstance(current, type):
        raise NotSerializable(f"a value of type {name}, which has not been imported")
    return cast("type[Any]", current)


def _restore(json_value: Any, spools: Sequence[OutputSpool]) -> Any:
    if isinstance(json_value, list):
        return [_restore(item, spools) for item in json_value]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(json_value, dict):
        return json_value
    mapping = cast("dict[str, Any]", json_value)
    if TYPE_KEY not in mapping:
        return {key: _restore(item, spools) for key, item in mapping.items()}
    name = mapping[TYPE_KEY]
    value = mapping["v"]
    if name in MSGSPEC_CONVERTED_TYPES:
        restored = msgspec.convert(value, MSGSPEC_CONVERTED_TYPES[name])
        if "zone" in mapping:
            restored = restored.replace(tzinfo=_read_zone(mapping["zone"]))
        if "fold" in mapping:
            return restored.replace(fold=1)
        return restored
    if name in COLLECTION_TYPES:
        return COLLECTION_TYPES[name](_restore(value, spools))
    if name in PATH_CLASSES:
        return PATH_CLASSES[name](_restore(value, spools))
    return DECODERS_BY_TYPE[name](value, mapping.get("t", ""), spools)


def _read_zone(zone: list[Any]) -> datetime.tzinfo:
    if isinstance(zone, str):
        return zoneinfo.ZoneInfo(zone)
    seconds, microseconds, *name = zone
    return datetime.timezone(
        datetime.timedelta(seconds=seconds, microseconds=microseconds), *name
    )


def _read_command_result(
    value: list[Any], _: str, spools: Sequence[OutputSpool]
) -> CommandResult:
    returncode, elapsed, user, system, rss, *outputs = value
    rss = rss or 0
    usage = ReportedUsage(user, system, max(rss, 0) // RSS_UNIT_BYTES)
    captured: list[Any] = []
    for output in outputs:
        if isinstance(output, int):
            captured.append(spools[output])
        elif isinstance(output, str):
            captured.append(base64.b64decode(output))
        else:
            captured.append(output)
    out, err = captured
    bound = -min(rss, 0) // RSS_UNIT_BYTES
    return CommandResult(returncode, elapsed, usage, out, err, bound)


def _read_enum(value: str, name: str, _: object) -> Any:
    class_ = _find_class(name)
    if not issubclass(class_, enum.Enum) or value not in class_.__members__:
        raise NotSerializable(f"a member of {name} that no longer exists:", value)
    return class_.__members__[value]


def _read_dataclass(
    value: dict[str, Any], name: str, spools: Sequence[OutputSpool]
) -> Any:
    class_ = _find_class(name)
    if not dataclasses.is_dataclass(class_) or set(_field_names(class_)) != set(value):
        raise NotSerializable(f"a value of type {name}, whose fields have changed")
    # Runs no code of the class, which a forged journal may have chosen.
    instance = object.__new__(class_)
    for name, item in value.items():
        object.__setattr__(instance, name, _restore(item, spools))
    return instance


def _read_named_tuple(
    value: dict[str, Any], name: str, spools: Sequence[OutputSpool]
) -> Any:
    class_: Any = _find_class(name)
    fields: Any = getattr(class_, "_fields", ())
    candidate: type[object] = class_
    if not issubclass(candidate, tuple) or set(fields) != set(value):
        raise NotSerializable(f"a value of type {name}, whose fields have changed")
    _reject_finalizer(class_)
    return cast(Any, tuple).__new__(
        class_, [_restore(value[field], spools) for field in fields]
    )


DECODERS_BY_TYPE: Final[dict[str, Callable[[Any, str, Sequence[OutputSpool]], Any]]] = {
    "float": lambda value, _, __: float(value),
    "str": lambda value, _, __: base64.b64decode(value).decode(errors="surrogatepass"),
    "bytes": lambda value, _, __: base64.b64decode(value),
    "bytearray": lambda value, _, __: bytearray(base64.b64decode(value)),
    "dict": lambda value, _, spools: {
        _restore(key, spools): _restore(item, spools) for key, item in value
    },
    "CommandResult": _read_command_result,
    "enum": _read_enum,
    "dataclass": _read_dataclass,
    "namedtuple": _read_named_tuple,
}
