"""A program that copies files on this machine for a `LocalNode`, in place of sftp.

It is a separate process so that it can be ended at any time. It reads a list of operations from its standard input, as
JSON, and executes them in order until one fails. It imports only the standard library, and starts in about 20 ms. Like
sftp, it keeps permissions and modification times. It follows a symbolic link that is itself the source, but skips
links, pipes and devices in directories.
"""

import contextlib
import glob
import json
import os
import re
import stat
import sys
from collections.abc import Callable


def make_directory(path: str) -> None:
    """Create a directory. Ignore errors, because copying into the directory will report them."""
    with contextlib.suppress(OSError):
        os.mkdir(path)


def put(source: str, target: str) -> None:
    """Copy a file or a directory, with its permissions and modification times."""
    status = os.stat(source)
    if stat.S_ISDIR(status.st_mode):
        refuse_into_itself(source, target)
        os.mkdir(target, stat.S_IRWXU)
        put_content(source, target)
    elif stat.S_ISREG(status.st_mode):
        descriptor = os.open(
            target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, stat.S_IRUSR | stat.S_IWUSR
        )
        with open(descriptor, "wb") as target_file, open(source, "rb") as source_file:
            while data := source_file.read(1 << 20):
                target_file.write(data)
    else:
        raise OSError(f"{source!r} is not a file or a directory")
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    # Like sftp, drop the set-user-ID bits: no copy lets others act as its owner.
    os.chmod(target, status.st_mode & 0o777)


def put_content(source: str, target: str) -> None:
    """Copy what is in a directory into another."""
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) or entry.is_file(
                follow_symlinks=False
            ):
                put(entry.path, os.path.join(target, entry.name))


def refuse_into_itself(source: str, target: str) -> None:
    if os.path.realpath(target).startswith(f"{os.path.realpath(source)}/"):
        raise OSError(
            "the target is in the directory that is to be copied: give another to="
        )


def get(pattern: str, directory: str) -> None:
    """Copy all matches of a pattern into a directory, and print their paths, each on a line.

    Like sftp, copy what is in a directory whose name is ".".
    """
    paths = sorted(glob.glob(escape_for_glob(pattern)))
    if not paths:
        raise OSError(f'File "{pattern}" not found')
    for path in paths:
        name = os.path.basename(path.rstrip("/"))
        if name == ".":
            refuse_into_itself(path, directory)
            put_content(path, directory)
        else:
            put(path, os.path.join(directory, name))
        print(path)


def escape_for_glob(pattern: str) -> str:
    """Translate a pattern, where a backslash escapes the next character, to the syntax of `glob`."""
    return re.sub(
        r"\\(.)", lambda match: glob.escape(match[1]), pattern, flags=re.DOTALL
    )


OPERATIONS: dict[str, Callable[..., object]] = {
    "MakeDirectory": make_directory,
    "Put": put,
    "Get": get,
}


def main() -> int:
    with (
        open(sys.stdout.fileno(), "w", errors="backslashreplace", closefd=False) as out,
        contextlib.redirect_stdout(out),
    ):
        for name, *words in json.load(sys.stdin):
            try:
                OPERATIONS[name](*words)
            except OSError as error:
                print(
                    f"{name.lower()} {' '.join(map(repr, words))}: {error.strerror or error}",
                    file=sys.stderr,
                )
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
