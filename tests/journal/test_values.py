"""Values as text: they are equal and of the same type after storing and loading, and loading runs no code."""

import ast
import collections
import dataclasses
import datetime
import decimal
import enum
import gc
import json
import math
import pathlib
import re
import socket
import subprocess
import sys
import uuid
import zoneinfo
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import CommandJob, CommandResult, Scheduler
from trioflow.jobs.command._output_sinks import OutputSpool
from trioflow.jobs.posix._processes import ReportedUsage
from trioflow.journal._serialization import (
    NotSerializable,
    comparison_form,
    dumps,
    loads,
)


@dataclasses.dataclass
class Point:
    x: float
    inner: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    number: int


class Colour(enum.Enum):
    RED = object()


class Pair(NamedTuple):
    one: Any
    other: Any


class Bomb:
    """A class that an attacker's journal might name: constructing it leaves a trace."""

    exploded = False


@dataclasses.dataclass
class Trap(Bomb):
    number: int = 0

    def __post_init__(self) -> None:
        Bomb.exploded = True


@dataclasses.dataclass
class Finalized:
    path: str

    def __del__(self) -> None:
        Bomb.exploded = True


@dataclasses.dataclass
class DerivedFromFinalized(Finalized):
    number: int = 0


class FinalizedTuple(Pair):
    def __del__(self) -> None:
        Bomb.exploded = True


class SettingItself:
    """A descriptor, which runs code when its attribute is set."""

    def __get__(self, instance: object, owner: type[Any] | None = None) -> int:
        return 0

    def __set__(self, instance: object, value: int) -> None:
        Bomb.exploded = value == 13


@dataclasses.dataclass
class OfDescriptor:
    number: SettingItself = SettingItself()


@dataclasses.dataclass
class WithCache:
    number: int

    @cached_property
    def twice(self) -> int:
        return 2 * self.number


T = TypeVar("T")


@dataclasses.dataclass
class Box(Generic[T]):
    value: T


@dataclasses.dataclass
class Open:
    """A class that takes attributes that are not fields."""

    number: int = 0


class SlottedBase:
    __slots__ = ("hidden",)


@dataclasses.dataclass
class Slotted(SlottedBase):
    __slots__ = ("number",)
    number: int


class Three(NamedTuple):
    number: int


class LooseThree(Three):
    """A named tuple that takes attributes."""


@dataclasses.dataclass
class OfDict(dict[str, int]):
    number: int


@dataclasses.dataclass
class OfError(Exception):
    number: int


class OwnZone(datetime.tzinfo):
    def utcoffset(self, when: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(hours=1)

    def dst(self, when: datetime.datetime | None) -> None: ...

    def tzname(self, when: datetime.datetime | None) -> str:
        return "own"


VALUES: list[Any] = [
    None, True, 0, -(10**40), 1.5, math.inf, -math.inf, "", "ü\n\0", "\ud800 not UTF-8", b"", b"\xff\0",
    bytearray(b"x"), [], [1, [2]], (), (1, (2, [3])), {}, {"a": 1}, {1: "one", None: 2, (1, 2): 3}, {"$": "bytes"},
    {"\udcff": "\udcff"},
    set(), {1, 2}, frozenset({("a", 1)}), pathlib.Path("/a/b"), pathlib.PurePosixPath("c"),
    pathlib.PureWindowsPath("c:/x"), pathlib.Path("\udcff"), datetime.date(2024, 2, 29), datetime.time(1, 2, 3, 4),
    datetime.datetime(2024, 2, 29, 1, 2, 3, 456789), datetime.datetime(1, 1, 1, tzinfo=datetime.UTC),
    datetime.timedelta(days=-1, microseconds=1), decimal.Decimal("1.10"), uuid.UUID(int=5), Point(1.0, {"a": (1,)}),
    Frozen(3), Colour.RED, Pair(1, Pair((), None)), Box[int](3), LooseThree(3),
]  # fmt: skip


def test_a_value_is_equal_after_storing_and_loading() -> None:
    for value in VALUES:
        text = dumps(value)
        json.loads(text)
        found = loads(text)
        assert found == value
        assert type(found) is type(value)
        assert dumps(found) == text


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
OFFSET = datetime.timezone(
    datetime.timedelta(hours=-1, minutes=-2, seconds=-3, microseconds=-4)
)
TIMES: list[Any] = [
    datetime.datetime(2024, 6, 1, 12, tzinfo=BERLIN), datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
    datetime.datetime(2024, 10, 27, 2, 30, fold=1), datetime.time(12, tzinfo=BERLIN), datetime.time(12, fold=1),
    datetime.datetime(2024, 6, 1, tzinfo=OFFSET), datetime.time(1, 2, 3, 4, tzinfo=OFFSET),
    datetime.datetime(2024, 6, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1), "CET")),
    datetime.datetime(2024, 6, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30))),
    datetime.datetime.max, datetime.datetime.min, datetime.timedelta.max, datetime.timedelta.min,
]  # fmt: skip


