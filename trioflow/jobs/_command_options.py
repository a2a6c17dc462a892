"""How a command is run: the options of `CommandJob`, checked once, when the job is made."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from .._core import _options

if TYPE_CHECKING:
    from ._command import CommandJob

    Callback = Callable[[CommandJob], object]
    OnLine = Callable[[CommandJob, str], object]

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
SPECIAL: Final = (subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT)


@dataclass(frozen=True, slots=True)
class How:
    """The options of one command; `CommandJob` says what each of them means."""

    shell: bool = False
    cwd: Any = None
    env: Mapping[bytes, bytes] | None = None
    stdin: Any = None
    stdout: Any = None
    stderr: Any = None
    check: bool = True
    terminate_grace: float = 5.0
    on_start: Callback | None = None
    on_done: Callback | None = None
    on_settled: Callback | None = None
    on_line: OnLine | None = None
    tag: bool | str = False
    nice: int | None = None
    memory_limit: int | None = None
    pin: Literal["slot"] | None = None

    @property
    def goes_by_lines(self) -> bool:
        """Whether output is handed over line by line as it comes."""
        return self.on_line is not None or bool(self.tag)


def check(how: How, who: str) -> How:
    """Check what the user gave.

    Raises:
        TypeError, ValueError: an option that makes no sense, named.

    """
    _options.duration(how.terminate_grace, "terminate_grace", who)
    for name in ("on_start", "on_done", "on_settled", "on_line"):
        given = getattr(how, name)
        if given is not None and not callable(given):
            raise TypeError(f"{name}={given!r} of {who}: give a plain function, or None")
    if how.pin not in (None, "slot"):
        raise ValueError(f"pin={how.pin!r} of {who}: choose 'slot', or None")
    if how.pin is not None and not hasattr(os, "sched_setaffinity"):
        raise ValueError(f"pin={how.pin!r} of {who}: this system cannot bind a process to a CPU")
    if how.nice is not None and (isinstance(how.nice, bool) or not isinstance(how.nice, int)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"nice={how.nice!r} of {who}: give a whole number, added to this program's own, or None")
    if how.memory_limit is not None and not (_options.whole(how.memory_limit, "memory_limit", who)):
        raise ValueError(f"memory_limit={how.memory_limit!r} of {who}: give a positive number of bytes, or None")
    _check_input(how.stdin, who)
    for name, given in (("stdout", how.stdout), ("stderr", how.stderr)):
        _check_output(given, name, how, who)
    return how


def environment(env: Mapping[Any, Any] | None, who: str) -> dict[bytes, bytes] | None:
    """Return an environment as the system takes it.

    Raises:
        TypeError, ValueError: a name or value that can't be in one.

    """
    if env is None:
        return None
    found: dict[bytes, bytes] = {}
    for name, value in env.items():
        try:
            key, text = os.fsencode(name), os.fsencode(value)
        except TypeError:
            raise TypeError(f"env of {who}: {name!r}: {value!r}; names and values must be strings") from None
        if b"=" in key or b"\0" in key + text or not key:
            raise ValueError(f"env of {who}: {name!r}: {value!r}; no NUL can be in either, and no '=' in a name")
        found[key] = text
    return found


def is_path(given: Any) -> bool:
    """Tell whether this names a file."""
    return isinstance(given, (str, os.PathLike))


def _check_input(given: Any, who: str) -> None:
    if given in (subprocess.PIPE, subprocess.STDOUT) and isinstance(given, int):
        raise ValueError(f"stdin of {who}: give what it is to read: bytes, a path, an open file, or a job")


def _check_output(given: Any, name: str, how: How, who: str) -> None:
    if isinstance(given, (bytes, bool)) or not (
        given is None or is_path(given) or isinstance(given, int) or hasattr(given, "write")
    ):
        raise TypeError(
            f"{name}={given!r} of {who}: give a path, an open file, None, or subprocess.PIPE, DEVNULL or STDOUT"
        )
    if name == "stdout" and given == subprocess.STDOUT:
        raise ValueError(f"stdout=STDOUT of {who}: this is for stderr, which then goes where stdout goes")
    if how.goes_by_lines and not (given is None or given in SPECIAL):
        raise ValueError(
            f"{name}={given!r} of {who}: with on_line or tag, output is handed over line by line; "
            f"leave {name} out, or give PIPE to capture it as well"
        )
