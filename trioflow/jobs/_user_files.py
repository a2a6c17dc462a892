"""Users' files: the only place where jobs and journals rename, replace, empty or remove them, here and on nodes.

Nothing is touched that this run has not made. So

- a copy has a temporary name until it is complete; then a file replaces a file, or goes into a directory that has its
  name, and a tree is merged into one that is there, where all else stays;
- what an unsuccessful command has written is renamed to NAME.partial: in a directory only what was not there before,
  and neither files of other jobs nor of a journal;
- a NAME.partial of this job is replaced while it is as this run has left it; any other stays, and the next choice is
  NAME.partial-2.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import weakref
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, cast

from .posix._files import is_named_pipe

PARTIAL_SUFFIX: Final = ".partial"
Snapshot = dict[str, tuple[int, ...]]
"""The entries at and below a path, with what changes when a file is written; of a directory, just that it is there."""

_claimed: Final[weakref.WeakValueDictionary[str, Any]] = weakref.WeakValueDictionary()
"""For each path that a job writes, or that is a journal's, the job or the journal's session."""
_partial_files: Final[weakref.WeakKeyDictionary[Any, dict[str, Snapshot]]] = weakref.WeakKeyDictionary()
"""For each job, what it has set aside in this run, as it was then."""


def claim(owner: Any, paths: Iterable[Any]) -> None:
    """Note who writes these files, so that they stay where they are when another job fails."""
    for path in paths:
        _claimed[os.path.abspath(os.fsdecode(path))] = owner


# ---- outputs


def claim_outputs(job: Any, writes: Collection[Any], reads: Iterable[Any]) -> Callable[[], None]:
    """Note who writes these files and directories, and return what sets aside all that is new in them.

    Args:
        job: the command, which has not started.
        writes: its output files and directories.
        reads: its input files.

    """
    claim(job, writes)
    snapshots = {path: take_snapshot(path) for path in writes}

    def set_aside_new() -> None:
        for path, before in snapshots.items():
            set_aside(path, before, job, reads)

    return set_aside_new


def take_snapshot(path: Any) -> Snapshot:
    """Return what there is at a path, without what is behind links in a directory."""
    name = _clean(path)
    entries: Snapshot = {}
    todo = [name]
    while todo:
        entry = todo.pop()
        with contextlib.suppress(OSError):
            status = os.stat(entry, follow_symlinks=entry == name)
            entries[entry] = ()
            if stat.S_ISDIR(status.st_mode):
                todo += (os.path.join(entry, other) for other in os.listdir(entry))
            else:
                entries[entry] = status.st_ino, status.st_size, status.st_mtime_ns
    return entries


def set_aside(path: Any, before: Snapshot, job: Any, reads: Iterable[Any], others: Collection[str] = ()) -> None:
    """Rename a file that was written, or what is new in a directory, to NAME.partial, unless its job also reads it.

    Args:
        path: the file or directory.
        before: what was there before.
        job: the job that has written it.
        reads: the input files of the job.
        others: absolute paths of files of other jobs, besides those that `claim` knows.

    """
    name = _clean(path)
    if os.path.realpath(name) in {os.path.realpath(read) for read in reads}:
        return

    def is_foreign(absolute: str) -> bool:
        return absolute in others or _claimed.get(absolute, job) is not job

    def holds_foreign(directory: str) -> bool:
        known = (*others, *(cast(Any, reference).key for reference in _claimed.valuerefs()))
        return any(other.startswith(f"{directory}/") and is_foreign(other) for other in known)

    todo = [(name, name + PARTIAL_SUFFIX)]
    while todo:
        entry, target = todo.pop()
        absolute = os.path.abspath(entry)
        with contextlib.suppress(OSError):  # the failure of the job is reported
            if not os.path.lexists(entry) or is_foreign(absolute):
                continue
            is_directory = os.path.isdir(entry) and (entry == name or not os.path.islink(entry))
            is_new = entry not in before or (entry == name and not is_directory and take_snapshot(entry) != before)
            if is_new and not (is_directory and holds_foreign(absolute)):
                _rename_aside(entry, target, job)
            elif is_directory:
                todo += ((os.path.join(entry, other), os.path.join(target, other)) for other in os.listdir(entry))


def _rename_aside(entry: str, target: str, job: Any) -> None:
    """Rename an entry. What has the name already stays, unless this job has set it aside in this run."""
    made = _partial_files.setdefault(job, {})
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    free, number = target, 1
    while os.path.lexists(free):
        if free in made and take_snapshot(free) == made[free]:
            remove_own(free)
        else:
            number += 1
            free = f"{target}-{number}"
    os.rename(entry, free)
    made[free] = take_snapshot(free)


def _clean(path: Any) -> str:
    return os.fsdecode(path).rstrip("/") or "/"


def open_output_file(path: Any, owner: Any, *, truncate: bool = False) -> int:
    """Open a file for appending, create it and its parent directories if needed, and return the descriptor.

    If `truncate` is true, the previous content is removed: the user has asked for that by `append=False`.

    Raises:
        OSError: the file cannot be opened; or it is a named pipe, for whose reader this program must not wait.

    """
    if is_named_pipe(path):
        raise OSError(
            errno.EINVAL,
            "it is a named pipe, and this output passes through trioflow, which would wait for "
            "its reader; give a file, or PIPE",
            str(path),
        )
    claim(owner, [path])
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if truncate else 0)
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        return os.open(path, flags, 0o666)


# ---- copies


def remove_own(path: str) -> None:
    """Remove what this run has made under a name of its own, including read-only directories. Ignore errors."""
    if os.path.islink(path) or not os.path.isdir(path):
        with contextlib.suppress(OSError):
            os.unlink(path)
        return
    for parent, names, _ in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError, NotImplementedError):  # the system cannot do this with a link
                os.chmod(os.path.join(parent, name), stat.S_IRWXU, follow_symlinks=False)
    shutil.rmtree(path, ignore_errors=True)


_EACH_ENTRY: Final = 'for f in "$1"/* "$1"/.[!.]* "$1"/..?*; do [ -e "$f" ] || continue;'
PLACE_SCRIPT: Final = f"""
refuse() {{
  printf '%s\\n' "$3: a $1 is in the place of a $2, which never replaces it: remove it, or give another to=" >&2
  return 1
}}
check() {{
  if [ -d "$1" ] && [ -d "$2" ]; then {_EACH_ENTRY} check "$f" "$2/${{f##*/}}" || return; done
  elif [ -d "$1" ]; then [ ! -e "$2" ] && [ ! -L "$2" ] || refuse file directory "$2"
  elif [ -d "$2" ]; then refuse directory file "$2"; fi
}}
merge() {{
  if [ -d "$2" ]; then
    chmod u+rwx -- "$1" || return
    [ -w "$2" ] || {{ chmod u+w -- "$2" && set -- "$1" "$2" read-only; }} || return
    {_EACH_ENTRY} [ ! -d "$f" ] || merge "$f" "$2/${{f##*/}}" || return; done
    find "$1/." ! -name . -prune ! -type d -exec sh -c 'd=$1; shift; mv -f -- "$@" "$d"' sh "$2/" {{}} + || return
    rmdir -- "$1" || return
  else
    [ -w "$1" ] || {{ chmod u+w -- "$1" && set -- "$1" "$2" read-only; }} || return
    mv -f -- "$1" "$2" || return
  fi
  [ $# = 2 ] || chmod u-w -- "$2"
}}
while [ $# -gt 0 ]; do
  t=$2
  if [ -d "$2" ] && [ ! -d "$1" ]; then t=$2/$3; fi
  check "$1" "$t" || exit
  if [ -d "$1" ]; then merge "$1" "$t"; else mv -f -- "$1" "$t"; fi || exit
  shift 3
done
"""
"""A shell script that gives each of some complete copies, which have temporary names, a target, and own names.

It refuses if a directory is in the place of a file, or the other way round. Then it has moved nothing of that copy.
"""
