"""The names of jobs as users see them: default labels, paths, labels that are safe to print, and the `repr`.

A default label is a short form of the job's call, such as `fetch(3)`. It is built at each access, so it must be cheap.
It must not run the user's code either, so an argument that is not of a basic type of Python is shown as its type.

`repr(job)`, which `str`, f-strings, `join` and logging use, records the text of a job that has not settled. As an
argument, such a text is an error, because no result would replace it. Arguments are searched only while there are such
jobs, so programs that never make a text of a job pay nothing. The texts have no hidden mark: log lines stay as they
are, and a text that only looks similar is accepted.
"""

from __future__ import annotations

import bisect
import enum
import itertools
import re
import sys
import threading
import types
import weakref
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast, final

from ..base._text_forms import fit
from ._ancestors import ancestors_with_members, outermost_scheduler

if TYPE_CHECKING:
    from ..scheduler._base_scheduler import BaseScheduler
    from ._job import AnyJob

MAX_ARGUMENTS_LENGTH: Final = 60
MAX_STRING_LENGTH: Final = 24
MAX_FLOAT_LENGTH: Final = 12
"""The lengths of all arguments together, of a string and of a float in a default label. What is longer loses its end,
its middle, or digits."""
MAX_LABEL_LENGTH: Final = 200
"""The maximum number of characters of a label or path in logs, listings and reports."""
MAX_ITEMS: Final = 3
"""The maximum number of items of a container in a default label. A larger container is an ellipsis in brackets."""
MAX_DEPTH: Final = 3
"""The maximum number of calls inside the call of a default label: `save(parse(fetch(3)))` has two."""
MIN_HIDDEN_INT: Final = 10**18
"""Whole numbers of at least this magnitude are shown as `<int>`, because formatting large numbers is slow."""
REPR_TYPES: Final = frozenset({bool, complex, type(None), type(...)})
BRACKETS: Final[dict[type, str]] = {
    list: "[]",
    tuple: "()",
    dict: "{}",
    set: "{}",
    frozenset: "{}",
}
SPECIAL_IN_PATHS: Final = re.compile(r"[\\/]|#(?=\d+\Z)")
"""Matches text that a path would take for the end of a label, as an escape, or as the ordinal of equal labels."""
NAMED_TYPES: Final = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)


class Ref:
    """A placeholder, returned by `ref`, for an argument that is passed as it is. A label shows the value.

    It is the template of its value. See `Template` in `_function`.
    """

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value: Final = value

    def substitute_inputs(self, *_: object) -> Any:
        return self.value

    def __repr__(self) -> str:
        return f"ref({_format_argument(self.value)})"


def without_ref(argument: object) -> Any:
    return argument.value if type(argument) is Ref else argument


def call_label(
    name: str, args: Iterable[Any], kwargs: dict[str, Any], *, depth: int = MAX_DEPTH
) -> str:
    """Return the default label of a job that calls a function: the function's name with shortened arguments.

    A job among the arguments is shown as a call too. Calls that are nested deeper than `depth` are shown as an
    ellipsis, because a long chain of jobs would have long labels. A nested call shows only a few arguments, so that the
    cost of a label is linear in the number of its own arguments.
    """
    if depth == MAX_DEPTH:
        texts = [*map(_format_argument, args)]
    else:
        few = [*itertools.islice(args, MAX_ITEMS + 1)]
        texts = [_format_argument(value, depth) for value in few[:MAX_ITEMS]]
        if len(few) > MAX_ITEMS:
            texts.append("…")
    if kwargs:
        texts += [
            f"{key}={_format_argument(value, depth)}" for key, value in kwargs.items()
        ]
    text = ", ".join(texts)
    if len(text) > MAX_ARGUMENTS_LENGTH and len(texts) > 1:
        remaining = MAX_ARGUMENTS_LENGTH
        for number, argument in enumerate(texts):
            remaining -= len(argument) + 2
            if remaining < 0 and number:
                return f"{name}({', '.join([*texts[:number], '…'])})"
    return f"{name}({text})"


