"""`Option`: the declaration of one option of a job: its name, check and default, and when it may change.

An option is an attribute of its class, and a keyword argument of its constructor. Type checkers need the types of the
arguments a second time, in a `TypedDict`; a test compares the two.
"""

from __future__ import annotations

import functools
import operator
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Never, Self, TypeVar, cast, overload

from . import _job_options

if TYPE_CHECKING:
    from inspect import Signature

    from typing_extensions import TypeVar as TypeVarWithDefault

    from ._job import AbstractJob
    from ._job_options import Subject

    Check = Callable[[Any, str, Subject], Any]
    Shown = Callable[[AbstractJob[Any]], Any]

R = TypeVar("R", _job_options.SlowPathOptions, _job_options.SchedulingOptions, _job_options.TriggerRule)
Read = TypeVar("Read")
if TYPE_CHECKING:  # most options read as they were set
    Given = TypeVarWithDefault("Given", default=Read)
else:
    Given = TypeVar("Given")


class Option(Generic[Read, Given]):
    """One option: `Read` is the type on reading, `Given` the type on setting.

    Args:
        default: the value of a job without the option.
        check: returns the stored value, or raises; its arguments are the user's value, the option's name and the job's.
        shown: returns the value on reading, if that is not the stored one.
        in_run: whether it may be set during a run too.

    """

    name: str
    default: Given
    change: str
    """The times at which it may be set, in words."""
    place: str = ""
    """The attribute of a job that stores it, or its record."""

    def __init__(self, default: Given, check: Check, *, shown: Shown | None = None, in_run: bool = False) -> None:
        self.default = default
        self.check = check
        self.shown: Any = shown
        self.in_run = in_run
        self.change = "at any time" if in_run else "while no run is in progress"

    def __set_name__(self, kind: type[AbstractJob[Any]], name: str) -> None:
        self.name = name
        self.place = self.place or f"_{name}"
        self.shown = self.shown or operator.attrgetter(self.place)  # reading a slot takes one call
        if "_declared" not in vars(kind):
            kind._declared = dict(getattr(kind, "_declared", {}))
        kind._declared[name] = self

    @overload
    def __get__(self, job: None, kind: type[AbstractJob[Any]]) -> Self: ...
    @overload
    def __get__(self, job: AbstractJob[Any], kind: type[AbstractJob[Any]]) -> Read: ...
    def __get__(self, job: AbstractJob[Any] | None, kind: type[AbstractJob[Any]]) -> Any:
        """Return the value of this job."""
        return self if job is None else self.shown(job)

    def __set__(self, job: AbstractJob[Any], value: Given) -> None:
        """Set the option; raise for a bad value, or during a run."""
        if not self.in_run:
            job._reject_during_run(self.name)
        before = getattr(job, self.place)
        self.store(job, value)
        try:
            job._check_options()
        except BaseException:
            setattr(job, self.place, before)
            raise

    def store(self, job: AbstractJob[Any], value: Any) -> None:
        """Check and store a value."""
        setattr(job, self.place, self.check(value, self.name, job._name_for_errors))


class RareOption(Option[Read, Given]):
    """An option that few jobs have: it is stored in a record; a job without any of these options has no record.

    Args:
        place: the attribute that holds the record, or None.

    """

    usual: ClassVar[dict[str, Any]] = {}
    """The record with all defaults, by its place."""

    def __init__(self, default: Given, check: Check, place: str, shown: Shown | None = None) -> None:
        super().__init__(default, check, shown=shown or self.kept)
        self.place = place

    def kept(self, job: AbstractJob[Any]) -> Any:
        """Return the stored value of a job."""
        return getattr(getattr(job, self.place) or self.usual[self.place], self.name)

    def store(self, job: AbstractJob[Any], value: Any) -> None:
        """Check and store a value."""
        checked = self.check(value, self.name, job._name_for_errors)
        record, usual = getattr(job, self.place), self.usual[self.place]
        if record is not None or checked != getattr(usual, self.name):
            setattr(job, self.place, replace_field(record or usual, self.name, checked))


def replace_field(record: R, name: str, value: Any) -> R:
    """Return a copy of a record with another value in this field."""
    return type(record)(*[value if field == name else getattr(record, field) for field in record._fields])


def register_default_record(kind: type[AbstractJob[Any]], place: str, record: type[R]) -> R:
    """Make the record of a job with the defaults of all options that are stored there."""
    options = [option for option in kind._declared.values() if option.place == place]
    made = record(**{option.name: option.check(option.default, option.name, "") for option in options})
    RareOption.usual[place] = made
    return made


class SlowPathOption(RareOption[Read, Given]):
    """An option that takes a job off the engine's hot path.

    Jobs with the same options share the record: checking them and making one doubles the cost of a job.
    """

    def __init__(self, default: Given, check: Check) -> None:
        super().__init__(default, check, "_slow_path")

    def store(self, job: AbstractJob[Any], value: Any) -> None:
        """Check and store a value."""
        record = job._slow_path or self.usual[self.place]
        if type(value) in CACHEABLE_TYPES and self.check is not _job_options.accept:
            try:
                job._slow_path = _cached_record(record, self, value)
                return
            except (TypeError, ValueError):
                pass  # raised again, with the name of the job
        job._slow_path = self._with(record, value, job._name_for_errors)

    def _with(self, record: _job_options.SlowPathOptions, value: Any, subject: Subject) -> _job_options.SlowPathOptions:
        new_record = replace_field(record, self.name, self.check(value, self.name, subject))
        usual: _job_options.SlowPathOptions = self.usual[self.place]
        is_usual = all(getattr(new_record, field) is getattr(usual, field) for field in usual._fields)
        return usual if is_usual else new_record


