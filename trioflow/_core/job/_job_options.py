"""The types of a job's options, the record that stores them, and the checks of users' values."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    NamedTuple,
    TypeAlias,
    TypedDict,
    TypeVar,
    cast,
    get_args,
)

from ... import _hints
from ..base import _amounts, _user_code
from ..base._states import OnTimeout, RunIf
from ..base._text_forms import clause, is_among, short_repr, shown_value

SaveName = Literal["json", "pickle"]
AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Subject = str | Callable[[], str]
E = TypeVar("E", TypeError, ValueError)
EXPANSION_ADVICE: Final = "no shell expands '~' or '$NAME' here: give os.path.expanduser(path), or expandvars(path)"

if TYPE_CHECKING:
    from ..base._amounts import CheckedNeed, Need
    from ..scheduler._base_scheduler import BaseScheduler
    from ._job import AnyJob
    from ._requirements import Required
    from ._retry import Retry

    RetryOption: TypeAlias = "int | Retry | None"
    Save = SaveName | tuple[Callable[[Any], Any], Callable[[Any], Any]] | None
    JobSave = Literal["default"] | Save


class NestedJobOptions(TypedDict, total=False):
    """The types of the options of every kind of job except `label` and `timeout`, which a scheduler has by itself."""

    critical: bool | None
    forever: bool
    required: Required
    scheduler: BaseScheduler | None
    idle_timeout: float | None
    on_timeout: OnTimeout
    own_task: bool
    retry: RetryOption
    run_if: RunIf
    keep_result: bool
    redact: bool
    log: bool
    save: JobSave
    key: object
    version: object
    restore_if: Callable[[Any], object] | None
    reads: AnyPath | Iterable[AnyPath]
    writes: AnyPath | Iterable[AnyPath]
    priority: int
    expected_duration: float | None
    needs: Mapping[str, Need] | None


class OptionsExceptLabel(NestedJobOptions, total=False):
    """The types of the options of every kind of job except `label`."""

    timeout: float | None


class JobOptions(OptionsExceptLabel, total=False):
    """The types of all options of every kind of job. `AbstractJob` describes them.

    Most options concern a job of a scheduler. On an outermost scheduler, `label`, `timeout`, `idle_timeout`, `own_task`
    and `log` have an effect, but `critical`, `forever`, `on_timeout`, `required`, `retry` and `run_if` are refused when
    it runs. The others have no effect.
    """

    label: str | None


# ---- the record of a job's options, which `AbstractJob` declares, with their defaults


class OptionRecord:
    """All options of a job except its label, its requirements and its scheduler. Jobs with equal options share it.

    The class is not a NamedTuple, because records are keys of a cache and are compared by identity: users' values need
    not be hashable.

    Args:
        values: the values of the options, in the order of `OPTION_FIELDS`.
        is_shared: whether other jobs may have the record, which is then a key of the cache.

    """

    critical: bool | None
    forever: bool
    timeout: float | None
    idle_timeout: float | None
    on_timeout: OnTimeout
    own_task: bool
    retry: Retry | None
    run_if: RunIf
    keep_result: bool
    redact: bool
    log: bool
    save: JobSave
    key: object
    version: object
    restore_if: Callable[[Any], object] | None
    reads: tuple[AnyPath, ...]
    writes: tuple[AnyPath, ...]
    priority: int
    expected_duration: float | None
    needs: Mapping[str, CheckedNeed]
    __slots__ = (
        *__annotations__,
        "affects_order",
        "has_files",
        "is_plain",
        "is_shared",
    )

    def __init__(self, values: Iterable[Any], is_shared: bool) -> None:
        (
            self.critical, self.forever, self.timeout, self.idle_timeout, self.on_timeout, self.own_task,
            self.retry, self.run_if, self.keep_result, self.redact, self.log, self.save, self.key, self.version,
            self.restore_if, self.reads, self.writes, self.priority, self.expected_duration, self.needs,
        ) = values  # fmt: skip
        self.is_shared: Final = is_shared
        has_timeout = self.timeout is not None or self.idle_timeout is not None
        self.has_files: Final = bool(self.reads or self.writes)
        # A journal is told when an attempt begins.
        is_told = self.has_files or self.restore_if is not None
        # Whether a worker may call a job with these options itself, and settle it.
        self.is_plain: Final = not (
            has_timeout or self.forever or self.own_task or is_told or self.retry
        )
        # Whether the start order of ready jobs may depend on these options.
        self.affects_order: Final = self.expected_duration is not None or bool(
            self.priority or self.needs
        )

    def replace(
        self, name: str, value: object, is_shared: bool = False
    ) -> OptionRecord:
        *values, _was_shared = _values_of(self)
        values[OPTION_FIELDS.index(name)] = value
        return OptionRecord(values, is_shared)


OPTION_FIELDS: Final = tuple(OptionRecord.__annotations__)
OPTIONS_IN_FINGERPRINTS: Final = "key", "version", "reads", "writes"
# With one more than the 20 options, because CPython 3.11 keeps up to 2,000 freed tuples of 20 items, and uses none of
# them again.
_values_of: Final = operator.attrgetter(*OPTION_FIELDS, "is_shared")


class RunResource(NamedTuple):
    """A resource of the run itself. See `declare_run_resource` for the fields."""

    total: Callable[[], int]
    opening: str
    find_gate: Callable[[AnyJob], Any] | None


RUN_RESOURCES: Final[dict[str, RunResource]] = {}
"""The resources of the run itself, as opposed to a pool, by name."""


def declare_run_resource(
    name: str,
    total: Callable[[], int],
    opening: str = "",
    find_gate: Callable[[AnyJob], Any] | None = None,
) -> None:
    """Declare a resource of the run itself, as opposed to a pool, for kinds of jobs that call `set_run_need`.

    Args:
        name: the name of the resource, which no resource of a pool may have.
        total: returns the total of the resource. It is called once in each run that needs the resource.
        opening: a text for jobs that wait until the gate is open, such as "connecting to n".
        find_gate: returns the gate of the resource in a run, given a job that could start but for the gate, or None if
            the resource has none. A gate has two methods. `is_closed_to(job)` returns whether a job has to wait. Any
            thread may call it. `await open(jobs)` opens the gate for these jobs, which could start together but for it.
            On its return, the gate must be open to the first of them, even if it could not be opened: the job then
            finds out itself what is wrong. If the gate has the methods `enter(job)` and `leave(job)`, they are called
            when a job takes the resource, and when it gives it back.

    """
    RUN_RESOURCES[name] = RunResource(total, opening, find_gate)


# ---- checks
#
# Each check takes a value, the name of its option, and a subject, which is the name of the job or a function that
# returns this name. It returns the value to store, or raises an error that names the option and the job.


NO_CONDITION: Final = (
    "; a condition of your own goes into the job, which may return at once, or into one before it that adds jobs "
    "by current_scheduler().add()"
)


def choice_of(
    literal: object, instead_of_function: str = ""
) -> Callable[[Any, str, Subject], Any]:
    """Return the check that a value belongs to a `Literal` type. A function gets more advice."""

    def check(value: object, name: str, subject: Subject) -> Any:
        if is_among(value, get_args(literal)):
            return value
        advice = f"choose one of {', '.join(get_args(literal))}"
        if callable(value):
            advice += instead_of_function
        raise bad_value_error(ValueError, value, name, subject, advice)

    return check


def accept_any(value: object, name: str, subject: Subject) -> Any:
    return value


def or_none(
    check: Callable[[Any, str, Subject], Any],
) -> Callable[[Any, str, Subject], Any]:
    """Return the check that a value is None, or passes another check."""

    def check_unless_none(value: Any, name: str, subject: Subject) -> Any:
        if value is None:
            return None
        return check(value, name, subject)

    return check_unless_none


def check_save(
    value: object,
    name: str,
    subject: Subject,
    names: tuple[str, ...] = ("default", *get_args(SaveName)),
) -> JobSave:
    is_pair = isinstance(value, tuple) and len(value) == 2 and all(map(callable, value))  # pyright: ignore[reportUnknownArgumentType]
    if not is_pair and not is_among(value, (*names, None)):
        advice = f"choose {', '.join(map(repr, names))}, a pair (dump, load) of functions, or None"
        raise bad_value_error(ValueError, value, name, subject, advice)
    return cast("JobSave", value)


def check_restore_if(value: object, name: str, subject: Subject) -> object:
    if not callable(value) or _user_code.is_generator(value):
        advice = "give a function, plain or async, that takes the stored result and returns whether it still holds"
        raise bad_value_error(TypeError, value, name, subject, advice)
    return value


def check_priority(value: object, name: str, subject: Subject) -> int:
    value = _amounts.plain_number(value)
    if isinstance(value, bool) or not isinstance(value, int):
        advice = "give a whole number; the higher one starts first"
        raise bad_value_error(TypeError, value, name, subject, advice)
    return value


NEEDS_ADVICE: Final = (
    "give a dict of names and amounts, such as {'cpu': 2}; for an order, give required="
)
NEED_ADVICE: Final = (
    "give a finite number, 0 or more, a size such as '24 GiB', the key of a PerKey as text, "
    "or a dict of amounts by key of a Rate"
)


def check_needs(value: object, name: str, subject: Subject) -> dict[str, CheckedNeed]:
    """Check the needs of a job, and return them in exact form, without needs of 0."""
    result: dict[str, CheckedNeed] = {}
    if value is None:
        return result
    if not isinstance(value, Mapping):
        raise bad_value_error(TypeError, value, name, subject, NEEDS_ADVICE)
    key: Any
    amount: Any
    for key, amount in value.items():  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(key, str):
            problem = f"the name {short_repr(key)} is not a string"
            raise bad_value_error(TypeError, value, name, subject, problem)
        prefix = f"{name}={{{short_repr(key)}: {short_repr(amount)}}} of {subject_text(subject)}"
        if isinstance(amount, str) and not amount.strip():
            raise ValueError(
                f"{prefix}: the text is empty; give a size such as '24 GiB', or a key"
            )
        if isinstance(amount, str):
            result[key] = amount
        else:
            result[key] = _amounts.check_need(amount, prefix, NEED_ADVICE)
    return {key: number for key, number in result.items() if number != 0}


def flag(value: object, name: str, subject: Subject) -> bool:
    """Check that a value equals True or False. Text such as "no" is rejected, because it would count as true."""
    if not is_among(value, (True, False)):
        raise bad_value_error(TypeError, value, name, subject, "give True or False")
    return bool(value)


def check_text(value: object, name: str, subject: Subject) -> str:
    """Check that a value is text, and return it as a plain `str`, even if it is a member of a `StrEnum`."""
    if not isinstance(value, str):
        advice = f"give text, such as {name}={short_repr(value)!r}"
        raise bad_value_error(TypeError, value, name, subject, advice)
    return str(value)


def needs_expansion(word: str) -> bool:
    """Return whether a shell would replace a "~" or "$NAME" in a word. Here, "~/x" is in a directory "~"."""
    return word != os.path.expandvars(os.path.expanduser(word))


def file_path(
    value: object, name: str, subject: Subject, *, expands: bool = False
) -> str:
    """Check a path, and return it as text. Reject an empty path, which is usually from an unset variable.

    With `expands`, the caller expands "~" and "$NAME", which are otherwise rejected.
    """
    path: Any = value
    if isinstance(value, os.PathLike):
        path = cast(Any, os.fspath(value))  # pyright: ignore[reportUnknownArgumentType]
    if not isinstance(path, str):
        raise bad_value_error(
            TypeError, value, name, subject, "give a path, as text or a pathlib.Path"
        )
    if not path:
        raise bad_value_error(ValueError, value, name, subject, "give a path")
    if "\0" in path:
        advice = "a path cannot contain NUL"
        raise bad_value_error(ValueError, value, name, subject, advice)
    if needs_expansion(path) and not expands:
        raise bad_value_error(ValueError, value, name, subject, EXPANSION_ADVICE)
    return path


def check_paths(value: object, name: str, subject: Subject) -> tuple[AnyPath, ...]:
    """Check a path, or several, and return them as a tuple. The errors show no values, which may be secret."""
    result: tuple[Any, ...] = (value,)
    is_one = isinstance(value, (str, bytes, os.PathLike))
    if isinstance(value, Iterable) and not is_one:
        result = tuple(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    for path in result:
        if not isinstance(path, (str, os.PathLike)):
            found = type(path).__name__
            raise TypeError(
                f"{name}= of {subject_text(subject)}: found {found}; give a path, or a list of paths"
            )
        if needs_expansion(os.fsdecode(path)):  # pyright: ignore[reportUnknownArgumentType]
            raise ValueError(f"{name}= of {subject_text(subject)}: {EXPANSION_ADVICE}")
    return result


def seconds(value: float | None, name: str, subject: Subject) -> float | None:
    """Check a positive number of seconds. Return None for None and infinity, which mean no limit."""
    if value is None:
        return None
    advice = "give a positive number of seconds, or None for no limit"
    number = _number(value, name, subject, lambda number: number > 0, advice)
    return None if number == math.inf else number


def duration(value: float, name: str, subject: Subject) -> float:
    """Check that a value is a finite number of seconds, 0 or more."""
    advice = "give a finite number of seconds, 0 or more"
    return _number(value, name, subject, lambda number: 0 <= number < math.inf, advice)


def check_fraction(value: float, name: str, subject: Subject) -> float:
    wanted = "a fraction from 0 to 1"
    advice = f"give {wanted}, such as 0.4 for 40 %"
    return _number(
        value, name, subject, lambda number: 0 <= number <= 1, advice, wanted
    )


def whole_number(
    value: object, name: str, subject: Subject, otherwise: str = "or None for no limit"
) -> int | None:
    """Check that a value is a whole number, 0 or more, or None. The advice in the error ends with `otherwise`."""
    if value is None:
        return None
    return check_number(value, name, subject, otherwise)


def check_number(
    value: object, name: str, subject: Subject, otherwise: str = "", least: int = 0
) -> int:
    """Check that a value is a whole number, `least` or more. The advice in the error ends with `otherwise`."""
    advice = f"give a whole number, {least} or more{otherwise and ', '}{otherwise}"
    value = _amounts.plain_number(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_value_error(TypeError, value, name, subject, advice)
    if value < least:
        raise bad_value_error(ValueError, value, name, subject, advice)
    return value


class BoxStyle(NamedTuple):
    """The style of a kind of job in pictures: `class BoxJob(JobKind, box=BoxStyle("sandbox", "box3d"))`.

    Subclasses inherit the style.
    """

    name: str
    """The name of the kind, in default labels and in journals."""
    shape: str = "box"
    """The Graphviz shape of the box of a job."""
    brackets: tuple[str, str] = "[", "]"
    """The Mermaid brackets that give the box its shape."""
    rounded: bool = False
    """Whether Graphviz rounds the corners of the box."""


def check_box(box: BoxStyle, subject: str) -> BoxStyle:
    """Check the types of the fields of a style, and return it.

    Raises:
        TypeError: a field has the wrong type.

    """
    is_tuple = isinstance(box.brackets, tuple)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_tuple or [type(bracket) for bracket in box.brackets] != [str, str]:
        advice = "give two texts, such as brackets=('[', ']')"
        raise bad_value_error(TypeError, box.brackets, "brackets", subject, advice)
    shape = check_text(box.shape, "shape", subject)
    return BoxStyle(
        check_text(box.name, "name", subject),
        shape,
        box.brackets,
        flag(box.rounded, "rounded", subject),
    )


def check_keywords(value: object, name: str, subject: Subject) -> dict[str, Any]:
    """Check keyword arguments, and return a copy of the dict. Return an empty dict for None.

    The errors show no values, which may be secret.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        found = type(value).__name__
        raise TypeError(
            f"{name} of {subject_text(subject)}: found {found}; give a dict of names and values"
        )
    for key in value:  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(key, str):
            raise TypeError(
                f"{name} of {subject_text(subject)}: the name {short_repr(key)} is not a string"
            )
    return {**value}


