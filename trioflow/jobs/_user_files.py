"""Users' files: the only place where jobs and journals rename, replace, empty or remove them, here and on nodes.

Files that were there when an attempt began stay where they are, whatever becomes of the attempt:

- A copy has a temporary name until it is complete. Then a file replaces a file, or goes into a directory that has its
  name. A tree is merged into a directory that is there, where all else stays.
- After an unsuccessful attempt, the files that it has written and that were not there before are renamed to
  NAME.partial, except files of other jobs and of a journal. Files that it has changed in place stay. A file in
  `writes=` that has become shorter was begun anew, and is half-written: it is renamed, too, unless another job has made
  it, and its new contents are kept.
- NAME is where links lead, as they were before: renamed files stay on their file system, and the links stay.
- A NAME.partial of this job is replaced while it is as this run has left it, and if nothing in it is older than the
  attempt that left it. Any other NAME.partial stays, and the next choice is NAME.partial-2.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import stat
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, BinaryIO, Final, NamedTuple, cast

from .. import _posix as posix
from .._core.base._text_forms import join_names, name_in_errors, shown_value
from .._core.words._job_queries import throttled_attempts
from .._core.words._run_view import last_run
from ..abc import AbstractJob, enclosing_schedulers
from .posix._files import call_in_thread, is_named_pipe

PARTIAL_SUFFIX: Final = ".partial"
OLDER_SUFFIX: Final = ".before"
PIECE_BYTES: Final = 1 << 20
HIDDEN_TEXT: Final = "what it had begun to write has other names"
MAX_NAMED_FILES: Final = 3
"""How many files of a directory a line of the log names."""
CLOCK_REALTIME_COARSE: Final = 5
"""The clock of Linux that files get their times from. Python has no name for it."""
CLOCK_TICK: Final = 10_000_000
"""That clock may stand still for these nanoseconds: a file written before an attempt may have the time of it."""
Snapshot = dict[str, tuple[int, ...]]
"""The entries at and below a path, with the facts that a write changes. Of a directory, just that it is there."""

_claimed: Final = weakref.WeakValueDictionary[str, Any]()
"""For each path that a job writes, or that is a journal's, where links lead, the job or the journal's session."""


class WritingRun:
    """A run whose jobs write files, told apart from other runs of its scheduler.

    Args:
        scheduler: the outermost scheduler of the run.

    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler: Final = weakref.ref(scheduler)
        self._run: Final = last_run(scheduler)

    def is_in_progress(self) -> bool:
        scheduler = self._scheduler()
        if scheduler is None or not scheduler.is_running():
            return False
        return last_run(scheduler) is self._run


class MadeFiles(dict[str, None]):
    """The last files that jobs of a run write which it drops when they have settled (`keep_jobs=False`).

    Args:
        scheduler: the outermost scheduler of the run.

    """

    def __init__(self, scheduler: Any) -> None:
        super().__init__()
        self.run: Final = WritingRun(scheduler)


class Writer(NamedTuple):
    """Who writes a file in a run in progress."""

    owner: object
    """The job, or a journal's session, or None for a job that its run has dropped."""
    still_counts: Callable[[], object]
    """Return what is true while that run is in progress: longer than the job is there, if its run drops it."""


_made: Final = weakref.WeakKeyDictionary[Any, MadeFiles]()
"""By outermost schedulers."""
_making: Final = threading.Lock()
"""Guards it: the threads of several jobs may claim files."""
MAX_MADE_FILES: Final = 10_000
"""How many of them are known for each run: who changes a file in place comes soon after who makes it."""
_partial_files: Final = weakref.WeakKeyDictionary[Any, dict[str, Snapshot]]()
"""For each job, the entries that it has made and set aside in this run, as they were then."""
_taken_over: Final = weakref.WeakKeyDictionary[Any, dict[str, Callable[[], object]]]()
"""For each job, the files that another job has written before, with whether that still counts: the job changes them in
place."""


def _writer(place: str) -> Writer | None:
    """Return who writes a file in a run in progress, or None."""
    owner = _claimed.get(place)
    if isinstance(owner, AbstractJob):
        run = _writing_run(cast(Any, owner))
        if run is not None:
            return Writer(cast(Any, owner), run.is_in_progress)
    elif owner is not None:
        return Writer(owner, weakref.ref(owner))
    with _making:
        dropped = [*_made.values()]
    for made in dropped:
        if place in made and made.run.is_in_progress():
            return Writer(None, made.run.is_in_progress)
    return None


def _writing_run(job: Any) -> WritingRun | None:
    """Return the run in progress in which a job has begun, or None. Earlier runs of its scheduler do not count."""
    if not job.attempts and not throttled_attempts(job):
        return None
    outermost = [job, *enclosing_schedulers(job)][-1]
    if not outermost.is_running():
        return None
    return WritingRun(outermost)


