"""Fingerprints of the work of jobs. A stored result is valid as long as the fingerprint of its job is the same.

A fingerprint is a JSON object, stored as text. It has a part for each aspect, which lets reports name the part that
differs:

| part | meaning |
|---|---|
| `f` | the function, as `module:qualified.name`, or the kind of work, such as "command" |
| `a`, `k` | positional and keyword arguments, each in its stored form; an input is represented by its result |
| `v` | `version=` |
| `o` | options of a command, by name: its variables, input and kinds of output |
| `r` | the files that it reads, each with its stamp |
| `c`, `d` | the class of a job whose class the user defined, and its public attributes |
| `w` | the working directory of a command, relative to the journal's |
| `q` | the requirements of the job, see `_requirement_forms` |
| `h` | true if files are compared by their contents, with `Journal(hash=True)` |
| `key`, `l` | `key=`, which replaces all other parts but `h`, and the hash of a label with a "/" |

The module of the program itself, `__main__`, is named by the program's file, relative to the directory of the journal.
A job that is passed as an object, not as an input, is represented by its path. If this job is known to have settled,
because it or a scheduler that contains it is required, its outcome is added. A stored form of more than 40 characters
is replaced by its hash. The form of a `HashOnly`, which has the name of this class, is always longer. With
`redact=True`, every form is replaced by its hash.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from .._core.base import _text_forms, _user_code
from .._core.job._ancestors import enclosing_schedulers
from .._core.job._function import (
    FunctionJob,
    call_parts,
    input_at,
    is_found_by_name,
    substitute_inputs,
    unwrap_partial,
)
from .._core.job._job import AbstractJob, is_job, is_scheduler
from .._core.job._job_options import OptionRecord
from .._core.job._work_spec import LocalDirectory, Work
from .._core.words._job_queries import inputs_of, options_of
from ._end_notes import MAX_NOTED_JOBS
from ._file_stamps import FileStamper, describe_stamp_change
from ._serialization import (
    NotSerializable,
    comparison_form,
    dumps,
    escape_surrogates,
    hide_if,
    msgspec,
    own_slots,
)

NO_FILE_PATTERN: Final = re.compile(
    r"<.*|/dev/(?:stdin|fd/.*)|/proc/.*/fd/.*|", re.DOTALL
)
"""Matches the `__file__` of a program that was read from standard input or a descriptor, or that has none."""
NO_FILE_REASON: Final = "its function, whose program has no file (-c, a pipe, a notebook): give key= or version="
MAX_FUNCTIONS: Final = 1000
"""The maximum number of functions whose identities are cached: each job of an open scheduler may have its own."""
PART_NAMES: Final = {
    "f": "its function",
    "v": "its version",
    "w": "its directory",
    "o": "its options",
    "key": "its key",
    "l": "the spelling of its path",
    "h": "how its files are compared, by time or by contents,",
    "c": "its class",
}


def describe_work(job: AbstractJob[Any]) -> Work | None:
    """Return the result of a job's `for_journal`, with the files that its options `reads` and `writes` name.

    Raises:
        NotSerializable: `for_journal` raised an exception.

    """
    describe: Callable[[Any], Work | None] | None = getattr(
        type(job), "for_journal", None
    )
    work: Work | None = None
    if callable(describe):
        try:
            work = describe(job)
        except Exception as error:
            # A user-defined class can raise anything.
            raise NotSerializable(
                "its work, because for_journal() raised", error
            ) from None
    options = options_of(job)
    if not options.has_files:
        return work
    if work is None:
        work = Work(what="")
    return dataclasses.replace(
        work,
        reads=[*options.reads, *work.reads],
        writes=[*options.writes, *work.writes],
    )


class InputPlaceholder:
    """A placeholder for the result of a job in the arguments of another job.

    Attributes:
        form: the form of the result in a fingerprint.

    """

    __slots__ = ("form",)

    def __init__(self, form: str) -> None:
        self.form: Final = form


class FingerprintBuilder:
    """Computes the fingerprints of a run's jobs.

    Args:
        result_form: a function that returns the text that represents the result of an input in fingerprints.
        files: the object that takes the stamps of files.
        directory: the resolved directory of the journal.

    """

    def __init__(
        self,
        result_form: Callable[[AbstractJob[Any]], str],
        files: FileStamper,
        directory: str,
    ) -> None:
        self._result_form: Final = result_form
        self._file_stamper: Final = files
        self._directory: Final = directory
        self._relative_path: Final = functools.lru_cache(MAX_FUNCTIONS)(
            self._find_relative_path
        )
        # Whether to hash all values of the current job.
        self._hashes_all_values = False
        self._current_job: AbstractJob[Any] | None = None
        self._identities_by_function: Final[dict[Any, tuple[str, Any]]] = {}
        # Whether only its name identifies a function of the current job.
        self._is_by_name_only = False
        # Whether the current job is named by a program that has no file of its own.
        self._is_without_file = False
        # The function of the current job, without its decorators, if looking up its name gives it.
        self._function: Any = None
        self.identified_by_name_only: Final[dict[str, None]] = {}
        """The labels of the first such jobs."""

    def compute(
        self, job: AbstractJob[Any], work: Work | None, options: OptionRecord
    ) -> tuple[str, bool, Any]:
        """Return the fingerprint of a job whose inputs have settled, without its requirements.

        Also return whether it identifies a function by its name alone, such as a closure: another function may have
        the same fingerprint. Last, return the function whose code is part of the work, without its decorators, or None
        if there is none, or `version=` or `key=` stand for it.

        Args:
            job: the job.
            work: the result of the job's `for_journal`, or None if the job has none.
            options: the options of the job.

        Raises:
            NotSerializable: a part of the fingerprint cannot be stored. The message names the part.

        """
        parts: dict[str, Any] = {}
        self._is_by_name_only = self._is_without_file = False
        self._function = None
        self._hashes_all_values = options.redact
        self._current_job = job
        has_files = work is not None and (
            work.reads or work.writes or work.appends or work.begins_anew
        )
        if has_files and self._file_stamper.compares_contents:
            parts["h"] = True
        if options.key is not None:
            parts["key"] = self._value_form(options.key, "its key")
            return msgspec.json.encode(parts).decode(), False, None
        if isinstance(job, FunctionJob):
            self._add_call(job, parts)
        elif work is not None:
            self._add_work(work, parts)
        if work is not None and work.reads:
            reads = self._file_stamper.input_stamps(work, options.redact)
            if reads:
                parts["r"] = reads
        if not _user_code.is_from_package(type(job)):
            self._add_class(job, parts)
        if options.version is not None:
            parts["v"] = self._value_form(options.version, "its version")
            self._is_by_name_only = False
            self._function = None
        elif self._is_without_file:
            raise NotSerializable(NO_FILE_REASON)
        elif (
            self._is_by_name_only and len(self.identified_by_name_only) < MAX_NOTED_JOBS
        ):
            self.identified_by_name_only[job.label] = None
        text = msgspec.json.encode(parts).decode()
        return text, self._is_by_name_only, self._function

    def find_ambiguous_identity(
        self, job: AbstractJob[Any]
    ) -> tuple[str, object] | None:
        """Return a text that identifies a job beside its label, if other work may have the same text, otherwise None.

        It is the job's `key`, or the name of a function or class that is known by name only, with the job's `version`.
        The second item is the same for jobs that do the same work if their arguments are the same.
        """
        options = options_of(job)
        name = ""
        work = [id(job)]
        if options.key is None:
            self._is_by_name_only = False
            name = self._class_identity(type(job))
            work = [id(type(job))]
            if isinstance(job, FunctionJob):
                call = call_parts(job, lambda _: None)
                if call is None:
                    return None
                function = unwrap_partial(call[0])
                name += self._function_identity(function)
                work.append(id(function))
            if not self._is_by_name_only:
                return None
        try:
            return f"{name} {dumps([options.key, options.version])}", tuple(work)
        except NotSerializable:
            return None

    # ---- the kinds of jobs

    def _add_call(self, job: FunctionJob[Any], parts: dict[str, Any]) -> None:
        call = call_parts(job, self._make_placeholder)
        if call is None:
            raise NotSerializable(
                "its arguments: it was created from a coroutine object; give the function, or key="
            )
        function, args, values = call
        named = {
            name: self._value_form(value, f"argument {name!r}")
            for name, value in sorted(values.items())
        }
        forms = self._positional_forms(args)
        while isinstance(function, functools.partial):
            partial: Any = function  # pyright: ignore[reportUnknownVariableType]
            forms = self._positional_forms(partial.args) + forms
            for name, value in partial.keywords.items():
                form = self._value_form(value, f"argument {name!r}")
                named.setdefault(name, form)
            function = partial.func
        if named:
            parts["k"] = dict(sorted(named.items()))
        try:
            parts["f"], self._function = self._identities_by_function[function]
        except (KeyError, TypeError):
            parts["f"] = self._function_identity(function)
        if forms:
            parts["a"] = forms

    def _positional_forms(self, values: tuple[Any, ...]) -> list[str]:
        return [
            self._value_form(value, f"argument {number}")
            for number, value in enumerate(values, 1)
        ]

    def _function_identity(self, function: object) -> str:
        """Return the text that identifies a function, and set `_is_by_name_only` if others may have the same text.

        The text has the name of the function, the object or class that a method is bound to, and the defaults of a
        function that is not found by its name.
        """
        name = getattr(function, "__qualname__", None)
        if name is None:
            # The function is an object with __call__.
            class_: Any = type(function)
            return self._type_name(class_) + self._object_form(function)
        identity = f"{self._module_name(function)}:{name}"
        bound = getattr(function, "__self__", None)
        if bound is not None and not inspect.ismodule(bound):
            # A built-in function is bound to its module.
            identity += self._object_form(bound)
            # A built-in method has none.
            function = getattr(function, "__func__", None)
        if function is not None and not is_found_by_name(function):
            self._is_by_name_only = True
            # So that it never has the text of the function that the name gives.
            identity += " (by name)"
            defaults = (
                getattr(function, "__defaults__", None),
                getattr(function, "__kwdefaults__", None),
            )
            if any(defaults):
                identity += self._object_form(defaults)
        elif (
            bound is None
            and not self._is_without_file
            and len(self._identities_by_function) < MAX_FUNCTIONS
        ):
            original = inspect.unwrap(cast("Any", function))
            self._function = None
            if inspect.isfunction(original):
                self._function = original
            self._identities_by_function[function] = identity, self._function
        return identity

    def _object_form(self, value: object) -> str:
        """Return the form of an object that belongs to a function, or "" if it cannot be stored."""
        if inspect.isclass(value):
            return f" of {self._class_identity(value)}"
        try:
            return comparison_form(dumps(value, name_class=self._type_name))
        except NotSerializable:
            self._is_by_name_only = True
            return ""

    def _class_identity(self, class_: type[Any]) -> str:
        if not is_found_by_name(class_):
            self._is_by_name_only = True
        return self._type_name(class_)

    def _type_name(self, class_: type[Any]) -> str:
        return f"{self._module_name(class_)}:{class_.__qualname__}"

    def _module_name(self, value: object) -> str:
        """Return the name of the module of a function or class or, for the program itself, its file.

        A function knows the file of its own program, which `python -m cProfile FILE` does not set as the main module.
        """
        name = getattr(value, "__module__", None)
        main = sys.modules["__main__"]
        if name not in ("__main__", main.__name__):
            # `trioflow run FILE` has its module as the main module, too.
            return str(name)
        file = str(getattr(value, "__globals__", vars(main)).get("__file__") or "")
        if NO_FILE_PATTERN.fullmatch(file) is not None:
            self._is_without_file = True
        if self._is_without_file:
            return "<no file>"
        return self._relative_path("", file)

    def _add_work(self, work: Work, parts: dict[str, Any]) -> None:
        parts["f"] = work.what
        parts["a"] = self._positional_forms(self._with_placeholders(work.arguments))
        values: Any = work.options
        is_named = type(values) is dict
        if is_named:
            values = list(cast(Any, work.options).values())
        options = [*self._with_placeholders(values)]
        for index, option in enumerate(options):
            if type(option) is LocalDirectory:
                options[index] = None
                within = os.fsdecode(option.within or ".")
                path = os.path.join(within, os.fsdecode(option.path or "."))
                directory = self._relative_path(os.getcwd(), path)
                parts["w"] = hide_if(self._hashes_all_values, directory)
        if all(option is None or option is False for option in options):
            return
        if not is_named:
            parts["o"] = self._value_form(tuple(options), "its options")
            return
        parts["o"] = {}
        for name, option in zip(work.options, options, strict=True):
            if option is not None and option is not False:
                parts["o"][name] = self._value_form(option, f"its {name}")

    def _with_placeholders(self, values: Iterable[Any]) -> tuple[Any, ...]:
        """Return values of a `Work` with placeholders for the inputs among them. Other jobs are passed as they are."""
        inputs = frozenset(inputs_of(cast("AbstractJob[Any]", self._current_job)))

        def replace(job: AbstractJob[Any]) -> Any:
            if job in inputs:
                return self._make_placeholder(job)
            return job

        try:
            return substitute_inputs(values, replace)
        except (TypeError, ValueError) as error:
            raise NotSerializable("its work", error) from None

    def _find_relative_path(self, current: str, path: str) -> str:
        """Return a path relative to the journal's directory. `current` is a key of the cache."""
        path = os.path.realpath(path)
        try:
            return escape_surrogates(os.path.relpath(path, self._directory))
        except ValueError:
            # It is on another drive.
            return escape_surrogates(path)

    def _add_class(self, job: AbstractJob[Any], parts: dict[str, Any]) -> None:
        parts["c"] = self._class_identity(type(job))
        values: dict[str, Any] = {}
        for base in type(job).__mro__:
            if _user_code.is_from_package(base):
                continue
            for name in own_slots(base):
                if hasattr(job, name):
                    values[name] = getattr(job, name)
        forms: dict[str, str] = {}
        for name, value in (values | getattr(job, "__dict__", {})).items():
            if not name.startswith("_"):
                forms[name] = self._value_form(value, f"its attribute {name!r}")
        if forms:
            parts["d"] = forms

    # ---- values

    def _value_form(self, value: object, description: str) -> str:
        if type(value) is InputPlaceholder:
            return value.form
        try:
            text = dumps(value, self._convert_unknown, name_class=self._type_name)
            return comparison_form(text, self._hashes_all_values)
        except NotSerializable as error:
            raise NotSerializable(
                f"{description} ({error.shown(self._hashes_all_values)})"
            ) from None
        except Exception as error:
            # Raised by an attribute of a user-defined class.
            raise NotSerializable(f"{description}, which raised", error) from None

    def _make_placeholder(self, job: AbstractJob[Any]) -> InputPlaceholder:
        return InputPlaceholder(self._result_form(job))

    def _convert_unknown(self, value: object) -> Any:
        if type(value) is InputPlaceholder:
            return {"$": "result", "v": value.form}
        if is_job(value):
            # Passed as an object, not as an input.
            job: AbstractJob[Any] = value  # pyright: ignore[reportUnknownVariableType]
            form = {"$": "job", "v": job.path}
            if self._has_settled(job):
                form["r"] = self._outcome_form(job)
            return form
        return NotImplemented

    def _has_settled(self, job: AbstractJob[Any]) -> bool:
        """Return whether `job` has settled because the current job waits for it.

        The current job waits for `job` if it, or a scheduler that encloses it, requires `job` or a scheduler that
        encloses `job`.
        """
        current = self._current_job
        if current is None:
            return False
        makers = {job, *enclosing_schedulers(job)}
        return any(
            not makers.isdisjoint(user.required)
            for user in (current, *enclosing_schedulers(current))
        )

    def _outcome_form(self, job: AbstractJob[Any]) -> Any:
        """Return a form of a settled job's outcome that covers whatever a function can read from the job object."""
        if is_scheduler(job):
            members = [[member.label, self._outcome_form(member)] for member in job]
            return [job.state.value, *members]
        if job.is_succeeded():
            return self._result_form(job)
        error = job.raised_exception()
        text = dumps(f"{self._type_name(type(error))}: {error}")
        return [job.state.value, comparison_form(text)]