def _format_argument(value: Any, depth: int = MAX_DEPTH) -> str:
    """Return an argument as short text, without running the user's code."""
    value = without_ref(value)
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is int:
        if -MIN_HIDDEN_INT < value < MIN_HIDDEN_INT:
            return repr(value)
        return "<int>"
    if kind is str:
        return repr(_shorten_argument(value))
    if kind is float:
        return _format_float(value)
    if kind in REPR_TYPES:
        return repr(value)
    if hasattr(kind, "_default_label"):
        return label_inside(value, depth)
    if kind is bytes:
        if len(value) <= MAX_STRING_LENGTH:
            return repr(value)
        return f"{value[:MAX_STRING_LENGTH]!r}…"
    if kind in BRACKETS:
        return _format_container(value, BRACKETS[kind], depth)
    if issubclass(kind, enum.Enum):
        return f"{kind.__name__}.{value._name_}"
    if kind.__module__.partition(".")[0] == "pathlib":
        return repr(_shorten_argument(str(value)))
    if kind is type or issubclass(kind, NAMED_TYPES):
        return str(value.__name__)
    return f"<{kind.__name__}>"


def _format_float(value: float) -> str:
    """Return a float with few digits: "0.3" for `0.1 + 0.2`, "0.333333" for `1 / 3`."""
    text = repr(value)
    if len(text) > MAX_FLOAT_LENGTH:
        text = repr(float(f"{value:.12g}"))
    return text if len(text) <= MAX_FLOAT_LENGTH else f"{value:.6g}"


def _format_container(value: Any, brackets: str, depth: int) -> str:
    """Return a container as short text. Its items are shown only if they are few and are not containers."""
    left, right = [*brackets]
    if len(value) > MAX_ITEMS or any(map(_is_container, value)):
        return f"{left}…{right}"
    if type(value) is not dict:
        items = [_format_argument(item, depth) for item in value]
        return f"{left}{', '.join(items)}{right}"
    pairs: list[tuple[Any, Any]] = list(value.items())  # pyright: ignore[reportUnknownArgumentType]
    items = list[str]()
    for key, item in pairs:
        text = "…"
        if not _is_container(item):
            text = _format_argument(item, depth)
        items.append(f"{_format_argument(key)}: {text}")
    return f"{left}{', '.join(items)}{right}"


def _is_container(item: object) -> bool:
    return type(without_ref(item)) in BRACKETS


def label_inside(job: AnyJob, depth: int) -> str:
    """Return the text of a job in the default label of another job. Return an ellipsis if `depth` is 0.

    Args:
        job: the job among the arguments.
        depth: the number of nested calls that the text may show, including the call of `job`.

    """
    if not depth:
        return "…"
    if job._label is not None:
        return _shorten_argument(job._label)
    return _shorten_argument(job._default_label(depth - 1))


def _shorten_argument(text: str) -> str:
    return fit(text, MAX_STRING_LENGTH, keep="ends")


def shorten(label: str) -> str:
    return fit(label, MAX_LABEL_LENGTH, keep="ends")


def printable(label: str) -> str:
    """Return a label as a line of text, with control characters and lone surrogates escaped."""
    if label.isprintable():
        return label
    text = ""
    for character in label:
        if character.isprintable():
            text += character
        else:
            text += character.encode("unicode_escape").decode("ascii")
    return text


def printable_lines(text: str, indent: str = "") -> str:
    """Return a text with each of its lines printable. The further lines begin with `indent`, but for empty ones."""
    lines = [printable(line.expandtabs()) for line in text.rstrip("\n").split("\n")]
    return "\n".join(lines[:1] + [line and f"{indent}{line}" for line in lines[1:]])


def escape_label(label: str) -> str:
    r"""Return a label as its part of a path: "/", a backslash, and "#" before a final number follow a backslash.

    So a path has one meaning, in this run and in any other, and stays so when it is printed: see `printable`.

    Example:
        >>> print(escape_label("gzip logs/#2"))
        gzip logs\/\#2

    """
    return SPECIAL_IN_PATHS.sub(r"\\\g<0>", label)


def unescape_path(path: str) -> str:
    """Return the labels of a path as they are, joined by "/", for a sentence that only people read."""
    return re.sub(r"\\([\\/#])", r"\1", path)


def path_of_job(job: AnyJob) -> str:
    parts = [
        enclosing._members.names().name_of(member)
        for enclosing, member in ancestors_with_members(job)
    ]
    if parts:
        return "/".join(reversed(parts))
    return escape_label(job.label)


def path_in(paths: Mapping[AnyJob, str], job: AnyJob) -> str:
    """Return the path of a job among paths that were collected, and its own if it has been dropped since."""
    if job in paths:
        return paths[job]
    return path_of_job(job)


