"""Fingerprints, which identify the work of jobs: a stored result holds while the fingerprint is the same.

A fingerprint is a JSON object of a few parts, kept as text, so that a part that differs can be named:

| part | what |
|---|---|
| `f` | the function, as `module:qualified.name`, or the kind of work, such as "command" |
| `a`, `k` | positional and keyword arguments, each in its stored form; an input in that of its result |
| `v` | `version=` |
| `s` | a hash of the function's source, with `Journal(source=True)` |
| `o` | options: a command's directory, environment, input, kinds of output |
| `r` | the files that it reads, each with its stamp |
| `h` | that files count by their contents, with `Journal(hash=True)` |
| `key` | `key=`, in place of all these |

A job that is an argument as an object, not as its result, counts by its path; and by its outcome if it, or a scheduler
around it, is required, because only then has it settled. A stored form of more than 40 characters is replaced by its
hash, and so is every form with `redact=True`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from .._core.api.journals import (
    AbstractJob,
    FunctionJob,
    HashOnly,
    SlowPathOptions,
    Work,
    call_parts,
    enclosing_schedulers,
    input_at,
    is_scheduler,
    substitute_inputs,
)
from ._file_stamps import Files, describe_change
from ._msgspec import msgspec
from ._serialization import BIG_INTEGER, PLAIN, NotSerializable, comparison_form, digest, dumps, type_name

if TYPE_CHECKING:
    FormOf = Callable[[AbstractJob[Any]], str]

PACKAGE: Final = __name__.partition(".")[0]
MISSING: Final = object()
NAMES: Final = {
    "f": "its function",
    "v": "its version",
    "s": "the source of its function",
    "o": "its options",
    "key": "its key",
    "h": "how its files are compared, by time or by contents,",
}


class InputPlaceholder:
    """A placeholder for the result of a job inside a container of arguments."""

    __slots__ = ("form",)

    def __init__(self, form: str) -> None:
        self.form: Final = form


class Fingerprints:
    """The fingerprints of one run's jobs.

    Args:
        form_of: returns the stored form of an input's result.
        files: the source of the files' stamps.
        source: adds a hash of each function's source.

    """

    def __init__(self, form_of: FormOf, files: Files, source: bool) -> None:
        self._form_of: Final = form_of
        self._files: Final = files
        self._with_source: Final = source
        self._own_kinds: Final[set[type[Any]]] = set()  # kinds defined by trioflow itself
        self._hashes_all = False  # whether every value of the current job is to be hashed
        self._job: AbstractJob[Any] | None = None  # the current one
        self._functions: Final[dict[Any, tuple[str, str | None]]] = {}
        self.known_by_name_only: Final[dict[str, None]] = {}
        """Labels of jobs whose function, such as a closure or a lambda, is not identified by its name."""

    def of(self, job: AbstractJob[Any], work: Work | None, settings: SlowPathOptions | None) -> str:
        """Return the fingerprint of a job whose inputs have settled.

        Args:
            job: the job.
            work: its description by `for_journal`; None if it has none.
            settings: its options for the journal, if any.

        Raises:
            NotSerializable: a part cannot be stored; the message names it.

        """
        parts: dict[str, Any] = {}
        self._hashes_all = settings is not None and settings.redact
        self._job = job
        if (
            self._files.contents
            and work is not None
            and (work.reads or work.writes or work.appends or work.begins_anew)
        ):
            parts["h"] = True
        if settings is not None and settings.key is not None:
            return msgspec.json.encode({**parts, "key": self._form(settings.key, "its key")}).decode()
        if isinstance(job, FunctionJob):
            self._add_call(job, parts)
        elif work is not None:
            self._add_work(work, parts)
        kind = type(job)
        if kind not in self._own_kinds:
            if kind.__module__.partition(".")[0] == PACKAGE:
                self._own_kinds.add(kind)
            else:
                self._add_class(job, parts)
        if settings is not None and settings.version is not None:
            parts["v"] = self._form(settings.version, "its version")
        return msgspec.json.encode(parts).decode()

    # ---- the kinds of jobs

    def _add_call(self, job: FunctionJob[Any], parts: dict[str, Any]) -> None:
        call = call_parts(job, self._placeholder)
        if call is None:
            raise NotSerializable(
                "its arguments, because it was made of a coroutine object: give Job the function, or key="
            )
        function, args, values = call
        if values:
            parts["k"] = {name: self._form(values[name], f"argument {name!r}") for name in sorted(values)}
        forms = self._positional(args)
        while isinstance(function, functools.partial):
            bound: Any = function  # pyright: ignore[reportUnknownVariableType]
            forms = self._positional(bound.args) + forms
            named = {name: self._form(value, f"argument {name!r}") for name, value in bound.keywords.items()}
            if named:
                parts["k"] = dict(sorted((named | parts.get("k", {})).items()))
            function = bound.func
        try:
            name, source = self._functions[function]
        except (KeyError, TypeError):
            name, source = self._function(function, job)
        parts["f"] = name
        if forms:
            parts["a"] = forms
        if source is not None:
            parts["s"] = source

    def _positional(self, values: tuple[Any, ...]) -> list[str]:
        return [
            str(value)
            if type(value) is int and -BIG_INTEGER < value < BIG_INTEGER and not self._hashes_all
            else self._form(value, f"argument {number}")
            for number, value in enumerate(values, 1)
        ]

    def _function(self, function: Any, job: AbstractJob[Any]) -> tuple[str, str | None]:
        """Return the name of a function, and a hash of its source if sources count."""
        called: Any = inspect.unwrap(function)
        kind = cast(Any, type(called))
        bound = getattr(called, "__self__", None)
        name = getattr(called, "__qualname__", None)
        if name is None:  # an object with __call__
            fingerprint = f"{type_name(kind)}{comparison_form(dumps(called))}" if _is_storable(called) else None
            fingerprint = fingerprint or type_name(kind)
            self._note(job, not _is_storable(called))
        else:
            fingerprint = f"{getattr(called, '__module__', None)}:{name}"
            if bound is not None and not inspect.ismodule(bound) and not inspect.isclass(bound):
                fingerprint += comparison_form(dumps(bound)) if _is_storable(bound) else ""
                self._note(job, not _is_storable(bound))
            defaults = getattr(called, "__defaults__", None), getattr(called, "__kwdefaults__", None)
            is_nested = "<" in name  # <locals> or <lambda>: its defaults are what it got when it was made
            if is_nested and any(defaults):
                fingerprint += comparison_form(dumps(defaults)) if _is_storable(defaults) else ""
            self._note(
                job,
                "<lambda>" in name
                or getattr(called, "__closure__", None) is not None
                or (is_nested and not _is_storable(defaults)),
            )
        source = None
        if self._with_source:
            try:
                source = digest(inspect.getsource(called).encode())
            except (OSError, TypeError) as error:
                raise NotSerializable(f"the source of its function, which cannot be read ({error})") from None
        if bound is None and name is not None and job.label not in self.known_by_name_only:
            self._functions[function] = fingerprint, source
        return fingerprint, source

    def _note(self, job: AbstractJob[Any], by_name_only: bool) -> None:
        if by_name_only:
            self.known_by_name_only[job.label] = None

    def _add_work(self, work: Work, parts: dict[str, Any]) -> None:
        """Add the description of a job that does not call a function."""
        parts["f"] = work.what
        parts["a"] = self._positional(substitute_inputs(work.arguments, self._placeholder))
        options = substitute_inputs(work.options, self._placeholder)
        if any(option is not None and option is not False for option in options):
            parts["o"] = self._form(options, "its options")
        reads = self._files.read(work)
        if reads:
            parts["r"] = reads

    def _add_class(self, job: AbstractJob[Any], parts: dict[str, Any]) -> None:
        """Add the class of a user's own kind of job, and its public attributes."""
        parts["c"] = type_name(type(job))
        values = {name: value for name, value in getattr(job, "__dict__", {}).items() if not name.startswith("_")}
        if values:
            parts["d"] = {name: self._form(value, f"its attribute {name!r}") for name, value in values.items()}

    # ---- values

    def _form(self, value: Any, what: str) -> str:
        if type(value) is InputPlaceholder:
            return value.form
        try:
            text = dumps(value) if type(value) in PLAIN else dumps(value, self._extra)
            return f"~{digest(text.encode())}" if self._hashes_all else comparison_form(text)
        except NotSerializable as error:
            raise NotSerializable(f"{what} ({error})") from None
        except Exception as error:  # from an attribute of a user's own class
            raise NotSerializable(f"{what}, which raised {error!r}") from None

    def _placeholder(self, job: AbstractJob[Any]) -> InputPlaceholder:
        return InputPlaceholder(self._form_of(job))

    def _extra(self, value: Any) -> Any:
        kind = cast(Any, type(value))
        if type(value) is InputPlaceholder:
            return {"$": "result", "v": value.form}
        if type(value) is HashOnly:
            return digest(dumps(value.value).encode())
        if isinstance(value, AbstractJob):  # passed as itself
            job: AbstractJob[Any] = value  # pyright: ignore[reportUnknownVariableType]
            fate = {"r": self._outcome(job)} if self._has_settled(job) else {}
            return {"$": "job", "v": job.path, **fate}
        raise NotSerializable(f"a value of type {type_name(kind)}")

    def _has_settled(self, job: AbstractJob[Any]) -> bool:
        """Return whether the current job waits for `job`: it, or an enclosing scheduler, is required."""
        waiting = () if self._job is None else (self._job, *enclosing_schedulers(self._job))
        return any(level in user.required for user in waiting for level in (job, *enclosing_schedulers(job)))

    def _outcome(self, job: AbstractJob[Any]) -> Any:
        """Return the outcome of a settled job, all of which a job that gets it as an argument can read."""
        if is_scheduler(job):
            return [job.state.value, *([member.label, self._outcome(member)] for member in job)]
        if job.is_succeeded():
            return self._form_of(job)
        error = job.raised_exception()
        return [job.state.value, comparison_form(dumps(f"{type_name(type(error))}: {error}"))]


