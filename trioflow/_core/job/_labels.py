"""The names of jobs as users see them: default labels, paths, and labels that are safe to print.

A default label is the call, shortened: `fetch(3)`. It is made anew for each access, so it must be cheap, and it must
not run the user's code: arguments whose `repr` is not the language's own are shown by their type.
"""

from __future__ import annotations

import enum
import itertools
import re
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, cast, final

from ._ancestors import ancestors_with_members, outermost

if TYPE_CHECKING:
    from ..scheduler._base_scheduler import BaseScheduler
    from ._job import AbstractJob

MAX_ARGUMENTS_LENGTH: Final = 60
"""Characters of all arguments together in a default label; the rest is an ellipsis."""
MAX_STRING_LENGTH: Final = 24
"""Characters of one string in a default label; a longer one loses its middle."""
MAX_FLOAT_LENGTH: Final = 12
"""Characters of a float in a default label; a longer one is rounded."""
MAX_LABEL_LENGTH: Final = 200
"""Characters of a label or a path in logs, listings and reports."""
MAX_ITEMS: Final = 3
"""Containers with more items than this are shown without them."""
MAX_DEPTH: Final = 3
"""Nested calls in a default label: `save(parse(fetch(3)))` and one more."""
LARGE_INT: Final = 10**18
"""Larger whole numbers are not shown: writing one out may be slow."""
REPR_TYPES: Final = frozenset({bool, complex, type(None), type(...)})
BRACKETS: Final[dict[type, str]] = {list: "[]", tuple: "()", dict: "{}", set: "{}", frozenset: "{}"}
SLASH: Final = re.compile("/")
MANY_SLASHES: Final = 50
"""Labels with more are not compared with the names of schedulers: their prefixes would take too much memory."""
NAMED_TYPES: Final = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)


def call_label(name: str, args: Iterable[Any], kwargs: dict[str, Any], *, depth: int = MAX_DEPTH) -> str:
    """Return the default label of a job that calls a function: its name and its arguments, shortened.

    Jobs among the arguments are shown as calls too, `depth` calls deep; deeper ones are an ellipsis, because a long
    chain of jobs would have long labels. Nested calls show only a few arguments, so that the cost of a label is linear
    in its own arguments.
    """
    if depth == MAX_DEPTH:
        shown = [_short_text(value, depth) for value in args]
    else:
        few = [*itertools.islice(args, MAX_ITEMS + 1)]
        shown = [_short_text(value, depth) if number < MAX_ITEMS else "…" for number, value in enumerate(few)]
    if kwargs:
        shown += [f"{key}={_short_text(value, depth)}" for key, value in kwargs.items()]
    text = ", ".join(shown)
    if len(text) > MAX_ARGUMENTS_LENGTH and len(shown) > 1:
        room = MAX_ARGUMENTS_LENGTH
        for number, argument in enumerate(shown):
            room -= len(argument) + 2
            if room < 0 and number:
                text = ", ".join([*shown[:number], "…"])
                break
    return f"{name}({text})"


def _short_text(value: Any, depth: int = MAX_DEPTH) -> str:
    """Return one argument as text, without running any of the user's code."""
    kind = cast(Any, type(value))
    if kind is int:
        return repr(value) if -LARGE_INT < value < LARGE_INT else "<int>"
    if kind is str:
        return repr(value if len(value) <= MAX_STRING_LENGTH else without_middle(value))
    if kind is float:
        return _short_float(value)
    if kind in REPR_TYPES:
        return repr(value)
    if hasattr(kind, "_label_as_argument"):
        return label_inside(value, depth)
    if kind is bytes:
        return repr(value) if len(value) <= MAX_STRING_LENGTH else f"{value[:MAX_STRING_LENGTH]!r}…"
    if kind in BRACKETS:
        return _short_container(value, BRACKETS[kind], depth)
    if issubclass(kind, enum.Enum):
        return f"{kind.__name__}.{value._name_}"
    if kind.__module__.partition(".")[0] == "pathlib":
        return repr(without_middle(str(value)))
    if kind is type or issubclass(kind, NAMED_TYPES):
        return str(value.__name__)
    return f"<{kind.__name__}>"


def _short_float(value: float) -> str:
    """Return a float in few digits: `0.1 + 0.2` is 0.3 here, and a third is 0.333333."""
    text = repr(value)
    if len(text) > MAX_FLOAT_LENGTH:
        text = repr(float(f"{value:.12g}"))
    return text if len(text) <= MAX_FLOAT_LENGTH else f"{value:.6g}"


def _short_container(value: Any, brackets: str, depth: int) -> str:
    left, right = brackets[0], brackets[1]
    if len(value) > MAX_ITEMS or any(type(item) in BRACKETS for item in value):
        return f"{left}…{right}"
    if type(value) is not dict:
        return f"{left}{', '.join(_short_text(item, depth) for item in value)}{right}"
    pairs: list[tuple[Any, Any]] = list(value.items())  # pyright: ignore[reportUnknownArgumentType]
    items = (
        f"{_short_text(key)}: {'…' if type(item) in BRACKETS else _short_text(item, depth)}" for key, item in pairs
    )
    return f"{left}{', '.join(items)}{right}"


def label_inside(job: AbstractJob[Any], depth: int) -> str:
    """Return a job's text in the default label of another one; an ellipsis where `depth` is used up."""
    return without_middle(job._label_as_argument(depth - 1)) if depth else "…"


