"""Functions for worker processes, which import them from here; so nothing is imported that few of them need."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

counter = 0


def add(a: Any, b: Any = 0, *, c: Any = 0) -> Any:
    return a + b + c


def whoami() -> tuple[int, int]:
    return os.getpid(), os.getppid()


def count() -> int:
    global counter
    counter += 1
    return counter


def nap_forever(path: str | None = None) -> None:
    """Sleep, as does a child process."""
    subprocess.Popen(["sleep", "1000"])
    if path is not None:
        Path(path).touch()
    time.sleep(1000)


def touch(path: str) -> None:
    Path(path).touch()


def place(variable: str) -> tuple[str | None, str]:
    return os.environ.get(variable), os.getcwd()


def meet(path: str, number: int) -> tuple[int, int]:
    """Wait until this many processes have come; return the ids of this one and of its parent.

    It imports trioflow, so that later calls in its process do not have to.
    """
    import trioflow as trioflow

    Path(path, str(os.getpid())).touch()
    while len(os.listdir(path)) < number:
        time.sleep(0.001)
    return whoami()


def fail(text: str) -> None:
    raise LookupError(text)


class Awkward(Exception):
    """Can be pickled, but not back, and has something that cannot be pickled at all."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}", threading.Lock)
        self.sum = a + b
        self.lock = threading.Lock()

    def __str__(self) -> str:
        return str(self.args[0])


class Greeting(ValueError):
    """Changes when it is pickled and loaded: its `__init__` is called with the text that it has made."""

    def __init__(self, name: str) -> None:
        super().__init__(f"hello {name}")


class Missing(OSError):
    """Takes other arguments than OSError, and is one with a number and a name."""

    def __init__(self, path: str) -> None:
        super().__init__(2, "not there", path)
        self.path = path


class Own(Exception):
    """Defines how it is pickled."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__("own")
        self.both = a, b

    def __reduce__(self) -> Any:
        return Own, self.both


class Compiled(ValueError):
    """Has attributes where `BaseException.__reduce__` does not see them, like a class that was compiled by mypyc.

    Its `__init__` restores them from its arguments.
    """

    def __init__(self, code: int, what: str) -> None:
        super().__init__(code, what)
        vars(self)["code"] = code

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return HIDDEN.setdefault(self, {})

    def __getattr__(self, name: str) -> Any:
        try:
            return vars(self)[name]
        except KeyError:
            raise AttributeError(name) from None


class CompiledAwkward(Compiled):
    """Cannot be restored from its arguments."""

    def __init__(self, code: int) -> None:
        super().__init__(code, f"has code {code}")


HIDDEN: weakref.WeakKeyDictionary[Compiled, dict[str, Any]] = weakref.WeakKeyDictionary()
"""The attributes of each `Compiled`."""


class Unwilling(Exception):
    """Refuses to be pickled."""

    def __reduce__(self) -> Any:
        raise LookupError


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted(Exception):
    code: int
    what: str = "slotted"

    def __str__(self) -> str:
        return f"{self.what} {self.code}"


class Mute:
    """Can neither be shown nor pickled."""

    def __repr__(self) -> str:
        raise LookupError

    def __reduce__(self) -> Any:
        raise LookupError


class Group(ExceptionGroup[Exception]):
    """A group with a type and an attribute of its own."""


def exceptions() -> dict[str, Exception]:
    """Return new exceptions by their names."""
    group = Group("some", [Awkward(1, 2), ExceptionGroup("inner", [Greeting("Ada"), local()])])
    group.number = 5  # type: ignore[attr-defined]
    return {
        "Group": group,
        "Awkward": Awkward(1, 2),
        "Greeting": Greeting("Ada"),
        "Missing": Missing("/no/file"),
        "Own": Own(3, 4),
        "Compiled": Compiled(7, "what"),
        "CompiledAwkward": CompiledAwkward(7),
        "Unwilling": Unwilling("no"),
        "Frozen": Frozen(7),
        "Slotted": Slotted(7),
        "mute argument": ValueError(Mute()),
        "mute": mute(),
        "FileNotFoundError": FileNotFoundError(2, "none", "a", None, "b"),
        "ModuleNotFoundError": ModuleNotFoundError("none", name="x", path="y"),
        "UnicodeDecodeError": UnicodeDecodeError("utf-8", b"ab", 1, 2, "bad"),
        "local": local(),
    }


def local() -> Exception:
    """Return an exception whose type cannot be found by name."""

    class Local(Exception):
        pass

    return Local("of here")


def mute() -> Exception:
    """Return an exception whose type cannot be found by name, and that has no text."""

    class Local(Exception):
        def __str__(self) -> str:
            raise LookupError

    return Local()


def fail_with(name: str) -> None:
    raise exceptions()[name]


def priority() -> tuple[int, int]:
    """Return the id of this process, and its priority."""
    return os.getpid(), os.getpriority(os.PRIO_PROCESS, 0)


def take(size: int) -> int:
    """Allocate the given number of bytes, and return the id of this process."""
    bytes(size)  # of which no page is written
    return os.getpid()


def limit_of_child() -> int:
    """Return the memory limit in KiB of a process that is started here."""
    return int(subprocess.run(["sh", "-c", "ulimit -v"], capture_output=True, check=True).stdout)


def interrupt(error: str) -> None:
    raise {"SystemExit(3)": SystemExit(3), "KeyboardInterrupt()": KeyboardInterrupt()}[error]


def die(how: str) -> None:
    if how == "fork" and not os.fork():
        time.sleep(1000)
    if how in ("exit", "fork"):
        os._exit(5)
    os.kill(os.getpid(), 11)


def returns_nonsense() -> Any:
    return lambda: None


def read_and_print() -> str:
    print("printed", flush=True)
    return sys.stdin.read()


def large(data: bytes) -> bytes:
    return data[::-1]


class Fragile:
    """Cannot be loaded in the worker."""

    def __reduce__(self) -> Any:
        return refuse, ()


def refuse() -> None:
    if os.environ.get("TRIOFLOW_RUN"):
        raise OSError("not here")


def use() -> None:
    """Call a method that the job of a worker process does not have."""
    from trioflow import current_job

    current_job().used(api=1)


def report(values: list[float], pause: float) -> str:
    """Report these fractions, and wait a while after each."""
    from trioflow import current_job

    for value in values:
        current_job().progress(value)
        time.sleep(pause)
    return "done"


def report_often(times: int) -> None:
    from trioflow import current_job

    for number in range(times):
        current_job().progress(number / times)
    current_job().progress(1)


def use_lock(lock: Any) -> bool:
    """Take a lock of a `multiprocessing.Manager`."""
    with lock:
        return True


def announce(path: str, seconds: float) -> str:
    """Touch a file, and work for some seconds."""
    Path(path).touch()
    time.sleep(seconds)
    return "done"


def without_init(args: tuple[Any, ...]) -> UnicodeDecodeError:
    """Make an error as a library does that restores its arguments alone."""
    return UnicodeDecodeError.__new__(UnicodeDecodeError, *args)
