"""File transfers to and from a node by sftp. A file has a temporary name until it is complete."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import stat
import tempfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from subprocess import DEVNULL, PIPE
from typing import Any, Final

from ... import _posix as posix
from ..._core.base._graph_algorithms import reachable
from ...abc import all_requirements, enclosing_schedulers, run_of
from .._user_files import PLACE_SCRIPT, remove_own
from ..command import _argv, _command_job, _output_sinks, _spawn_options
from ..posix._files import call_in_thread, may_wait_for_writer
from . import _ssh_errors, _steps
from ._connections import Connections
from ._local_copier import escape_for_glob
from ._node_session import NodeSession, Stdio
from ._transport import Get, MakeDirectory, Operation, Put
from ._wrapper import portions

INCOMPLETE_PREFIX: Final = ".trioflow-"


async def push(
    session: NodeSession, sources: Sequence[str], to: str, description: str
) -> None:
    """Copy files and directories to the node.

    Raises:
        OSError: a source cannot be read.
        ValueError: two sources have the same name, or a source is neither a file nor a directory.
        SshError: the transfer failed.

    """
    with session.hidden_paths():
        copies = _plan_copies(session, sources, to)
        _check_names([copy.source for copy in copies], description)
    operations: list[Operation] = []
    for copy in copies:
        operations += map(
            MakeDirectory, _with_ancestors(posixpath.dirname(copy.target))
        )
        operations.append(Put(copy.source, copy.temporary_path))
    try:
        await session.transfer(operations, description)
        placed = [
            (copy.temporary_path, copy.target, posixpath.basename(copy.source))
            for copy in copies
        ]
        for command in _placing_commands(placed):
            await session.run(
                command,
                Stdio(stdout=DEVNULL, stderr=PIPE),
                description,
            )
    except BaseException:
        await session.remove_files([copy.temporary_path for copy in copies])
        raise


async def pull(
    session: NodeSession, sources: Sequence[str], to: str, description: str
) -> list[str]:
    """Copy files and directories from the node, and return the local paths of the copies.

    Raises:
        OSError: a file cannot be written here.
        CommandError: a copy cannot have its name, as because a directory is in the place of a file.
        ValueError: two sources, or two matches of a pattern, have the same name, or another job has pulled the copy, or
            a source is or matches "..".
        SshError: the transfer failed.

    """
    with session.hidden_paths():
        _check_patterns(sources)
        _check_names(
            [source for source in sources if not set(source) & set("*?[")], description
        )
    # As with cp, "." is what is in a directory, however many files that are.
    first = session.connection.node_path(sources[0]).rstrip("/")
    is_content = posixpath.basename(first) == "."
    to_directory = is_content or _steps.is_directory(to, len(sources))
    to = os.path.expanduser(to)  # noqa: ASYNC240 - reads $HOME or looks the user up: too quick to block the loop
    directory = to
    if not (to_directory or os.path.isdir(to)):  # noqa: ASYNC240 - one look at one name
        directory = os.path.dirname(to)
    with session.hidden_paths():
        os.makedirs(directory or ".", exist_ok=True)
        incoming = tempfile.mkdtemp(prefix=INCOMPLETE_PREFIX, dir=directory or ".")
        incoming = os.path.abspath(incoming)  # noqa: ASYNC240 - reads the working directory
    try:
        operations = [
            Get(session.connection.node_path(source), incoming) for source in sources
        ]
        paths = await session.transfer(operations, description)
        names = sorted(os.listdir(incoming))
        with session.hidden_paths():
            _check_names(paths, description)
            if not to_directory and len(names) != 1:
                what = f"{session.redact(description)}: found {len(names)} files for one target"
                raise _ssh_errors.SshError(
                    session.connection.node, what, "end to= with a '/'"
                )
        placed: list[tuple[str, str, str]] = []
        for name in names:
            target = to
            if to_directory:
                target = os.path.join(to, name)
            placed.append((f"{incoming}/{name}", target, name))
        places = await call_in_thread(lambda: [_place_of(*each) for each in placed])
        resolved = await call_in_thread(lambda: [*map(os.path.realpath, places)])
        with session.hidden_paths():
            _claim_places(resolved, session)
        for command in _placing_commands(placed):
            await session.run_here(command, description)
        return places
    finally:
        await call_in_thread(remove_own, incoming)


def _place_of(copy: str, target: str, name: str) -> str:
    if os.path.isdir(target) and not os.path.isdir(copy):
        return os.path.join(target, name)
    return target


def _claim_places(places: Sequence[str], session: NodeSession) -> None:
    """Note that the copies are from this job, each by its place where links lead.

    Raises:
        ValueError: another job has pulled a copy that this one would replace, and neither waits for the other.

    """
    pulled = run_of(session.job).shared(Connections).pulled
    user = session.user
    own = [user, *enclosing_schedulers(user)]
    for place in places:
        other = pulled.get(place, user)
        # A job that has failed claims nothing. One that has been dropped is in no scheduler, so its order is not known.
        has_claim = not other.is_settled() or other.is_succeeded()
        if has_claim and other is not user and other.scheduler is not None:
            awaited = reachable(
                own,
                lambda job: (
                    all_requirements(job.scheduler, job) if job.scheduler else ()
                ),
            )
            if (awaited.keys() - own).isdisjoint([other, *enclosing_schedulers(other)]):
                both = f"{other.label!r} and {user.label!r} both pull {os.path.relpath(place)!r}"
                raise ValueError(
                    f"{both}, and neither requires the other: put {{node}} into its target (to=, --into)"
                )
        pulled[place] = user


def _placing_commands(copies: Sequence[tuple[str, str, str]]) -> Iterator[list[str]]:
    """Yield commands that give complete copies their places: for each its temporary path, its target, and its name."""
    for words in portions(copies):
        yield ["/bin/sh", "-c", PLACE_SCRIPT, "trioflow", *words]


@contextlib.asynccontextmanager
async def temporary_file(session: NodeSession, content: object) -> AsyncGenerator[str]:
    """Write content to a temporary file on the node that only its owner can read, yield its path, and remove it.

    Raises:
        OSError: the content cannot be read on this machine.
        SshError: the transfer failed.

    """
    path = f"{session.connection.scratch}{INCOMPLETE_PREFIX}{os.urandom(6).hex()}"
    try:
        async with _local_temporary_file() as (file, name):
            with session.hidden_paths():
                await _write_content(file, content)
            await session.transfer([Put(name, path)], "standard input")
        yield path
    finally:
        await session.remove_files([path])


@contextlib.asynccontextmanager
async def temporary_directory(
    session: NodeSession,
    script: bytes,
    name: str,
    others: Sequence[str],
    description: str,
) -> AsyncGenerator[str]:
    """Put a script and other files into a temporary directory on the node, yield its path, and remove it.

    Raises:
        OSError: a file cannot be read.
        ValueError: two files have the same name, or a source is neither a file nor a directory.
        SshError: the transfer failed.

    """
    directory = f"{session.connection.scratch}{INCOMPLETE_PREFIX}{os.urandom(6).hex()}"
    with session.hidden_paths():
        copies = _plan_copies(session, others, f"{directory}/")
        _check_names([name, *(copy.source for copy in copies)], description)
    try:
        async with _local_temporary_file() as (file, path):
            await _write_content(file, script)
            posix.fchmod(file.fileno(), stat.S_IRWXU)
            made = MakeDirectory(directory), Put(path, posixpath.join(directory, name))
            await session.transfer(
                [*made, *(Put(copy.source, copy.target) for copy in copies)],
                description,
            )
        yield directory
    finally:
        await session.remove_files([directory])


@contextlib.asynccontextmanager
async def _local_temporary_file() -> AsyncGenerator[tuple[Any, str]]:
    """Yield a temporary file on this machine and its path.

    On Linux, the file has no directory entry, and so disappears even if this program is killed.
    """
    # `TemporaryFile` creates no entry: https://docs.python.org/3/library/tempfile.html#tempfile.TemporaryFile.
    file: Any = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    name = f"/proc/{os.getpid()}/fd/{file.fileno()}"
    if not os.path.exists(name):  # noqa: ASYNC240 - in /proc
        file.close()
        file = tempfile.NamedTemporaryFile(prefix="trioflow-")  # noqa: SIM115 - closed below
        name = file.name
    try:
        yield file, name
    finally:
        # To free a gigabyte takes the kernel half a second, so a thread closes the file.
        await call_in_thread(file.close)


@dataclass(frozen=True, slots=True)
class Copy:
    """A file or directory to copy to a node."""

    source: str
    # The path of the copy on the node.
    target: str
    # The path on the node until the copy is complete.
    temporary_path: str


def _plan_copies(session: NodeSession, sources: Sequence[str], to: str) -> list[Copy]:
    to_directory = _steps.is_directory(to, len(sources))
    token = os.urandom(6).hex()
    copies = list[Copy]()
    for number, source in enumerate(map(os.path.expanduser, sources)):
        # If the source is missing, the error of `stat` is clearer than sftp's.
        mode = os.stat(source).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ValueError(
                f"{source!r} is a pipe, a socket or a device; only files and directories can be copied"
            )
        path = os.path.abspath(source)
        target = to
        if to_directory:
            target = posixpath.join(to, os.path.basename(path))
        target = session.connection.node_path(target)
        temporary_path = posixpath.join(
            posixpath.dirname(target), f"{INCOMPLETE_PREFIX}{token}-{number}"
        )
        copies.append(Copy(path, target, temporary_path))
    return copies


def _check_patterns(sources: Sequence[str]) -> None:
    """Raise a ValueError if a source is or matches "..": sftp would copy what is there into the target itself."""
    for source in sources:
        *parts, last = escape_for_glob(source.rstrip("/")).split("/")
        patterns = [part for part in parts if not set(part).isdisjoint("*?[")]
        for part in (*patterns, last):
            if part.startswith(".") and fnmatchcase("..", part):
                raise ValueError(
                    f"{source!r} is or matches '..': give the name of that directory, or '.[!.]*' for hidden files"
                )


def _check_names(paths: Sequence[str], description: str) -> None:
    """Raise a ValueError if two paths have the same last component: the copies would overwrite each other."""
    paths_by_name: dict[str, str] = {}
    for path in map(posixpath.normpath, paths):
        name = posixpath.basename(path)
        if (other := paths_by_name.setdefault(name, path)) != path:
            raise ValueError(
                f"{description}: two of these are named {name!r}, {other} and {path}: "
                f"copy their directories instead, or copy them in separate steps to different places"
            )


def _with_ancestors(directory: str) -> list[str]:
    """Return a directory and its ancestors, outermost first, without the root and the home directory."""
    directories: list[str] = []
    while directory and directory not in ("/", ".", "~"):
        directories.append(directory)
        directory = posixpath.dirname(directory)
    return directories[::-1]


async def read_script(path: str) -> bytes:
    """Read a script, in a process that can be ended if it comes from a pipe.

    Raises:
        OSError: it cannot be read.

    """
    if may_wait_for_writer(path):
        return (
            await _command_job.CommandJob(["cat"], stdin=path, stdout=PIPE).co_run()
        ).stdout or b""
    with open(path, "rb") as file:  # noqa: ASYNC230 - a local file of a few kilobytes
        return file.read()


async def _write_content(file: Any, content: Any) -> None:
    """Write content to a temporary file of this machine, in a thread, or in a process that can be ended if it may wait.

    Raises:
        OSError: the content cannot be read or written. The error of a full disk names its directory.
        CommandError: the same, for content that had to be waited for.

    """
    kinds = (_output_sinks.OutputSpool, *_argv.BYTES_TYPES)
    if isinstance(content, kinds) or not may_wait_for_writer(content):
        await call_in_thread(_copy_content, file, content)
    else:
        await _command_job.CommandJob(["cat"], stdin=content, stdout=file).co_run()


def _copy_content(file: Any, content: Any) -> None:
    try:
        if isinstance(content, _output_sinks.OutputSpool):
            with content.open() as source:
                shutil.copyfileobj(source, file)
        elif isinstance(content, _argv.BYTES_TYPES):
            file.write(content)
        else:
            if _spawn_options.is_path(content) or isinstance(content, int):
                source_file = content
            else:
                source_file = content.fileno()
            with open(
                source_file, "rb", closefd=_spawn_options.is_path(content)
            ) as source:
                shutil.copyfileobj(source, file)
        file.flush()
    except OSError as error:
        error.filename = error.filename or tempfile.gettempdir()
        raise
