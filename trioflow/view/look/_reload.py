"""Mended code in a program that runs: functions that have changed in the program's own files get their new code.

`_file_changes` finds the changes in the texts. Here, they meet the objects of the program: the garbage collector knows
all functions (https://docs.python.org/3/library/gc.html#gc.get_objects), whose code can be replaced in place
(https://docs.python.org/3/reference/datamodel.html#function.__code__). All changes are taken, or none.

Decided in docs/decisions: 44-mended-code.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import itertools
import os
import shlex
import sys
import threading
from collections.abc import Iterable, Iterator
from types import (
    AsyncGeneratorType,
    CellType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodType,
)
from typing import Any, Final

from ... import _loaded_files
from ..._core.base import _user_code
from ..._core.base._text_forms import clause, join_names
from ..._core.job._function import Job
from ..._core.job._job import AnyJob
from ..._core.job._labels import printable, unescape_path
from ..._core.words import _job_queries
from ..._core.words._run_view import runs_in_progress
from ._file_changes import FileChange, title_of

MAX_NAMED: Final = 5
MAX_OLDER: Final = 10_000
"""The number of codes that have been replaced, the latest, that are kept for calls that have begun before."""
NOTHING_KNOWN: Final = (
    "what was loaded is not known: `trioflow run` remembers it, "
    "and a run with hold=True as it begins"
)
NOT_LOADED: Final = (
    "is not what the file said as it was loaded; an import hook may have made it"
)
NOTHING_CHANGED: Final = "no file of the program has changed since it was loaded"
CURE: Final = (
    "nothing was taken: undo it, write it in a function, or end the run, let `trioflow journal FILE forget` the jobs "
    "that used it, and begin again with its journal"
)
# Objects that refer to the variables of a call, and objects where a call may keep functions.
CALLS: Final = (FrameType, CoroutineType, GeneratorType, AsyncGeneratorType)
CONTAINERS: Final = (
    CellType,
    FunctionType,
    MethodType,
    functools.partial,
    tuple,
    list,
    dict,
    set,
)
# As all functions of a module refer to its namespace.
MAX_CONTAINERS: Final = 100
KEEPERS: Final = {
    (
        "functools",
        "_lru_cache_wrapper",
    ): "functools.cache keeps the results of {} until cache_clear()",
    (
        "numba.core.registry",
        "CPUDispatcher",
    ): "numba keeps the machine code of {} until recompile()",
    (
        "concurrent.futures.process",
        "ProcessPoolExecutor",
    ): "the processes of an executor keep the old code",
    (
        "concurrent.futures.interpreter",
        "InterpreterPoolExecutor",
    ): "the interpreters of an executor keep the old code",
    (
        "loky.process_executor",
        "ProcessPoolExecutor",
    ): "the processes of loky keep the old code",
    (
        "distributed.client",
        "Client",
    ): "Dask workers keep the old code of modules that they have imported",
}
"""The types of objects that keep old code, or its results, and the words for them in the answer."""
# Reloads that are asked for at the same time come one after the other.
_lock: Final = threading.RLock()


class NothingChanged(RuntimeError):
    """There is no mended code, so that what was to follow a reload may do so."""


def reload(by: str = "") -> str:
    """Take the code that has changed in the program's own files, and describe it in words.

    Args:
        by: who asks, for the logs of the runs in progress, or "" for the program itself.

    Raises:
        RuntimeError: it cannot be taken, and nothing has changed. The message says why.

    """
    with _lock:
        done, remarks, mended = _take_changes()
    if by:
        message = f"{done} by {by}{remarks}"
    else:
        message = done + remarks
    for run in runs_in_progress():
        with contextlib.suppress(RuntimeError):
            # Its loop has ended. A run in this thread logs it before what follows, such as another try.
            jobs = filter(_may_have_begun, run.scheduler.iterate_jobs())
            run.call(functools.partial(_job_queries.note_older_code, jobs, mended))
            run.call(functools.partial(run.report, None, message, is_steering=True))
    return done + remarks


def _may_have_begun(job: AnyJob) -> bool:
    """Return whether a job has ended, or is in a function: whether one in a thread or a worker has begun is unknown."""
    return job.is_settled() or isinstance(job, Job)


def _name_files(files: Iterable[str]) -> str:
    return join_names([*map(os.path.basename, files)], MAX_NAMED)


def changed_text() -> str:
    """Name the files that have changed since they were loaded, or return ""."""
    files = _name_files(_loaded_files.changed_files())
    return clause("{} changed since it was loaded", files)


def older_code_text(scheduler: Any) -> str:
    """Name the jobs that have succeeded with older code than their functions have now, or return ""."""
    older = filter(_job_queries.has_older_code, scheduler.iterate_jobs())
    paths = [printable(job.path) for job in older]
    if not paths:
        return ""
    names = join_names([f"'{unescape_path(path)}'" for path in paths], MAX_NAMED)
    call = f"trioflow steer {os.getpid()} try-again {shlex.quote(paths[0])}"
    return f"{names} succeeded with older code: `{call}` runs it again"


def _take_changes() -> tuple[str, str, dict[Any, Any]]:
    """Take all changes, or none. Return the changes made, what stays as it was, and the old codes by the new ones."""
    loaded = _loaded_files.loaded
    known = {*loaded}
    if not known:
        raise RuntimeError(NOTHING_KNOWN)
    _loaded_files.remember()
    changed = _loaded_files.changed_files(reads_all=True)
    # A file that is seen for the first time may have been mended since it was loaded: then its functions show it.
    files = {
        file: now
        for file, now in loaded.items()
        if file not in known and not now.is_certain
    } | changed
    changes = {file: FileChange(file, loaded[file], now) for file, now in files.items()}
    reasons = list[str]()
    for change in changes.values():
        reasons += change.reasons
    _refuse(reasons)
    replacements, names = _find_functions([*changes.values()])
    remarks = list[str]()
    gone = _name_files(itertools.filterfalse(os.path.isfile, loaded))
    if gone:
        remarks.append(f"{gone} is no file any more, and stays as it was loaded")
    if not changed:
        raise NothingChanged("; ".join([NOTHING_CHANGED, *remarks]))
    for note in [*_loaded_files.before_reload]:
        note()
    with contextlib.ExitStack() as undoing:
        for function, attributes in replacements:
            for name, value in attributes.items():
                undoing.callback(setattr, function, name, getattr(function, name))
                setattr(function, name, value)
        for change in changes.values():
            names += _run_additions(change, undoing)
        remarks += _find_keepers()
        undoing.pop_all()
    mended: dict[Any, Any] = {}
    for file, change in changes.items():
        mended |= change.mended
        codes = dict[Any, Any]()
        for old, new in change.successors.items():
            if isinstance(new, dict):
                codes[old] = new["__code__"]
        lines = _loaded_files.source_lines(loaded[file].text)
        for old in change.successors.keys() - codes.values():
            # Calls that have begun go on with it. It may be of a text before the last.
            _user_code.replaced_lines.setdefault(old, lines)
        # The latest come first.
        codes = dict(itertools.islice(codes.items(), MAX_OLDER))
        _loaded_files.keep(
            file, files[file]._replace(is_certain=True, successors=codes)
        )
    for old in [*_user_code.replaced_lines][:-MAX_OLDER]:
        del _user_code.replaced_lines[old]
    # The files that the new imports have loaded.
    _loaded_files.remember()
    _user_code.reload_count += 1
    done = (
        join_names([*dict.fromkeys(names)], MAX_NAMED)
        or "nothing but lines has changed"
    )
    remarks.insert(0, "")
    return f"reloaded {_name_files(changed)}: {done}", "; ".join(remarks), mended


def _refuse(reasons: list[str]) -> None:
    """Refuse to take anything if there are reasons.

    Raises:
        RuntimeError: there are.

    """
    if reasons:
        raise RuntimeError(
            f"{join_names([*dict.fromkeys(reasons)], MAX_NAMED)}; {CURE}"
        )


def _run_additions(change: FileChange, undoing: contextlib.ExitStack) -> list[str]:
    """Run the new statements of a file, and return the names that they bind.

    Raises:
        RuntimeError: any of them raises an exception.

    """
    for node, name, code in change.additions:
        for namespace in change.namespaces.values():
            undoing.callback(namespace.pop, name, None)
            try:
                exec(code, namespace)
            except (Exception, SystemExit) as error:
                place = f"{change.name}:{node.lineno}: {title_of(node)}"
                _refuse([f"{place} raised {type(error).__name__}: {error}"])
    return [name for _, name, _ in change.additions]


# ---- the objects of the program


def _find_functions(
    changes: list[FileChange],
) -> tuple[list[tuple[FunctionType, dict[str, Any]]], list[str]]:
    """Return the functions of files that have changed, with their new attributes, and the names of those that have.

    Raises:
        RuntimeError: not all of them can get new code.

    """
    # Classes that calls have made, which have ended, refer to their own functions.
    gc.collect()
    objects = gc.get_objects()
    change_of: dict[int, FileChange] = {}
    for change in changes:
        change_of |= dict.fromkeys(change.namespaces, change)
    others = {*map(id, objects)}
    if not change_of.keys() <= others:
        raise RuntimeError(
            "gc.freeze() has hidden the functions of the program: call gc.unfreeze() first"
        )
    found: list[tuple[FunctionType, dict[str, Any]]] = []
    names = set[tuple[int, str]]()
    stale: dict[str, list[FunctionType]] = {}
    for function in objects:
        if type(function) is not FunctionType:
            continue
        # Some functions are made of a text in no file, as by dataclasses. Others compute annotations since Python 3.14,
        # which stay as they were: https://docs.python.org/3/reference/datamodel.html#function.__annotate__.
        if function.__code__.co_filename.startswith("<"):
            continue
        key = id(function.__globals__)
        if key not in change_of or function.__name__ == "__annotate__":
            continue
        change = change_of[key]
        new = change.successors.get(function.__code__, NOT_LOADED)
        if isinstance(new, str):
            reason = f"{change.name}: {function.__qualname__}() {new}"
            stale.setdefault(reason, []).append(function)
            others.discard(id(function))
            continue
        found.append((function, new))
        code = new["__code__"]
        if code in change.mended:
            name = function.__qualname__.partition(".<locals>")[0]
            names.add((code.co_firstlineno, name))
    reasons = list[str]()
    for reason, functions in stale.items():
        if _is_kept(functions, others):
            reasons.append(reason)
    _refuse(reasons)
    return found, [name for _, name in sorted(names)]


def _is_kept(functions: list[Any], others: set[int]) -> bool:
    """Return whether anything but calls, which end or have ended, refers to functions.

    The traceback of a failure refers to the variables of calls that have ended, with the functions that they have made.

    Args:
        functions: the functions.
        others: the identities of the objects that may keep them. An object that is made here, such as the tuple of the
            arguments of a call, is none of them.

    """
    todo: list[Any] = functions
    seen = set[int]()
    while todo:
        referrers = gc.get_referrers(*todo)
        todo = []
        for each in referrers:
            key = id(each)
            if key not in others or key in seen or isinstance(each, CALLS):
                continue
            if type(each) not in CONTAINERS:
                return True
            seen.add(key)
            todo.append(each)
        if len(todo) > MAX_CONTAINERS:
            return True
    return False


def _find_keepers() -> Iterator[str]:
    """Yield the objects that keep old code of the program, or its results."""
    objects = gc.get_objects()
    own = set[int]()
    for file in _loaded_files.loaded.values():
        own.update(file.namespaces)
    for (module, name), remark in KEEPERS.items():
        kind = getattr(sys.modules.get(module), name, None)
        names = set[str]()
        for each in objects:
            if kind in type(each).__mro__:
                keeper = inspect.unwrap(each)
                # Executors and clients, which the remark does not name, may have any function of the program.
                if (
                    "{}" not in remark
                    or id(getattr(keeper, "__globals__", None)) in own
                ):
                    names.add(f"{getattr(keeper, '__qualname__', '')}()")
        if names:
            yield remark.format(join_names(sorted(names), MAX_NAMED))
