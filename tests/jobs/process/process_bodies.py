"""Functions for worker processes, which import them from here; so nothing is imported that few of them need."""

import atexit
import os
import subprocess
import sys
import threading
import time
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
        open(path, "w").close()
    time.sleep(1000)


def touch(path: str) -> None:
    open(path, "w").close()


def place(variable: str) -> tuple[str | None, str]:
    return os.environ.get(variable), os.getcwd()


def meet(path: str, number: int, ready: bool = False) -> tuple[int, int]:
    """Wait until this many processes have come; return the ids of this one and of its parent. With `ready`, it imports
    trioflow, so that later calls in its process do not have to."""
    if ready:
        import trioflow as trioflow

    open(os.path.join(path, str(os.getpid())), "w").close()
    while len(os.listdir(path)) < number:
        time.sleep(0.001)
    return whoami()


def fail(text: str) -> None:
    raise LookupError(text)


def priority() -> tuple[int, int]:
    return os.getpid(), os.getpriority(os.PRIO_PROCESS, 0)


def take(size: int) -> int:
    """Allocate the given number of bytes, and return the id of this process."""
    bytes(size)  # of which no page is written
    return os.getpid()


def limit_of_child() -> int:
    """Return the memory limit in KiB of a process that is started here."""
    return int(
        subprocess.run(
            ["sh", "-c", "ulimit -v"], capture_output=True, check=True
        ).stdout
    )


def interrupt(error: str) -> None:
    raise {"SystemExit(3)": SystemExit(3), "KeyboardInterrupt()": KeyboardInterrupt()}[
        error
    ]


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
    with lock:
        return True


def announce(path: str, seconds: float) -> str:
    open(path, "w").close()
    time.sleep(seconds)
    return "done"


def without_init(args: tuple[Any, ...]) -> UnicodeDecodeError:
    """Make an error as a library does that restores its arguments alone."""
    return UnicodeDecodeError.__new__(UnicodeDecodeError, *args)


def throttle() -> None:
    from trioflow import Throttled

    raise Throttled("api", after=0.01)


def give_signs(folder: str, name: str) -> None:
    """Give a sign of life at the beginning, and another one when the loop has been blocked for too long."""
    from trioflow import current_job

    for sign, then in (("begun", "held"), ("sign", "end")):
        current_job().progress()
        touch(f"{folder}/{sign}-{name}")
        while not os.path.exists(f"{folder}/{then}"):
            time.sleep(0.005)


def register_exit(path: str) -> None:
    atexit.register(touch, path)


def leave_thread() -> None:
    threading.Thread(target=time.sleep, args=[1000]).start()


def options() -> tuple[bool, bool, bool, list[str]]:
    return __debug__, sys.flags.dev_mode, bool(sys.flags.utf8_mode), sys.warnoptions
