"""`Option`: a descriptor that declares an option of a job, with its default, its check, and when it may be set.

Each option is an attribute of its class and a keyword argument of the constructor. Type checkers also need the types of
the arguments in a `TypedDict`. A test checks that the two agree.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Never,
    Self,
    TypeVar,
    cast,
    overload,
)

from . import _job_options

GetType = TypeVar("GetType")

if TYPE_CHECKING:
    from inspect import Signature

    from typing_extensions import TypeVar as TypeVarWithDefault

    from ._job import AbstractJob, AnyJob
    from ._job_options import OptionRecord, Subject

    CheckValue = Callable[[Any, str, Subject], Any]
    GetValue = Callable[[AnyJob], Any]
    # Most options have the same type on reading and on setting.
    SetType = TypeVarWithDefault("SetType", default=GetType)
else:
    SetType = TypeVar("SetType")


class Readable(Generic[GetType]):
    """A descriptor of what jobs have, for `Option` and `Argument`. `getter` returns the value for a job."""

    name: str
    getter: Any

    @overload
    def __get__(self, job: None, kind: type[AnyJob]) -> Self: ...
    @overload
    def __get__(self, job: AnyJob, kind: type[AnyJob]) -> GetType: ...
    def __get__(self, job: AnyJob | None, kind: type[AnyJob]) -> Any:
        if job is None:
            return self
        return self.getter(job)

    def reject_change(self, job: AnyJob, remedy: str) -> Never:
        """Reject a new value.

        Raises:
            AttributeError: always.

        """
        subject = job._name_for_errors()
        raise AttributeError(
            f"{self.name} of {subject} cannot be set: {remedy}", name=self.name, obj=job
        )


class Option(Readable[GetType], Generic[GetType, SetType]):
    """The descriptor of an option. `GetType` is the type on reading, and `SetType` the type on setting.

    Args:
        default: the value for jobs without the option.
        check: called with the user's value, the name of the option and the name of the job. It returns the value to
            store, or raises an error.
        getter: returns the value to read for a job, or None to read the stored value.
        settable_in_run: whether the option may also be set during a run.

    """

    default: SetType
    attribute: str = ""
    """The attribute of a job that stores the value, or the record with the value."""

    def __init__(
        self,
        default: SetType,
        check: CheckValue,
        getter: GetValue | None = None,
        *,
        settable_in_run: bool = False,
    ) -> None:
        self.default = default
        self.check = check
        self.getter = getter
        self.settable_in_run = settable_in_run

    def __set_name__(self, kind: type[AbstractJob[Any]], name: str) -> None:
        self.name = name
        self.attribute = self.attribute or f"_{name}"
        # implemented in C, so that reading takes a single call
        self.getter: Any = self.getter or operator.attrgetter(self.attribute)
        kind._declared_options = {**getattr(kind, "_declared_options", {}), name: self}

    def __set__(self, job: AbstractJob[Any], value: SetType) -> None:
        """Check and set the value.

        Raises:
            RuntimeError: a run is in progress, and the option may not be set during a run.
            TypeError, ValueError: the value is invalid.

        """
        # A settled job may get a timeout during a run, for its next try: each call reads it as it begins.
        is_timeout = self.name in ("timeout", "idle_timeout")
        if not (self.settable_in_run or (is_timeout and job._state.is_settled)):
            job._reject_during_run(self.name)
        previous = getattr(job, self.attribute)
        self.store(job, value)
        try:
            job._check_options()
        except BaseException:
            setattr(job, self.attribute, previous)
            raise

    def store(self, job: AbstractJob[Any], value: object) -> None:
        """Check and store a value, even during a run."""
        setattr(job, self.attribute, self.check(value, self.name, job._name_for_errors))


class SharedOption(Option[GetType, SetType]):
    """An option that is stored in the job's record of options, which jobs with equal options share.

    Records are cached, because checking the values and making a record would double the cost of creating a job.
    """

    attribute = "_options"

    def __set_name__(self, kind: type[AnyJob], name: str) -> None:
        self.getter = self.getter or operator.attrgetter(f"_options.{name}")
        super().__set_name__(kind, name)

    def store(self, job: AnyJob, value: object) -> None:
        """Check a value, and give the job a record with it, from the cache if possible."""
        record = job._options
        if (
            record.is_shared
            and type(value) in CACHEABLE_TYPES
            and self.check is not _job_options.accept_any
        ):
            try:
                job._use_options(_cached_record(record, self, value))
                return
            except (TypeError, ValueError):
                # The next line raises the error again, with the name of the job.
                pass
        job._use_options(
            record.replace(
                self.name, self.check(value, self.name, job._name_for_errors)
            )
        )


CACHEABLE_TYPES: Final = frozenset({float, int, bool, str, type(None)})
"""The types of values whose records are cached. Other values may be mutable, so that their equality may change."""


# Typed, because True == 1, and True is not a valid number.
@functools.lru_cache(maxsize=256, typed=True)
def _cached_record(
    record: OptionRecord, option: SharedOption[Any, Any], value: object
) -> OptionRecord:
    checked = option.check(value, option.name, "")
    return record.replace(option.name, checked, is_shared=True)


def set_run_need(job: AnyJob, name: str, amount: int) -> None:
    """Set a job's need for a resource of the run itself, in addition to `needs`. Call this in `check_before_run`.

    Args:
        job: the job.
        name: the name passed to `declare_run_resource`.
        amount: a whole number, or 0 if the job does not need the resource.

    """
    options = job._options
    needs = {other: need for other, need in options.needs.items() if other != name}
    if amount:
        needs[name] = amount
    if needs != options.needs:
        job._use_options(options.replace("needs", needs))


class LabelOption(Option[str, str | None]):
    """The descriptor of the label. A scheduler that has named its members in paths must know of a new one."""

    def store(self, job: AnyJob, value: object) -> None:
        super().store(job, value)
        if job._scheduler is not None:
            job._scheduler._members.on_renamed(job)


class ReadOnlyOption(Option[GetType, SetType]):
    """An option that cannot be set after the job is created.

    Args:
        method: the call that changes the option, for errors.

    """

    def __init__(
        self, default: SetType, method: str, getter: GetValue | None = None
    ) -> None:
        super().__init__(default, _job_options.accept_any, getter)
        self.method = method

    def __set__(self, job: AnyJob, value: Never) -> None:  # type: ignore[override]  # so that type checkers reject it
        self.reject_change(job, f"call {self.method}")


class Argument(Readable[GetType]):
    """An argument of the constructor of a kind, which can be read but not set. The options of every job can be set.

    Args:
        attribute: the attribute that has the value, or None for the name of the parameter after an underscore.

    """

    def __init__(self, attribute: str | None = None) -> None:
        self._attribute = attribute

    def __set_name__(self, kind: type[AnyJob], name: str) -> None:
        self.name = name
        self.getter: Any = operator.attrgetter(self._attribute or f"_{name}")

    def __set__(self, job: AnyJob, value: Never) -> None:
        self.reject_change(job, "make another job")


def set_docs_and_signature(
    kind: type[AnyJob], constructor: Callable[..., None]
) -> None:
    """Set the docstrings of a class's options, taken from the class's docstring, and its signature, for `help()`.

    Args:
        kind: a class with options, whose docstring describes each of them under Args.
        constructor: its `__init__`, which takes the options as `**options`.

    """
    doc = kind.__doc__ or ""
    # Python 3.13 and later strip the indentation of docstrings (python/cpython#81283).
    heading = re.search(r"^( *)Args:", doc, re.MULTILINE)
    indent = "    " if heading is None else f"{heading[1]}    "
    descriptions = dict(
        re.findall(rf"^{indent}(\w+): (.+(?:\n{indent}    .+)*)", doc, re.MULTILINE)
    )
    for option in kind._declared_options.values():
        if option.name in descriptions and "__doc__" not in vars(option):
            option.__doc__ = re.sub(r"\n +", "\n", descriptions[option.name])
    cast(Any, kind).__signature__ = _Signature(constructor)


class _Signature:
    """The descriptor of `__signature__` of classes with options. It builds the signature on access, in 1 ms."""

    def __init__(self, constructor: Callable[..., None]) -> None:
        self._constructor = constructor

    def __get__(self, job: AnyJob | None, kind: type[AnyJob]) -> Signature:
        if job is not None or kind.__init__ is not self._constructor:
            # A subclass with its own `__init__` has another signature.
            raise AttributeError("__signature__")
        import inspect

        _self, *parameters = inspect.signature(self._constructor).parameters.values()
        if kind._is_scheduler:
            shown = [each.replace(annotation=each.empty) for each in parameters]
            return inspect.Signature(shown, return_annotation=None)
        shown = [
            each
            for each in parameters
            if each.kind is not each.VAR_KEYWORD and not each.name.startswith("_")
        ]
        explicit = {each.name for each in shown}
        by_name = inspect.Parameter.KEYWORD_ONLY
        for name, option in kind._declared_options.items():
            if name not in explicit:
                shown.append(inspect.Parameter(name, by_name, default=option.default))
        return inspect.Signature(shown, return_annotation=None)