def without_middle(text: str, longest: int = MAX_STRING_LENGTH) -> str:
    """Return the text, with an ellipsis in place of its middle if it is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}…{text[1 - half :]}"


def shorten(label: str) -> str:
    """Return a label or a path without its middle if it is very long."""
    return without_middle(label, MAX_LABEL_LENGTH)


def printable(label: str) -> str:
    """Return the label on one line, with control characters and lone surrogates escaped."""
    if label.isprintable():
        return label
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in label)


def percent(fraction: float) -> str:
    """Return a fraction as a percentage; 100% only when complete."""
    return "100%" if fraction >= 1 else f"{min(99, round(100 * fraction))}%"


def path(job: AbstractJob[Any]) -> str:
    """Return the labels from inside the outermost scheduler down to `job`; see `AbstractJob.path`."""
    parts = [_name_among_siblings(around, member) for around, member in ancestors_with_members(job)]
    return "/".join(reversed(parts)) if parts else job.label


def distinguish(jobs: Iterable[AbstractJob[Any]]) -> list[str]:
    """Return a printable name of each job: the labels, or if some of them are equal, the paths. O(V) in that case."""
    jobs = [*jobs]
    if len({job.label for job in jobs}) == len(set(jobs)):
        return [printable(job.label) for job in jobs]
    known: dict[AbstractJob[Any], str] = {}
    for job in jobs:
        around = job.scheduler
        if job not in known and around is not None:
            known.update(paths_of(outermost(around)))
    return [printable(known.get(job, job.label)) for job in jobs]


def paths_of(scheduler: BaseScheduler, prefix: str | None = None) -> dict[AbstractJob[Any], str]:
    """Return the path of each job in `scheduler`, at any depth, in one walk. O(V).

    Args:
        scheduler: the root of the walk.
        prefix: the beginning of each path; None for the path of `scheduler`, if that is nested itself.

    """
    if prefix is None:
        prefix = f"{path(scheduler)}/" if scheduler.scheduler is not None else ""
    paths: dict[AbstractJob[Any], str] = {}
    todo: list[tuple[BaseScheduler, str]] = [(scheduler, prefix)]
    while todo:
        parent, before = todo.pop()
        names = UniqueSiblingNames()
        for job in parent:
            paths[job] = before + names.add(job.label, job._is_scheduler)
            if job._is_scheduler:
                todo.append((cast("BaseScheduler", job), paths[job] + "/"))
    return paths


def _name_among_siblings(scheduler: BaseScheduler, job: AbstractJob[Any]) -> str:
    names = UniqueSiblingNames()
    for sibling in scheduler:
        name = names.add(sibling.label, sibling._is_scheduler)
        if sibling is job:
            return name
    return names.add(job.label, job._is_scheduler)  # its scheduler has dropped it


class UniqueSiblingNames:
    r"""The names of siblings, chosen so that no two jobs have the same path at any depth.

    If several have the same label, "#2" is appended to that of the second, and so on. A "/" stays as it is, because
    most command lines have one, unless its prefix is the name of a nested scheduler: then it becomes "\/". In the name
    of a nested scheduler it always does.
    """

    __slots__ = ("_ordinals", "_schedulers", "_slash_prefixes")

    def __init__(self) -> None:
        self._ordinals: dict[str, int] = {}  # each name, with the highest ordinal of a sibling that has it as its label
        self._schedulers: set[str] = set()
        self._slash_prefixes: set[str] = set()  # prefixes of other names: no scheduler may have one of these

    def add(self, label: str, is_scheduler: bool) -> str:
        """Return a name for a sibling with this label, different from all earlier ones."""
        name = first = self._escape(label, is_scheduler) if "/" in label or is_scheduler else label
        ordinal = self._ordinals.get(first, 1)
        # Usually one step; only labels such as "a#2" take more. Beginning at 2 would be O(V²).
        while name in self._ordinals or (is_scheduler and name in self._slash_prefixes):
            ordinal += 1
            name = f"{first}#{ordinal}"
        self._ordinals[first] = ordinal
        self._ordinals.setdefault(name, 1)
        if is_scheduler:
            self._schedulers.add(name)
        return name

    def _escape(self, label: str, is_scheduler: bool) -> str:
        """Return the label of a scheduler, or one with slashes, escaped if needed."""
        if not is_scheduler and label.count("/") <= MANY_SLASHES:
            parts = {label[: match.start()] for match in SLASH.finditer(label)}
            if self._schedulers.isdisjoint(parts):
                self._slash_prefixes |= parts
                return label
        return label.replace("\\", "\\\\").replace("/", "\\/")


@final
class PathCache:
    """A lazy cache of the paths of the jobs of one run: the same as `job.path`, at a lower cost.

    Args:
        scheduler: the scheduler of the run.
        prefix: the beginning of each path.

    """

    def __init__(self, scheduler: BaseScheduler, prefix: str = "") -> None:
        self._scheduler: Final = scheduler
        self._prefix: Final = prefix
        self._paths: Final[dict[AbstractJob[Any], str]] = {}
        self._names: Final = UniqueSiblingNames()

    def nested(self, scheduler: AbstractJob[Any]) -> PathCache:
        """Return the paths of the jobs of a nested scheduler, a job of this run."""
        return PathCache(cast("BaseScheduler", scheduler), f"{self.path_of(scheduler)}/")

    def path_of(self, job: AbstractJob[Any]) -> str:
        """Return the path of a job. Names depend on the siblings before it, so all of these are named in order."""
        path = self._paths.get(job)
        if path is None:
            new: list[AbstractJob[Any]] = []
            for sibling in reversed(self._scheduler._members.jobs):
                if sibling in self._paths:
                    break
                new.append(sibling)
            for sibling in reversed(new):
                self._paths[sibling] = self._prefix + self._names.add(sibling.label, sibling._is_scheduler)
            path = self._paths[job]
        return path

    def forget(self, job: AbstractJob[Any]) -> None:
        """Forget a job that its scheduler is about to drop; its name stays taken."""
        self.path_of(job)  # so that the names of later siblings do not depend on earlier calls
        del self._paths[job]
