"""Opening of the files beside a journal, which others may have put there.

A link could lead to any file of the user, and a named pipe or a device could block the program or never end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Final

from .. import _posix as posix

KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def describe_irregularity(status: os.stat_result) -> str | None:
    """Describe what a file is if a run would not write to it; None if it is a regular file with one name.

    A file that has just been removed has no name, and is regular, too.
    """
    if not stat.S_ISREG(status.st_mode):
        return KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
    return f"a file with {status.st_nlink} hard links" if status.st_nlink > 1 else None


def open_regular(path: Path, flags: int, mode: int = 0o666) -> int:
    """Open a regular file, and return its descriptor.

    Args:
        path: the file, which is not opened if it is a symbolic link.
        flags: the flags of `os.open`.
        mode: the permissions of a new file, from which the umask is subtracted.

    Raises:
        OSError: the file cannot be opened, or is not a regular file, or is to be written and has several names.

    """
    with contextlib.suppress(FileNotFoundError):
        _check(os.lstat(path), flags)  # opening a device can have effects
    descriptor = os.open(path, flags | posix.NO_FOLLOW, mode)
    try:
        _check(os.fstat(descriptor), flags)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(status: os.stat_result, flags: int) -> None:
    irregularity = describe_irregularity(status)
    if irregularity is not None and not (stat.S_ISREG(status.st_mode) and flags & os.O_RDWR == 0):
        raise OSError(errno.EINVAL, f"it is {irregularity}")