def callback(value: object, name: str, subject: Subject) -> None:
    """Check that a value is a plain function, or None."""
    if value is not None and not callable(value):
        raise bad_value_error(
            TypeError, value, name, subject, "give a plain function, or None"
        )
    if _user_code.is_async(value):
        advice = "it is async, and would not be awaited; give a plain function"
        raise bad_value_error(TypeError, value, name, subject, advice)


def bad_value_error(
    error: type[E], value: Any, name: str, subject: Subject, advice: str
) -> E:
    """Create the error for an invalid value of an option.

    Args:
        error: the class of the error.
        value: the user's value.
        name: the name of the option.
        subject: the name of the job or scheduler, or a function that returns it.
        advice: the values that the option accepts.

    """
    subject = subject_text(subject)
    return error(f"{name}={shown_value(value, subject)} of {subject}: {advice}")


def subject_text(subject: Subject) -> str:
    """Return a subject as text. It may be a function, so that the text is built only for an error."""
    if isinstance(subject, str):
        return subject
    return subject()


def _number(
    value: float,
    name: str,
    subject: Subject,
    fits: Callable[[float], bool],
    advice: str,
    wanted: str = "a number of seconds",
) -> float:
    """Return a value as a float that `fits`. A value that is too large is infinity."""
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        # Accepts fractions, decimals and numpy's numbers, too.
        number = float(value)
    except OverflowError:
        # A whole number with hundreds of digits.
        number = math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        raise bad_value_error(
            TypeError, value, name, subject, f"give {wanted}"
        ) from None
    if not fits(number):
        raise bad_value_error(ValueError, value, name, subject, advice)
    return number