def distinct_names(jobs: Iterable[AnyJob]) -> list[str]:
    """Return a printable name for each job: its label if all labels are different, otherwise its path. O(V)."""
    jobs = [*jobs]
    if len({job.label for job in jobs}) == len(set(jobs)):
        return [printable(job.label) for job in jobs]
    paths: dict[AnyJob, str] = {}
    for job in jobs:
        scheduler = job.scheduler
        if scheduler is not None and job not in paths:
            paths.update(paths_of(outermost_scheduler(scheduler)))
    return [printable(path_in(paths, job)) for job in jobs]


def paths_of(scheduler: BaseScheduler, prefix: str | None = None) -> dict[AnyJob, str]:
    """Return the path of each job in `scheduler`, at any depth. O(V).

    Args:
        scheduler: the scheduler.
        prefix: the beginning of each path, or None for the path of `scheduler` itself, which is left out if it is the
            outermost scheduler.

    """
    if prefix is None:
        prefix = ""
        if scheduler.scheduler is not None:
            prefix = f"{path_of_job(scheduler)}/"
    paths: dict[AnyJob, str] = {}
    todo: list[tuple[BaseScheduler, str]] = [(scheduler, prefix)]
    while todo:
        current, prefix = todo.pop()
        members = paths_of_siblings(current, prefix)
        paths.update(members)
        for job, path in members.items():
            if job._is_scheduler:
                todo.append((cast("BaseScheduler", job), f"{path}/"))
    return paths


def paths_of_siblings(jobs: Iterable[AnyJob], prefix: str) -> dict[AnyJob, str]:
    """Return the paths of jobs that are the first members of a scheduler, in the order that they were added.

    Args:
        jobs: the jobs.
        prefix: the beginning of each path.

    """
    counts = Counter[str]()
    return {job: prefix + _next_name(job.label, counts) for job in jobs}


def _next_name(label: str, counts: Counter[str]) -> str:
    """Return the escaped label of the next member of a scheduler for its path, and count it.

    If several members have the same label, "#2" is appended to the label of the second, and so on.
    """
    counts[label] += 1
    return numbered_name(label, counts[label])


def numbered_name(label: str, number: int) -> str:
    """Return the part of a path for the member of a scheduler that is the `number`-th with a label."""
    if number == 1:
        return escape_label(label)
    return f"{escape_label(label)}#{number}"


@final
class MemberNames:
    """The names of a scheduler's members in paths. Naming a member takes no longer if there are more of them.

    The members with a label are counted once, and then kept as `Members` adds, removes and renames them. A default
    label, which may show an argument that changes, is looked at again when its own job is named. Any thread may ask.
    """

    def __init__(self) -> None:
        self.lock: Final = threading.RLock()
        # For each member, the label under which it is counted, and its place in the order of all.
        self._counted: Final[dict[AnyJob, tuple[str, int]]] = {}
        # The places of the members with each label, in ascending order.
        self._places: Final[dict[str, list[int]]] = {}
        self._next_place: Final = itertools.count()

    def add(self, jobs: Collection[AnyJob]) -> None:
        """Count the members among some that are not counted yet. They are behind all others."""
        with self.lock:
            # A copy, because another thread may add jobs.
            for job in itertools.filterfalse(self._counted.__contains__, list(jobs)):
                self._count(job, job.label, next(self._next_place))

    def _count(self, job: AnyJob, label: str, place: int) -> None:
        self._counted[job] = label, place
        bisect.insort(self._places.setdefault(label, []), place)

    def remove(self, job: AnyJob) -> None:
        with self.lock:
            if job not in self._counted:
                # It was no member any more when another thread began to count.
                return
            label, place = self._counted.pop(job)
            places = self._places[label]
            del places[bisect.bisect_left(places, place)]
            if not places:
                del self._places[label]

    def name_of(self, job: AnyJob) -> str:
        """Return the name of a member, or that of a job that was dropped, as if it were the last member."""
        with self.lock:
            label = job.label
            counted_label, place = self._counted.get(job, (label, sys.maxsize))
            if counted_label != label:
                self.remove(job)
                self._count(job, label, place)
            places = self._places.get(label, ())
            return numbered_name(label, bisect.bisect_left(places, place) + 1)