def with_requirements(fingerprint: str, part: str) -> str:
    """Return a fingerprint with the part `q`."""
    comma = "," if len(fingerprint) > len("{}") else ""
    return f'{{"q":"{part}"{comma}{fingerprint[1:]}'


def read_parts(fingerprint: str) -> dict[str, Any]:
    """Return the parts of a fingerprint, or none if another program has changed the file."""
    try:
        return msgspec.json.decode(fingerprint, type=dict[str, Any])
    except Exception:
        return {}


def path_in_directory(path: str, directory: str) -> str:
    """Return the path of the record of work that was done in another directory first."""
    return f"{path} (in {directory})"


def job_path(path: str, fingerprint: str) -> str:
    """Return the path of the job whose record has this path and fingerprint. See `path_in_directory`."""
    directory = read_parts(fingerprint).get("w")
    if directory is None:
        return path
    return path.removesuffix(path_in_directory("", directory))


def describe_difference(old: str, new: str, job: AbstractJob[Any]) -> str | None:
    """Describe the change between two fingerprints of a job, except in requirements. Return None if there is none."""
    try:
        old_parts = msgspec.json.decode(old)
        new_parts = msgspec.json.decode(new)
        old_parts["q"] = new_parts["q"] = None
        if old_parts == new_parts:
            return None
        return _describe_changed_part(old_parts, new_parts, job)
    except Exception:
        # Another program has changed the file.
        return "its fingerprint in the journal cannot be read"