def claim(owner: object, paths: Iterable[Any]) -> None:
    """Note who writes these files, so that they stay where they are when another job fails."""
    places = [os.path.realpath(os.fsdecode(path)) for path in paths]
    for place in places:
        writer = None
        if _claimed.get(place) is not owner:
            writer = _writer(place)
        if writer is not None:
            _taken_over.setdefault(owner, {})[place] = writer.still_counts
        _claimed[place] = owner
    if isinstance(owner, AbstractJob):
        _note_made(cast(Any, owner), places)


def _note_made(job: AbstractJob[Any], places: Iterable[str]) -> None:
    """Note the files that a job writes, if its run drops it or a group around it."""
    around: list[Any] = [*enclosing_schedulers(job)]
    if all(level.keep_jobs for level in around):
        return
    with _making:
        made = _made.get(around[-1])
        if made is None or not made.run.is_in_progress():
            made = _made[around[-1]] = MadeFiles(around[-1])
        for place in places:
            made.pop(place, None)
            made[place] = None
            if len(made) > MAX_MADE_FILES:
                del made[next(iter(made))]


# ---- outputs


async def begin_outputs(job: AbstractJob[Any]) -> Callable[[bool], Awaitable[str]]:
    """Record who writes the files of a job, and which exist. Return the function that ends the attempt.

    That is called with whether the job has succeeded. If so, it checks that the job has written its files, and names
    those that were there before and are as they were. Otherwise it sets aside all that is new in them. It returns a
    line for the log, or an empty text.
    """
    snapshots, began = await call_in_thread(_claim_outputs, job)

    async def end_attempt(has_succeeded: bool) -> str:
        if has_succeeded:
            missing = describe_missing_output(job, [path for path, *_ in snapshots])
            if missing is not None:
                raise FileNotFoundError(
                    errno.ENOENT, f"{job.label!r} has ended, but {missing}"
                )
            older = [snapshot for snapshot in snapshots if snapshot[2]]
            if not older:
                return ""
            return await call_in_thread(_describe_untouched, job, older)
        renamed = await call_in_thread(
            lambda: [set_aside(*snapshot, job, began) for snapshot in snapshots]
        )
        moved = ", ".join(filter(None, renamed))
        shown = HIDDEN_TEXT if job.redact else moved
        return moved and f"{job.label!r} has not succeeded: {shown}"

    return end_attempt


def _claim_outputs(
    job: AbstractJob[Any],
) -> tuple[list[tuple[str, str, Snapshot]], int]:
    claim(job, job.writes)
    snapshots: list[tuple[str, str, Snapshot]] = []
    for path in outputs_from_here(job):
        place = os.path.realpath(path)
        snapshots.append((path, place, take_snapshot(place)))
    return snapshots, _file_time()


def outputs_from_here(job: AbstractJob[Any]) -> list[str]:
    """Return the absolute paths of the outputs of a job, as its attempt begins: another may change the directory."""
    return [os.path.abspath(_clean(path)) for path in job.writes]


def describe_missing_output(job: AbstractJob[Any], places: Iterable[str]) -> str | None:
    """Return a message about the first missing file among the outputs of a job, or None if all exist.

    Args:
        job: the job.
        places: what `outputs_from_here` has returned as its attempt began.

    """
    for path, place in zip(job.writes, places, strict=True):
        # A link may come before its target.
        if not os.path.lexists(place):
            hint = ""
            if not set("*?[").isdisjoint(os.fsdecode(path)):
                hint = "; patterns are for reads="
            return f"it did not write {shown_value(os.fsdecode(path), name_in_errors('', job.redact))}{hint}"
    return None


def _describe_untouched(
    job: AbstractJob[Any], older: Iterable[tuple[str, str, Snapshot]]
) -> str:
    """Return a line about the outputs that are as they were before the attempt, or an empty text."""
    names: list[str] = []
    for path, place, before in older:
        if os.path.realpath(path) == place and take_snapshot(place) == before:
            names.append(_shown(path))
    if not names:
        return ""
    shown = "an output"
    if not job.redact:
        shown = join_names(names, MAX_NAMED_FILES)
    return f"{shown} was there before, and {job.label!r} has not touched it"


def take_snapshot(place: str) -> Snapshot:
    """Return the file or folder at a path, without following links."""
    entries: Snapshot = {}
    todo = [place]
    for entry in todo:
        with contextlib.suppress(OSError):
            status = os.lstat(entry)
            entries[entry] = ()
            if stat.S_ISDIR(status.st_mode):
                todo += (os.path.join(entry, other) for other in os.listdir(entry))
            else:
                entries[entry] = status.st_ino, status.st_size, status.st_mtime_ns
    return entries