def _is_storable(value: Any) -> bool:
    try:
        dumps(value)
    except NotSerializable:
        return False
    return True


def describe_difference(old: str, new: str, job: AbstractJob[Any]) -> str | None:
    """Describe the change between two fingerprints of a job; return None if only their order differs."""
    try:
        before, now = msgspec.json.decode(old), msgspec.json.decode(new)
        return None if before == now else _difference(before, now, job)
    except Exception:  # the file was changed from outside
        return "its fingerprint in the journal cannot be read"


def _difference(before: dict[str, Any], now: dict[str, Any], job: AbstractJob[Any]) -> str:
    if ("key" in before) is not ("key" in now):
        return "it was given a key" if "key" in now else "its key was taken away"
    for part, name in NAMES.items():
        if before.get(part) != now.get(part):
            if part == "o":
                return f"the options of the {now.get('f')} have changed"
            return f"{name} has changed{_from_to(before.get(part), now.get(part))}"
    if before.get("c") != now.get("c"):
        return f"its class has changed{_from_to(before.get('c'), now.get('c'))}"
    old, new = before.get("a", []), now.get("a", [])
    if len(old) != len(new):
        return f"it had {len(old)} argument{'s' * (len(old) != 1)}, and has {len(new)}"
    for number, (one, other) in enumerate(zip(old, new, strict=True), 1):
        if one != other:
            return f"{_argument(number, job)} has changed{_from_to(one, other)}"
    for part, name in (("k", "argument"), ("d", "attribute"), ("r", "file")):
        old, new = before.get(part, {}), now.get(part, {})
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                if part == "r":
                    return f"{name} {key!r} {describe_change(old.get(key), new.get(key))}"
                return f"{name} {key!r} has changed{_from_to(old.get(key), new.get(key))}"
    return "its fingerprint has changed"


def _argument(number: int, job: AbstractJob[Any]) -> str:
    """Return the number of an argument, with the label of the input there, if any."""
    source = input_at(job, number)
    if source is not None:
        return f"argument {number}, the result of {source.label!r},"
    return f"argument {number}"


def _from_to(old: Any, new: Any) -> str:
    """Return " from OLD to NEW"; "" if a value is stored as a hash."""
    if not isinstance(old, str) or not isinstance(new, str) or "~" in (old[:1], new[:1]):
        return ""
    return f" from {old} to {new}"