def _describe_changed_part(
    old_parts: dict[str, Any], new_parts: dict[str, Any], job: AbstractJob[Any]
) -> str:
    if ("key" in old_parts) is not ("key" in new_parts):
        return "it was given a key" if "key" in new_parts else "its key was removed"
    for part, name in PART_NAMES.items():
        if old_parts.get(part) != new_parts.get(part):
            if part == "o":
                old = old_parts.get("o", {})
                new = new_parts.get("o", {})
                return _describe_changed_options(old, new, new_parts.get("f"))
            return _changed(name, old_parts.get(part), new_parts.get(part))
    old = old_parts.get("a", [])
    new = new_parts.get("a", [])
    if len(old) != len(new):
        return (
            f"it had {_text_forms.plural(len(old), 'argument')}, and now has {len(new)}"
        )
    for number, (old_form, new_form) in enumerate(zip(old, new, strict=True), 1):
        if old_form != new_form:
            return _changed(_describe_argument(number, job), old_form, new_form)
    for part, name in (("k", "argument"), ("d", "attribute"), ("r", "file")):
        old = old_parts.get(part, {})
        new = new_parts.get(part, {})
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                if part == "r":
                    return f"{name} {key!r} {describe_stamp_change(old.get(key), new.get(key))}"
                return _changed(f"{name} {key!r}", old.get(key), new.get(key))
    return "its fingerprint has changed"


def _describe_changed_options(old: object, new: object, what: object) -> str:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return f"the options of the {what} have changed"
    before, after = cast("tuple[dict[str, Any], dict[str, Any]]", (old, new))
    names = [name for name in before | after if before.get(name) != after.get(name)]
    # Named variables say it better.
    names = [name for name in names if name != "set of variables"] or names
    if len(names) == 1:
        name = names[0]
        return _changed(f"its {name}", before.get(name), after.get(name))
    return f"its {_text_forms.join_names(names, 5)} have changed"


def _describe_argument(number: int, job: AbstractJob[Any]) -> str:
    """Return a text that names an argument by its number and, if the argument is an input, by its label."""
    source = input_at(job, number)
    if source is None:
        return f"argument {number}"
    return f"argument {number}, the result of {source.label!r},"


def _changed(name: str, old: object, new: object) -> str:
    """Return "NAME has changed from OLD to NEW", without the values if either is missing or stored as a hash."""
    text = f"{name} has changed"
    if isinstance(old, str) and isinstance(new, str):
        if "~" not in (old[:1], new[:1]):
            text += f" from {old} to {new}"
    return text