def set_aside(
    path: Any,
    place: str,
    before: Snapshot,
    job: Any,
    began: int,
    others: Collection[str] = (),
) -> str:
    """Rename new files at a path and below it to NAME.partial, unless its job also reads them. Say so in a text.

    Args:
        path: the file or directory, as the user has named it.
        place: where links led from there when the job began.
        before: the entries there at that time.
        job: the job that has written it.
        began: when the job began, as `_file_time` says. Older files were made by others.
        others: resolved paths of files of other jobs, besides those that `claim` knows.

    """
    if place in {os.path.realpath(read) for read in job.reads}:
        return ""

    def is_foreign(entry: str) -> bool:
        writer = _writer(entry)
        is_of_another = writer is not None and writer.owner is not job
        return entry in others or is_of_another

    def holds_foreign(directory: str) -> bool:
        with _making:
            made = [*itertools.chain.from_iterable(_made.values())]
        claimed = (cast(Any, reference).key for reference in _claimed.valuerefs())
        known = (*others, *claimed, *made)
        return any(
            other.startswith(f"{directory}/") and is_foreign(other) for other in known
        )

    def was_begun_anew(entry: str) -> bool:
        is_own = entry == place and not is_foreign(entry)
        still_counts = _taken_over.get(job, {}).get(entry)
        is_of_another = still_counts is not None and still_counts()
        if not is_own or is_of_another:
            return False
        stamp = before[entry]
        return bool(stamp) and os.lstat(entry).st_size < stamp[1]

    moved: list[str] = []
    parent, name = os.path.split(os.path.abspath(_clean(path)))
    link = os.path.join(os.path.realpath(parent), name)
    todo = [(place, place + PARTIAL_SUFFIX)]
    if link != place and place not in before and not os.path.islink(link):
        # The job has put its output in its place.
        todo.append((link, link + PARTIAL_SUFFIX))
    while todo:
        entry, target = todo.pop()
        with contextlib.suppress(OSError):
            # The failure of the job is reported.
            if not os.path.lexists(entry) or is_foreign(entry):
                continue
            is_directory = os.path.isdir(entry) and not os.path.islink(entry)
            is_made = entry not in before
            if is_made:
                is_whole = not (is_directory and holds_foreign(entry))
            else:
                is_whole = was_begun_anew(entry)
            if is_whole:
                new_name = _rename_aside(
                    entry, target, job, began if is_made else sys.maxsize
                )
                moved.append(f"{_shown(entry)} is now {_shown(new_name)}")
            elif is_directory:
                for other in os.listdir(entry):
                    new_place = os.path.join(target, other)
                    todo.append((os.path.join(entry, other), new_place))
    more = ""
    if len(moved) > MAX_NAMED_FILES:
        more = f", and {len(moved) - MAX_NAMED_FILES} more likewise"
    return ", ".join(moved[:MAX_NAMED_FILES]) + more


def _rename_aside(entry: str, target: str, job: object, began: int) -> str:
    """Rename an entry, and return its new name. A file that has the name already stays, unless this job has made it.

    If the target cannot be renamed, such as on another file system that is mounted there, or below a file, the name is
    the name of the entry with `PARTIAL_SUFFIX`.
    """
    made = _partial_files.setdefault(job, {})
    is_own = _is_younger(entry, began)
    free = target
    number = 1
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        while os.path.lexists(free):
            if free in made and take_snapshot(free) == made[free]:
                remove_own(free)
            else:
                number += 1
                free = f"{target}-{number}"
        os.rename(entry, free)
    except OSError:
        if target == entry + PARTIAL_SUFFIX:
            raise
        return _rename_aside(entry, entry + PARTIAL_SUFFIX, job, began)
    made.pop(free, None)
    if is_own:
        made[free] = take_snapshot(free)
    return free


def _is_younger(path: str, began: int) -> bool:
    """Return whether all files at and below a path were written since then: a command may move older ones there."""
    for entry, stamp in take_snapshot(path).items():
        if not stamp:
            continue
        written = stamp[2]
        # Later than the last write, if the file was moved.
        was_moved = os.lstat(entry).st_ctime_ns != written
        if written < began or (was_moved and written <= began + CLOCK_TICK):
            return False
    return True


def _shown(path: str) -> str:
    relative = os.path.relpath(path)
    return repr(path if relative.startswith(os.pardir) else relative)