def test_a_time_keeps_its_zone() -> None:
    """A stored time keeps its zone, seconds of the offset and fold, so that it is right even months later."""
    for value in TIMES:
        found = loads(dumps(value))
        assert (found, repr(found)) == (value, repr(value))
        if isinstance(value, datetime.datetime) and value.year == 2024:
            assert (found + datetime.timedelta(days=180)).utcoffset() == (
                value + datetime.timedelta(days=180)
            ).utcoffset()


@given(
    st.datetimes(timezones=st.none() | st.timezones()) | st.times(timezones=st.none() | st.timezones())
    | st.timedeltas() | st.decimals(allow_nan=False) | st.dates() | st.uuids()
)  # fmt: skip
def test_any_time_and_number_is_equal_after_storing_and_loading(value: Any) -> None:
    found = loads(dumps(value))
    assert (found, repr(found)) == (value, repr(value))


def test_a_cached_property_is_not_stored_with_a_dataclass() -> None:
    value = WithCache(3)
    assert value.twice == 6
    found = loads(dumps(value))
    assert (found, found.twice) == (value, 6)
    assert "twice" not in dumps(value)


def with_attribute(value: Any, name: str) -> Any:
    setattr(value, name, "x")
    return value


def test_a_value_that_would_not_be_equal_after_loading_is_rejected() -> None:
    for value, said in [
        (with_attribute(Open(), "more"), "Open, whose attribute 'more' is not a field"),
        (
            with_attribute(Slotted(1), "hidden"),
            "Slotted, whose attribute 'hidden' is not a field",
        ),
        (
            with_attribute(LooseThree(1), "more"),
            "LooseThree, whose attribute 'more' is not a field",
        ),
        (OfDict(1), "OfDict, a dataclass that is also a dict"),
        (Finalized("x"), "Finalized, a class with a __del__ method"),
        (
            DerivedFromFinalized("x"),
            "DerivedFromFinalized, a class with a __del__ method",
        ),
        (FinalizedTuple(1, 2), "FinalizedTuple, a class with a __del__ method"),
        (OfDescriptor(), "OfDescriptor, whose field 'number' is set by its own code"),
        (OfError(1), "OfError, a dataclass that is also an? Exception"),
        (datetime.datetime(2024, 1, 1, tzinfo=OwnZone()), "OwnZone"),
        (datetime.time(1, tzinfo=OwnZone()), "OwnZone"),
    ]:
        with pytest.raises(NotSerializable, match=said):
            dumps(value)


def test_times_of_the_first_format_are_read() -> None:
    text = '{"$":"datetime","v":"2024-06-01T12:00:00+02:00"}'
    assert loads(text) == datetime.datetime(2024, 6, 1, 12, tzinfo=BERLIN)
    assert loads('{"$":"datetime","v":"2024-06-01T12:00:00Z"}').tzinfo is datetime.UTC


