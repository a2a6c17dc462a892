"""`Option`: a descriptor that declares one option of a job, with its default, its check, and when it may be set.

Each option is an attribute of its class and a keyword argument of the constructor. Type checkers also need the types of
the arguments in a `TypedDict`; a test checks that the two agree.
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

    CheckValue = Callable[[Any, str, Subject], Any]
    GetValue = Callable[[AbstractJob[Any]], Any]

R = TypeVar("R", _job_options.SlowPathOptions, _job_options.SchedulingOptions, _job_options.TriggerRule)
GetType = TypeVar("GetType")
if TYPE_CHECKING:  # most options have the same type on reading and on setting
    SetType = TypeVarWithDefault("SetType", default=GetType)
else:
    SetType = TypeVar("SetType")


class Option(Generic[GetType, SetType]):
    """The descriptor of one option. `GetType` is the type on reading, and `SetType` the type on setting.

    Args:
        default: the value for jobs without the option.
        check: called with the user's value, the name of the option and the name of the job. It returns the value to
            store, or raises an error.
        getter: returns the value to read for a job; None to read the stored value.
        settable_in_run: whether the option may also be set during a run.

    """

    name: str
    default: SetType
    settable_when: str
    """When the option may be set, as text for the documentation."""
    attribute: str = ""
    """The attribute of a job that stores the value, or the record with the value."""

    def __init__(
        self, default: SetType, check: CheckValue, *, getter: GetValue | None = None, settable_in_run: bool = False
    ) -> None:
        self.default = default
        self.check = check
        self.getter: Any = getter
        self.settable_in_run = settable_in_run
        self.settable_when = "at any time" if settable_in_run else "while no run is in progress"

    def __set_name__(self, kind: type[AbstractJob[Any]], name: str) -> None:
        self.name = name
        self.attribute = self.attribute or f"_{name}"
        self.getter = self.getter or operator.attrgetter(
            self.attribute
        )  # implemented in C, so that reading takes one call
        if "_declared_options" not in vars(kind):
            kind._declared_options = dict(getattr(kind, "_declared_options", {}))
        kind._declared_options[name] = self

    @overload
    def __get__(self, job: None, kind: type[AbstractJob[Any]]) -> Self: ...
    @overload
    def __get__(self, job: AbstractJob[Any], kind: type[AbstractJob[Any]]) -> GetType: ...
    def __get__(self, job: AbstractJob[Any] | None, kind: type[AbstractJob[Any]]) -> Any:
        """Return the option's value for `job`."""
        return self if job is None else self.getter(job)

    def __set__(self, job: AbstractJob[Any], value: SetType) -> None:
        """Check and set the value.

        Raises:
            RuntimeError: a run is in progress, and the option may not be set during a run.
            TypeError, ValueError: the value is invalid.

        """
        if not self.settable_in_run:
            job._reject_during_run(self.name)
        previous = getattr(job, self.attribute)
        self.store(job, value)
        try:
            job._check_options()
        except BaseException:
            setattr(job, self.attribute, previous)
            raise

    def store(self, job: AbstractJob[Any], value: Any) -> None:
        """Check and store a value, even during a run."""
        setattr(job, self.attribute, self.check(value, self.name, job._name_for_errors))


class RareOption(Option[GetType, SetType]):
    """An option that few jobs have, stored in a record together with other such options. Most jobs have no record.

    Args:
        attribute: the attribute of a job that stores the record, or None if the job has none.

    """

    default_records: ClassVar[dict[str, Any]] = {}
    """The record with all defaults, by the attribute that stores it."""

    def __init__(self, default: SetType, check: CheckValue, attribute: str, getter: GetValue | None = None) -> None:
        super().__init__(default, check, getter=getter or self.read_from_record)
        self.attribute = attribute

    def read_from_record(self, job: AbstractJob[Any]) -> Any:
        """Return the value in the record of a job, or the default if the job has no record."""
        return getattr(getattr(job, self.attribute) or self.default_records[self.attribute], self.name)

    def store(self, job: AbstractJob[Any], value: Any) -> None:
        """Check a value, and store it in a new record."""
        checked = self.check(value, self.name, job._name_for_errors)
        record, defaults = getattr(job, self.attribute), self.default_records[self.attribute]
        if record is not None or checked != getattr(defaults, self.name):
            setattr(job, self.attribute, replace_field(record or defaults, self.name, checked))


def replace_field(record: R, name: str, value: Any) -> R:
    """Return a copy of a record with a new value in one field."""
    return type(record)(*[value if field == name else getattr(record, field) for field in record._fields])


def register_default_record(kind: type[AbstractJob[Any]], attribute: str, record_type: type[R]) -> R:
    """Create and register the record with the defaults of all options that are stored in such records.

    Args:
        kind: the class that declares the options.
        attribute: the attribute of a job that stores the record.
        record_type: the class of the record, whose fields are the names of the options.

    """
    options = [option for option in kind._declared_options.values() if option.attribute == attribute]
    record = record_type(**{option.name: option.check(option.default, option.name, "") for option in options})
    RareOption.default_records[attribute] = record
    return record