def _file_time() -> int:
    """Return the time that a file would get that is written now, on this machine, in nanoseconds."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return time.clock_gettime_ns(CLOCK_REALTIME_COARSE)
    return time.time_ns()


def _clean(path: str | bytes | os.PathLike[Any]) -> str:
    return os.fsdecode(path).rstrip("/") or "/"


def open_output_file(path: Any, owner: object, *, truncate: bool) -> int:
    """Open a file for appending, create it and its parent directories if needed, and return the descriptor.

    If `truncate` is true, the previous content is removed: the user has asked for that by `append=False`.

    Raises:
        OSError: the file cannot be opened, or it is a named pipe, for whose reader this program must not wait.

    """
    if is_named_pipe(path):
        reason = "it is a named pipe, and this output passes through trioflow, which would wait for its reader"
        raise OSError(errno.EINVAL, f"{reason}; give a file, or PIPE", str(path))
    claim(owner, [path])
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if truncate else 0)
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        return os.open(path, flags, 0o666)


def set_aside_older(path: str, content: BinaryIO, owner: object) -> str:
    """Rename a file whose name `owner` needs to NAME.before, unless it has this content already. Return how."""
    if not os.path.lexists(path):
        return ""
    with open(posix.open_regular(path, os.O_RDONLY), "rb") as file:
        pieces = iter(lambda: content.read(PIECE_BYTES), b"")
        begins_so = all(file.read(len(piece)) == piece for piece in pieces)
        is_same = begins_so and not file.read(1)
    content.seek(0)
    if is_same:
        return ""
    entry = os.path.abspath(path)
    return f"{_shown(entry)} is now {_shown(_rename_aside(entry, entry + OLDER_SUFFIX, owner, sys.maxsize))}"


# ---- copies


def remove_own(path: str) -> None:
    """Remove the files that this run has made under its own names, including read-only directories. Ignore errors."""
    if os.path.islink(path) or not os.path.isdir(path):
        with contextlib.suppress(OSError):
            os.unlink(path)
        return
    for parent, names, _ in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError, NotImplementedError):
                # The system cannot do this with a link.
                os.chmod(
                    os.path.join(parent, name), stat.S_IRWXU, follow_symlinks=False
                )
    shutil.rmtree(path, ignore_errors=True)


_EACH_ENTRY: Final = (
    'for f in "$1"/* "$1"/.[!.]* "$1"/..?*; do [ -e "$f" ] || continue;'
)
PLACE_SCRIPT: Final = f"""
refuse() {{
  printf '%s\\n' "$3: a $1 is in the place of a $2, which never replaces it: remove it, or give another to=" >&2
  return 1
}}
check() {{
  if [ -d "$1" ] && [ -d "$2" ]; then {_EACH_ENTRY} check "$f" "$2/${{f##*/}}" || return; done
  elif [ -d "$1" ]; then [ ! -e "$2" ] && [ ! -L "$2" ] || refuse file directory "$2"
  elif [ -d "$2" ]; then refuse directory file "$2"
  elif [ -e "$2" ] && [ ! -f "$2" ]; then refuse "pipe or a device" file "$2"; fi
}}
place() {{
  if [ -L "$2" ] && p=$(readlink -f -- "$2" && echo .); then
    n=$(mktemp "${{p%/*}}/.trioflow-XXXXXX") && mv -f -- "$1" "$n" && mv -f -- "$n" "${{p%??}}"
  else mv -f -- "$1" "$2"; fi
}}
merge() {{
  if [ -d "$2" ]; then
    chmod u+rwx -- "$1" || return
    [ -w "$2" ] || {{ chmod u+w -- "$2" && set -- "$1" "$2" read-only; }} || return
    {_EACH_ENTRY} e=$2/${{f##*/}}
      if [ -d "$f" ]; then merge "$f" "$e"; elif [ -L "$e" ]; then place "$f" "$e"; fi || return
    done
    find "$1/." ! -name . -prune ! -type d -exec sh -c 'd=$1; shift; mv -f -- "$@" "$d"' sh "$2/" {{}} + || return
    rmdir -- "$1" || return
  else
    [ -w "$1" ] || {{ chmod u+w -- "$1" && set -- "$1" "$2" read-only; }} || return
    mv -fT -- "$1" "$2" 2>/dev/null ||
      if [ -d "$2" ]; then merge "$1" "$2"; else mv -f -- "$1" "$2"; fi || return
  fi
  [ $# = 2 ] || chmod u-w -- "$2"
}}
while [ $# -gt 0 ]; do
  t=$2
  if [ -d "$2" ] && [ ! -d "$1" ]; then t=$2/$3; fi
  check "$1" "$t" || exit
  if [ -d "$1" ]; then merge "$1" "$t"; else place "$1" "$t"; fi || exit
  shift 3
done
"""
"""A shell script that gives each of some complete copies, which have temporary names, a target, and own names. It
refuses if a directory, pipe or device is in the place of a file, or a file in the place of a directory. Then it has
moved nothing of that copy. A file whose target is a link replaces the file behind it, and the link stays. A tree is
merged, too, if another has taken its place since the script has looked there (`mv -T`, which not each system has)."""