CACHEABLE_TYPES: Final = frozenset({float, int, bool, str, type(None)})
"""Types of values that may be cached; another object may be equal to another number later."""
CACHE_SIZE: Final = 256
"""The number of records that are cached for further jobs."""


@functools.lru_cache(maxsize=CACHE_SIZE, typed=True)  # typed: True is not a number
def _cached_record(
    record: _job_options.SlowPathOptions, option: SlowPathOption[Any, Any], value: Any
) -> _job_options.SlowPathOptions:
    return option._with(record, value, "")


class SchedulingOption(RareOption[Read, Given]):
    """An option about the order of starts or pools; the scheduler keeps a list of its jobs."""

    def __init__(self, default: Given, check: Check, shown: Shown | None = None) -> None:
        super().__init__(default, check, "_scheduling", shown)

    def store(self, job: AbstractJob[Any], value: Any) -> None:
        """Check and store a value."""
        checked = self.check(value, self.name, job._name_for_errors)
        demand: _job_options.SchedulingOptions = replace_field(
            job._scheduling or self.usual[self.place], self.name, checked
        )
        _store_scheduling_options(job, demand)


def _store_scheduling_options(job: AbstractJob[Any], demand: _job_options.SchedulingOptions) -> None:
    job._scheduling = demand if demand.expected_duration is not None or demand.priority or demand.needs else None
    if job._scheduler is not None:
        job._scheduler._members.update_scheduling_options(job)


def need_of_run(job: AbstractJob[Any], name: str, amount: int) -> None:
    """Set the need of a job for a resource of the run itself, besides `needs`; call it in `check_before_run`.

    Args:
        job: the job.
        name: the name passed to `declare_run_resource`.
        amount: a whole number; 0 for nothing.

    """
    demand: _job_options.SchedulingOptions = job._scheduling or RareOption.usual["_scheduling"]
    needs = {other: need for other, need in demand.needs.items() if other != name}
    if amount:
        needs[name] = amount
    if needs != demand.needs:
        _store_scheduling_options(job, demand._replace(needs=needs))


class ReadOnlyOption(Option[Read, Given]):
    """An option that cannot be set later: `instead` is the call that changes it."""

    def __init__(self, default: Given, instead: str, shown: Shown | None = None) -> None:
        super().__init__(default, _job_options.accept, shown=shown)
        self.instead = instead
        self.change: str = f"only by {instead}"

    def __set__(self, job: AbstractJob[Any], value: Never) -> None:  # type: ignore[override]  # type checkers refuse it too
        """Reject any value."""
        subject = job._name_for_errors()
        raise AttributeError(f"{self.name} of {subject} cannot be set: call {self.instead}", name=self.name, obj=job)


def options_of_kind(kind: type[AbstractJob[Any]]) -> list[Option[Any, Any]]:
    """Return the options of a kind of job in the order of their declaration, the options of all kinds first."""
    return list(kind._declared.values())


def set_docs_and_signature(kind: type[AbstractJob[Any]], constructor: Callable[..., None]) -> None:
    """Give options their docstrings, taken from that of the class, and a class its signature, for `help()`.

    Args:
        kind: a class with options, and with a description of each under Args in its docstring.
        constructor: its `__init__`, which takes the options as `**options`.

    """
    indent = " " * (
        4 if sys.version_info >= (3, 13) else 8
    )  # the indent of the lines under Args; later Pythons strip 4
    described = dict(re.findall(rf"^{indent}(\w+): (.+(?:\n{indent}    .+)*)", kind.__doc__ or "", re.MULTILINE))
    for option in kind._declared.values():
        if option.name in described and "__doc__" not in vars(option):
            option.__doc__ = re.sub(r"\n +", "\n", described[option.name])
    cast(Any, kind).__signature__ = _Signature(constructor)


class _Signature:
    """The signature of classes with options, made on access, which takes 1 ms."""

    def __init__(self, constructor: Callable[..., None]) -> None:
        self._constructor = constructor

    def __get__(self, job: AbstractJob[Any] | None, kind: type[AbstractJob[Any]]) -> Signature:
        if job is not None or kind.__init__ is not self._constructor:
            raise AttributeError("__signature__")  # a subclass with an `__init__` of its own has another one
        import inspect

        parameters = list(inspect.signature(self._constructor).parameters.values())[1:]  # leave out self
        spelt = [p for p in parameters if p.kind is not p.VAR_KEYWORD and not p.name.startswith("_")]
        options = [
            inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default)
            for option in kind._declared.values()
        ]
        return inspect.Signature([*spelt, *options], return_annotation=None)