class SlowPathOption(RareOption[GetType, SetType]):
    """An option that takes a job off the engine's hot path.

    Jobs with the same options share a cached record, because checking the values and making a record would double the
    cost of creating a job.
    """

    def __init__(self, default: SetType, check: CheckValue) -> None:
        super().__init__(default, check, "_slow_path")

    def store(self, job: AbstractJob[Any], value: Any) -> None:
        """Check a value, and store a record with it, from the cache if possible."""
        record = job._slow_path or self.default_records[self.attribute]
        if type(value) in CACHEABLE_TYPES and self.check is not _job_options.accept_any:
            try:
                job._slow_path = _cached_record(record, self, value)
                return
            except (TypeError, ValueError):
                pass  # the next line raises the error again, with the name of the job
        job._slow_path = self.changed_record(record, value, job._name_for_errors)

    def changed_record(
        self, record: _job_options.SlowPathOptions, value: Any, subject: Subject
    ) -> _job_options.SlowPathOptions:
        """Check a value, and return a record with it; the default record if all its values are defaults."""
        new_record = replace_field(record, self.name, self.check(value, self.name, subject))
        defaults: _job_options.SlowPathOptions = self.default_records[self.attribute]
        has_only_defaults = all(getattr(new_record, field) is getattr(defaults, field) for field in defaults._fields)
        return defaults if has_only_defaults else new_record


CACHEABLE_TYPES: Final = frozenset({float, int, bool, str, type(None)})
"""The types of values whose records are cached. Other values may be mutable, so that their equality may change."""
CACHE_SIZE: Final = 256
"""The maximum number of records in the cache."""


@functools.lru_cache(maxsize=CACHE_SIZE, typed=True)  # typed, because True == 1, and True is not a valid number
def _cached_record(
    record: _job_options.SlowPathOptions, option: SlowPathOption[Any, Any], value: Any
) -> _job_options.SlowPathOptions:
    return option.changed_record(record, value, "")


class SchedulingOption(RareOption[GetType, SetType]):
    """An option about the start order or needs. A scheduler keeps a list of its jobs with such options."""

    def __init__(self, default: SetType, check: CheckValue, getter: GetValue | None = None) -> None:
        super().__init__(default, check, "_scheduling", getter)

    def store(self, job: AbstractJob[Any], value: Any) -> None:
        """Check a value, store it in a new record, and update the list of the job's scheduler."""
        checked = self.check(value, self.name, job._name_for_errors)
        options: _job_options.SchedulingOptions = job._scheduling or self.default_records[self.attribute]
        _store_scheduling_options(job, replace_field(options, self.name, checked))


def _store_scheduling_options(job: AbstractJob[Any], options: _job_options.SchedulingOptions) -> None:
    """Store a record (None if it has only defaults), and update the list of the job's scheduler."""
    job._scheduling = options if options.expected_duration is not None or options.priority or options.needs else None
    if job._scheduler is not None:
        job._scheduler._members.update_scheduling_options(job)


def set_run_need(job: AbstractJob[Any], name: str, amount: int) -> None:
    """Set a job's need for a resource of the run itself, in addition to `needs`. Call this in `check_before_run`.

    Args:
        job: the job.
        name: the name passed to `declare_run_resource`.
        amount: a whole number; 0 if the job does not need the resource.

    """
    options: _job_options.SchedulingOptions = job._scheduling or RareOption.default_records["_scheduling"]
    needs = {other: need for other, need in options.needs.items() if other != name}
    if amount:
        needs[name] = amount
    if needs != options.needs:
        _store_scheduling_options(job, options._replace(needs=needs))


class ReadOnlyOption(Option[GetType, SetType]):
    """An option that cannot be set after the job is created.

    Args:
        method: the call that changes the option, for errors and the documentation.

    """

    def __init__(self, default: SetType, method: str, getter: GetValue | None = None) -> None:
        super().__init__(default, _job_options.accept_any, getter=getter)
        self.method = method
        self.settable_when: str = f"only by {method}"

    def __set__(self, job: AbstractJob[Any], value: Never) -> None:  # type: ignore[override]  # so that type checkers reject it
        """Raise AttributeError, because the option cannot be set."""
        subject = job._name_for_errors()
        raise AttributeError(f"{self.name} of {subject} cannot be set: call {self.method}", name=self.name, obj=job)


def set_docs_and_signature(kind: type[AbstractJob[Any]], constructor: Callable[..., None]) -> None:
    """Set the docstrings of a class's options, taken from the class's docstring, and its signature, for `help()`.

    Args:
        kind: a class with options, whose docstring describes each of them under Args.
        constructor: its `__init__`, which takes the options as `**options`.

    """
    indent = " " * (
        4 if sys.version_info >= (3, 13) else 8
    )  # the indentation of the entries under Args; Python 3.13 and later strip 4 columns of it
    descriptions = dict(re.findall(rf"^{indent}(\w+): (.+(?:\n{indent}    .+)*)", kind.__doc__ or "", re.MULTILINE))
    for option in kind._declared_options.values():
        if option.name in descriptions and "__doc__" not in vars(option):
            option.__doc__ = re.sub(r"\n +", "\n", descriptions[option.name])
    cast(Any, kind).__signature__ = _Signature(constructor)


class _Signature:
    """The descriptor of `__signature__` of classes with options. It builds the signature on access, in 1 ms."""

    def __init__(self, constructor: Callable[..., None]) -> None:
        self._constructor = constructor

    def __get__(self, job: AbstractJob[Any] | None, kind: type[AbstractJob[Any]]) -> Signature:
        if job is not None or kind.__init__ is not self._constructor:
            raise AttributeError("__signature__")  # a subclass with its own `__init__` has another signature
        import inspect

        parameters = list(inspect.signature(self._constructor).parameters.values())[1:]  # without `self`
        explicit = [p for p in parameters if p.kind is not p.VAR_KEYWORD and not p.name.startswith("_")]
        options = [
            inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default)
            for option in kind._declared_options.values()
        ]
        return inspect.Signature([*explicit, *options], return_annotation=None)