@final
class PathCache:
    """A cache of the paths of a scheduler's members, which keep them when other members are dropped.

    Args:
        scheduler: the scheduler of a run.
        prefix: the beginning of each path.

    """

    def __init__(self, scheduler: BaseScheduler, prefix: str = "") -> None:
        self._scheduler: Final = scheduler
        self._prefix: Final = prefix
        self._paths: Final[dict[AnyJob, str]] = {}
        # The count of each label among the members that have a path.
        self._counts: Final = Counter[str]()

    def nested(self, scheduler: AnyJob) -> PathCache:
        """Return a new cache for the members of a nested scheduler, which is a member of this scheduler."""
        return PathCache(
            cast("BaseScheduler", scheduler), f"{self.path_of(scheduler)}/"
        )

    def path_of(self, job: AnyJob) -> str:
        """Return the path of a member. The members before it are named first, because its name depends on theirs.

        A job that was forgotten has its label in place of its name.
        """
        if (path := self._paths.get(job)) is None:
            latest_first = reversed(self._scheduler._members.jobs)
            new: list[AnyJob] = []
            for sibling in latest_first:
                if sibling in self._paths:
                    break
                new.append(sibling)
            for sibling in reversed(new):
                name = _next_name(sibling.label, self._counts)
                self._paths[sibling] = f"{self._prefix}{name}"
            path = self._paths.get(job) or self._prefix + escape_label(job.label)
        return path

    def forget(self, job: AnyJob) -> None:
        """Remove a member that the scheduler drops, or has dropped. No other member gets the same name."""
        # Names the job, so that the names of later members do not depend on earlier calls.
        self.path_of(job)
        self._paths.pop(job, None)


TEXTS: Final[dict[str, weakref.ref[AnyJob]]] = {}
"""The jobs that have not settled, as far as they live, and the last jobs that are lost, by their texts."""
UNPLACED: Final[dict[int, str]] = {}
"""The texts of jobs that no scheduler has had yet, by their `id`. If such a job dies, it is lost: it never ran."""
_LOST: Final[deque[str]] = deque()
MAX_LOST: Final = 100
TEXT_END: Final = re.compile(r", (?:idle|scheduled|running)(?:, \d+ jobs?)?>")
HARMLESS: Final = {ord(character): f"\\x{ord(character):x}" for character in '`$"'}
"""Replacements of characters that end double quotes in a shell, or that it expands there."""
MAX_TEXT_LENGTH: Final = 300
"""The maximum number of characters of a text that is found. A label may be longer."""
MAX_ENDS: Final = 100
"""How many ends of texts are looked at: a text with more of them is a stranger's, which must not take long."""


def text_of(job: AnyJob, status: str) -> str:
    r"""Return the `repr` of a job, and record it if the job has not settled.

    A label must not run as a command if the text becomes part of a shell line.

    Example:
        >>> AbstractJob(label="echo `id`")
        <AbstractJob echo \x60id\x60, idle>

    """
    text = (
        f"<{type(job).__name__} {printable(job.label).translate(HARMLESS)}, {status}>"
    )
    if not job.is_settled():
        key = id(job)
        if job._scheduler is None:
            UNPLACED[key] = text
        TEXTS[text] = weakref.ref(job, lambda ref: _on_death(ref, key, text))
    return text


def _on_death(ref: weakref.ref[AnyJob], key: int, text: str) -> None:
    """Forget the text of a job that has died, unless it is lost: a text may have been made of it in place."""
    is_lost = UNPLACED.pop(key, None) is not None
    if TEXTS.get(text) is not ref:
        return
    if is_lost:
        _LOST.append(text)
    else:
        del TEXTS[text]
    if len(_LOST) > MAX_LOST:
        forgotten = _LOST.popleft()
        oldest = TEXTS.get(forgotten)
        if oldest is not None and oldest() is None:
            del TEXTS[forgotten]


def job_in(text: str) -> AnyJob | str | None:
    """Return a job that has not settled and whose text is part of this text, or None if there is none.

    Of a job that is lost, return the text.

    Example:
        >>> job_in(f"sum up {AbstractJob(label='plan')}")
        '<AbstractJob plan, idle>'

    """
    if "<" not in text:
        return None
    for match in itertools.islice(TEXT_END.finditer(text), MAX_ENDS):
        end = match.end()
        for start in range(max(0, end - MAX_TEXT_LENGTH), end):
            if text[start] != "<":
                continue
            part = text[start:end]
            ref = TEXTS.get(part)
            if ref is None:
                continue
            job = ref()
            if job is None:
                return part
            if not job.is_settled():
                return job
    return None