def _suggest_option(name: str, known: Iterable[str]) -> str | None:
    """Return the option or the call that a user probably meant by an unknown name, or None if none is similar."""
    if (alias := _hints.OPTION_ALIASES.get(name, name)) in known:
        return alias
    return _hints.OPTION_REPLACEMENTS.get(alias) or _hints.nearest_name(name, known)


def unknown_job_option_error(
    name: str, subject: str, kind: type[AnyJob], *, is_call: bool = False
) -> TypeError:
    """Create the error for an unknown option of a job, with the option that was probably meant.

    Args:
        name: the unknown option.
        subject: the name of the job.
        kind: the class of the job, whose constructor may have further options.
        is_call: whether the job calls a function, which may have a parameter of this name.

    """
    constructor = getattr(kind.__init__, "__wrapped__", kind.__init__)
    constructor_options: Any = getattr(constructor, "__kwdefaults__", None) or {}
    options = dict.fromkeys((*constructor_options, *kind._declared_options))
    known = [option for option in options if option not in ("kwargs", "_inputs")]
    owner = "a scheduler" if kind._is_scheduler else "a job"
    if name in _hints.OPTION_HINTS:
        return TypeError(
            f"{subject}: {owner} has no option {name!r}; {_hints.OPTION_HINTS[name]}"
        )
    how = ""
    if is_call:
        how = f"pass it to the function, write kwargs={{{name!r}: ...}}"
    suggestion = _suggest_option(name, known)
    if suggestion:
        hint = f"did you mean {suggestion}?{clause(' To {}', how)}"
    else:
        hint = f"{clause('to {}; ', how)}the options are {', '.join(known)}"
    return TypeError(f"{subject}: {owner} has no option {name!r}; {hint}")


def unknown_option_error(
    subject: str, call: str, keywords: Mapping[str, Any], function: Callable[..., Any]
) -> TypeError:
    """Create the error for an unknown keyword argument of a method, with the option that was probably meant.

    Args:
        subject: the label of the job or scheduler.
        call: the text of the call, such as "run()".
        keywords: the unknown keyword arguments. The error names the first of them.
        function: the function whose keyword-only parameters are the valid options.

    """
    name = next(iter(keywords))
    parameters = _user_code.signature_of(function).parameters.values()
    options = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    known = [option for option in options if not option.startswith("_")]
    suggestion = _suggest_option(name, known)
    hint = f"the options are {', '.join(known)}"
    if suggestion:
        hint = f"did you mean {suggestion}?"
    return TypeError(f"{subject!r}: {call} has no option {name!r}; {hint}")