def test_nan_is_nan_after_storing_and_loading() -> None:
    assert math.isnan(loads(dumps(math.nan)))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates(),
    lambda inside: (
        st.lists(inside)
        | st.lists(inside).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inside)
    ),
    max_leaves=20,
)


@given(values)
def test_any_nested_value_is_equal_after_storing_and_loading(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert repr(loads(dumps(value))) == repr(
        value
    )  # a tuple for a tuple, True for True


def test_a_stored_command_result_keeps_code_times_and_output() -> None:
    job = CommandJob(
        ["sh", "-c", "echo out; exit 3"], stdout=subprocess.PIPE, check=False
    )
    Scheduler(job).run()
    result = job.result()
    found = loads(dumps(result))
    assert isinstance(found, CommandResult)
    for name in (
        "returncode",
        "signal",
        "elapsed",
        "user_time",
        "system_time",
        "max_rss",
        "stdout",
        "stderr",
    ):
        assert getattr(found, name) == getattr(result, name)


def test_a_stored_command_result_keeps_its_memory_usage() -> None:
    """A stored CommandResult keeps its peak memory, which stays None if it was not measured."""
    for rss in [0, 5000]:
        result = CommandResult(0, 1.0, ReportedUsage(0.5, 0.25, rss), None, None)
        found = loads(dumps(result))
        assert (found.max_rss, found.user_time, found.system_time) == (
            result.max_rss,
            0.5,
            0.25,
        )


class Text(str):
    __slots__ = ()


def local() -> object:
    @dataclasses.dataclass
    class Local:
        number: int = 0

    return Local()


cycle: list[Any] = []
cycle.append(cycle)


UNSTORABLE = [
    (object(), "builtins:object"), ([{"a": len}], "builtin_function_or_method"), (Text("x"), "Text"),
    (local(), "not at the top level"), (cycle, "contains itself"), (Scheduler(), "Scheduler"),
    (ast.Pass(), "a value of type ast:Pass"), (re.I | re.M, "a value of type re:RegexFlag"),
]  # fmt: skip


def test_the_error_names_the_type_that_cannot_be_stored() -> None:
    for value, said in UNSTORABLE:
        with pytest.raises(NotSerializable, match=said):
            dumps(value)


def test_loading_calls_no_code_of_a_class() -> None:
    text = dumps(Trap(1))
    Bomb.exploded = False
    assert loads(text).number == 1
    assert not Bomb.exploded


RUNNING_CODE = [
    '{"$":"dataclass","t":"HERE:Finalized","v":{"path":"/etc/passwd"}}',
    '{"$":"dataclass","t":"HERE:DerivedFromFinalized","v":{"path":"","number":1}}',
    '{"$":"namedtuple","t":"HERE:FinalizedTuple","v":{"one":1,"other":2}}',
    '{"$":"dataclass","t":"HERE:OfDescriptor","v":{"number":13}}',
]


def test_a_class_whose_instances_run_code_is_not_restored() -> None:
    """A forged text cannot name a class with a `__del__`, which would run with the values of the text, or a setter."""
    for text in RUNNING_CODE:
        Bomb.exploded = False
        with pytest.raises(
            NotSerializable,
            match=r"a class with a __del__ method|is set by its own code",
        ):
            loads(text.replace("HERE", __name__))
        gc.collect()
        assert not Bomb.exploded


INVALID = [
    '{"$":"dataclass","t":"antigravity:x","v":{}}', '{"$":"dataclass","t":"os:system","v":{}}',
    '{"$":"dataclass","t":"subprocess:Popen","v":{"args":"true"}}', '{"$":"enum","t":"os:environ","v":"HOME"}',
    '{"$":"namedtuple","t":"builtins:object","v":[]}', '{"$":"no such type","v":0}', '{"$":"bytes"}', "nonsense",
    '{"$":["list"],"v":0}', '{"$":"date","v":"yesterday"}', '{"$":"dict","v":[[[],1]]}',
]  # fmt: skip


def test_invalid_text_is_rejected_without_imports_or_calls() -> None:
    for text in INVALID:
        with pytest.raises(NotSerializable):
            loads(text)
        assert "antigravity" not in sys.modules


def test_the_error_names_a_removed_enumeration_member() -> None:
    with pytest.raises(
        NotSerializable, match=r"a member of .* that no longer exists: 'GONE'"
    ):
        loads(dumps(socket.AddressFamily.AF_UNIX).replace("AF_UNIX", "GONE"))


def test_a_stored_dataclass_whose_fields_have_changed_is_rejected() -> None:
    with pytest.raises(NotSerializable, match="fields have changed"):
        loads(dumps(Point(1.0)).replace('"inner"', '"other"'))


def test_a_stored_named_tuple_whose_fields_have_changed_is_rejected() -> None:
    fields = '{"one":1,"other":2}'
    for written in [
        '{"one":1}',
        '{"one":1,"other":2,"third":3}',
        '{"one":1,"third":3}',
        "[1]",
        "[1,2,3]",
    ]:
        text = dumps(Pair(1, 2))
        with pytest.raises(NotSerializable, match="fields have changed"):
            loads(text.replace(fields, written))
        with pytest.raises(NotSerializable, match="fields have changed"):
            loads(text.replace(fields, written).replace(":Pair", ":Point"))


def test_fields_of_a_named_tuple_count_by_their_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stored named tuple whose class has its fields in another order is not swapped; it once was."""
    text = dumps(Pair(1, 2))
    swapped: Any = collections.namedtuple("Pair", ["other", "one"])
    monkeypatch.setattr(swapped, "__module__", __name__)
    monkeypatch.setitem(globals(), "Pair", swapped)
    assert loads(text)._asdict() == {"other": 2, "one": 1}
    assert json.loads(dumps(swapped(2, 1))) == json.loads(text)


def test_a_long_value_is_compared_by_its_hash() -> None:
    assert comparison_form("[1,2]") == "[1,2]"
    assert comparison_form('"' + "x" * 100 + '"').startswith("~")
    assert comparison_form('"' + "x" * 100 + '"') != comparison_form(
        '"' + "y" * 100 + '"'
    )


@pytest.mark.parametrize("suffix", ["", "\udcff"])
def test_outputs_on_disk_are_not_in_the_text(suffix: str) -> None:
    spools = [OutputSpool() for _ in range(2)]
    for spool, output in zip(spools, (b"first", b"second"), strict=True):
        spool.write(output)
    results = [
        CommandResult(0, 1.0, ReportedUsage(0.0, 0.0, 0), spool, b"1")
        for spool in spools
    ]
    value = {"x": [(result,) for result in results], "y": f"text{suffix}"}
    found: dict[OutputSpool, int] = {}
    restored = loads(dumps(value, spools=found), [*found])
    assert [*found] == spools
    assert [(result.stdout, result.stderr) for (result,) in restored["x"]] == [
        (b"first", b"1"),
        (b"second", b"1"),
    ]
    assert dumps(restored) == dumps(value)
    with pytest.raises(NotSerializable, match="IndexError"):
        loads(dumps(value, spools={}))


def test_an_output_on_disk_that_a_value_has_twice_is_stored_once() -> None:
    spool = OutputSpool()
    spool.write(b"output")
    result = CommandResult(0, 1.0, ReportedUsage(0.0, 0.0, 0), spool, spool)
    found: dict[OutputSpool, int] = {}
    restored = loads(dumps([result, (result,)], spools=found), [*found])
    assert found == {spool: 0}
    assert [(each.stdout, each.stderr) for each in (restored[0], *restored[1])] == [
        (b"output", b"output")
    ] * 2
