"""Files that go to a node, or come from there, by sftp: under a name of their own until they are complete."""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import stat
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..command._capture import Spool
from ..command._options import is_path
from ._errors import SshError
from ._session import Redirection, Session

MARK: Final = ".trioflow-"
"""What the names of files begin with that are not complete yet."""
SWAP: Final = (
    'if [ -d "$2" ] && [ ! -L "$2" ]; then '
    'mv -- "$2" "$3" && mv -- "$1" "$2" && { rm -rf -- "$3" || { chmod -R u+rwx -- "$3" && rm -rf -- "$3"; }; }; '
    'else mv -f -- "$1" "$2"; fi'
)
"""Puts a directory in the place of another one, which may be read-only."""
UNHEARD: Final = Redirection(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def push(session: Session, sources: Sequence[str], to: str, shown: str) -> None:
    """Copy files and directories to the node.

    Raises:
        OSError: a source cannot be read.
        ValueError: two sources have the same name, or one is not a file or a directory.
        SshError: it could not be done.

    """
    copies = _copies(sources, to)
    _check_names([posixpath.basename(copy.place) for copy in copies], shown)
    batch: list[str] = []
    for copy in copies:
        batch += [f"-mkdir {quoted(parent)}" for parent in _parents(posixpath.dirname(copy.place))]
        batch.append(f"put -pR {quoted(copy.source)} {quoted(copy.new)}")
        if not copy.is_directory:
            batch.append(f"rename {quoted(copy.new)} {quoted(copy.place)}")
    try:
        await session.transfer(batch, shown)
        for copy in copies:
            if copy.is_directory:
                words = ["/bin/sh", "-c", SWAP, "trioflow", copy.new, copy.place, copy.new + ".old"]
                await session.run(words, UNHEARD, f"mv {copy.new} {copy.place}")
    except BaseException:
        await session.tidy([copy.new for copy in copies])
        raise


async def pull(session: Session, sources: Sequence[str], to: str, shown: str) -> list[str]:
    """Copy files and directories from the node, and return where they are.

    Raises:
        OSError: it cannot be written here.
        ValueError: two sources have the same name.
        SshError: it could not be done.

    """
    _check_names([posixpath.basename(one.rstrip("/")) for one in sources if not set(one) & set("*?[")], shown)
    into = to.endswith("/") or to == "~" or len(sources) > 1
    to = os.path.expanduser(to)  # noqa: ASYNC240 - it looks into the environment, if anywhere
    directory = to if into else os.path.dirname(to)
    new = _new_directory(directory or ".")
    try:
        batch = [f"get -pR {_pattern(there(source))} {quoted(new + '/')}" for source in sources]
        await session.transfer(batch, shown)
        names = sorted(os.listdir(new))
        if not into and len(names) != 1:
            raise SshError(session.node, f"{shown}: these are {len(names)} files: let to= end with a '/'")
        places = [os.path.join(directory, name) if into else to for name in names]
        for name, place in zip(names, places, strict=True):
            _put_in_place(os.path.join(new, name), place, os.path.join(new, name + ".old"))
        return places
    finally:
        _remove(new)


@contextlib.asynccontextmanager
async def temporary(session: Session, content: Any) -> AsyncGenerator[str]:
    """Have something in a file on the node, which only the user may read, for the time of a block.

    Raises:
        OSError: it cannot be read here.
        SshError: it could not be done.

    """
    path = f"{MARK}{os.urandom(6).hex()}"
    try:
        with _nameless_file() as (file, name):
            _fill(file, content)
            await session.transfer([f"put {quoted(name)} {path}"], "what is to be read there")
        yield path
    finally:
        await session.tidy([path])


@contextlib.contextmanager
def _nameless_file() -> Generator[tuple[Any, str]]:
    """Have a file, and a path of it; where the system allows, nothing of it is left even if this program is killed."""
    with tempfile.TemporaryFile() as file:
        name = f"/proc/{os.getpid()}/fd/{file.fileno()}"
        if os.path.exists(name):
            yield file, name
            return
    with tempfile.NamedTemporaryFile(prefix="trioflow-") as named:
        yield named, named.name


@dataclass(frozen=True, slots=True)
class Copy:
    """One file or directory on its way to a node."""

    source: str
    place: str  # where it is to be there
    new: str  # where it is until it is complete
    is_directory: bool


def _copies(sources: Sequence[str], to: str) -> list[Copy]:
    into = to.endswith("/") or to == "~" or len(sources) > 1
    token, found = os.urandom(6).hex(), list[Copy]()
    for number, source in enumerate(map(os.path.expanduser, sources)):
        mode = os.stat(source).st_mode  # it says what is wrong better than sftp
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ValueError(f"{source!r} is not a file or a directory, but a pipe, a socket or a device: not copied")
        path = os.path.abspath(source)
        place = there(posixpath.join(to, os.path.basename(path)) if into else to)
        directory, name = posixpath.split(place)
        new = posixpath.join(directory, f"{MARK}{token}-{number}-{name}")
        found.append(Copy(path, place, new, os.path.isdir(path)))
    return found


def _check_names(names: Sequence[str], shown: str) -> None:
    """Refuse sources that would take each other's place."""
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise ValueError(f"{shown}: two of these are named {twice!r}: copy them by steps of their own, to other places")


def _new_directory(parent: str) -> str:
    os.makedirs(parent, exist_ok=True)
    return os.path.abspath(tempfile.mkdtemp(prefix=MARK, dir=parent))


def there(path: str) -> str:
    """Return a path on a node as sftp takes it: relative to the home directory, and never like an option."""
    path = "." if path == "~" else path.removeprefix("~/") or "."
    return f"./{path}" if path.startswith("-") else path


def quoted(path: str) -> str:
    """Return a path that sftp takes as it is.

    Raises:
        ValueError: no command of sftp can have a line break in it.

    """
    if "\n" in path or "\r" in path:
        raise ValueError(f"{path!r}: sftp cannot copy what has a line break in its name; rename it, or use tar")
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _pattern(path: str) -> str:
    """Return a path in which sftp looks for `*`, `?` and `[...]`."""
    quoted(path)
    return "".join(f"\\{character}" if character in " \t\"'#" else character for character in path)


def _parents(directory: str) -> list[str]:
    """Return a directory and those that it is in, from the outermost."""
    found: list[str] = []
    while directory and directory not in ("/", ".", "~"):
        found.append(directory)
        directory = posixpath.dirname(directory)
    return found[::-1]


def _put_in_place(new: str, place: str, old: str) -> None:
    if os.path.isdir(place) and not os.path.islink(place):
        _move(place, old)
    _move(new, place)


def _move(path: str, to: str) -> None:
    """Rename a file or a directory; to take a directory elsewhere, its owner must be allowed to write into it."""
    mode = os.lstat(path).st_mode
    if not stat.S_ISDIR(mode) or mode & stat.S_IWUSR:
        os.replace(path, to)
        return
    os.chmod(path, stat.S_IMODE(mode) | stat.S_IWUSR)
    os.replace(path, to)
    os.chmod(to, stat.S_IMODE(mode))


def _remove(directory: str) -> None:
    """Remove a directory and all that is in it, as far as possible; directories in it may be read-only."""
    for parent, names, _ in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                os.chmod(os.path.join(parent, name), stat.S_IRWXU, follow_symlinks=False)
    shutil.rmtree(directory, ignore_errors=True)


def _fill(file: Any, content: Any) -> None:
    if isinstance(content, Spool):
        with content.open() as source:
            shutil.copyfileobj(source, file)
    elif isinstance(content, (bytes, bytearray, memoryview)):
        file.write(content)
    elif is_path(content):
        with open(content, "rb") as source:
            shutil.copyfileobj(source, file)
    else:
        with open(content if isinstance(content, int) else content.fileno(), "rb", closefd=False) as source:
            shutil.copyfileobj(source, file)
    file.flush()
