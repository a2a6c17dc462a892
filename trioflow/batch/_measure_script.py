"""The small program that starts a command of a batch whose results go into a table, and measures it.

The kernel counts the moment between fork and exec, in which a process is a copy of its parent, in the process's peak
memory. So a program cannot measure a command that takes less memory than itself. This one takes a few MB. It imports
little, to stay small.

It writes what it has measured into a file at an offset, as one line: `F` (the command has ended), `T` (it has ended
after a signal to both) or `I` (it is about to be killed), the seconds, the CPU seconds in user mode and in the kernel,
and the peak memory and the smallest peak that can be measured, both in KiB. Then it exits as the command did.
"""

import os
import sys
import time

TYPE_CHECKING = False  # `typing` is large
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal  # `signal` would import `enum`

NOT_STARTED_CODE = 126
RECORD_SIZE = 128  # the number of bytes of a line, with blanks at its end
MARGIN_KIB = 1024  # the kernel's counts lag behind by up to 64 pages for each kind of memory
CPU_TIME_FIELDS = slice(11, 15)  # the CPU times in /proc/PID/stat, of a process and of its children that were reaped


def main(path: str, offset: int, command: list[str]) -> None:
    """Run the command, report what it took, and exit as it did."""
    if sys.platform == "win32":
        return
    floor = _smallest_peak()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _exec(command)

    group: tuple[float, float, int] | None = None

    def report_before_kill(number: int, frame: object) -> None:
        nonlocal group
        group = user, system, peak = _group_usage()
        _write(path, offset, "I", (time.monotonic() - began, user, system), *_at_kill(peak, floor))

    for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, report_before_kill)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - began
    if group is None:
        _write(path, offset, "F", (seconds, usage.ru_utime, usage.ru_stime), usage.ru_maxrss, floor)
    else:
        times = seconds, max(usage.ru_utime, group[0]), max(usage.ru_stime, group[1])
        _write(path, offset, "T", times, max(usage.ru_maxrss, group[2]), floor)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        _end_by_signal(-code)
    os._exit(code if code >= 0 else 128 - code)


def _at_kill(peak: int, floor: int) -> tuple[int, int]:
    """Return a peak and no bound: a small peak is unknown, as the largest process may have ended before it was seen."""
    return (peak, 0) if peak > floor else (0, 0)


def _end_by_signal(number: int) -> None:
    """End this program by a signal, without writing its memory to a file."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != _signal.SIGKILL:  # it has no handler to reset
        _signal.signal(number, _signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _smallest_peak() -> int:
    """Return the smallest peak memory that can be measured, in KiB: that of a process just before its exec."""
    if sys.platform == "win32":
        return 0
    pid = os.fork()
    if pid == 0:
        _exec(["/"])
    return os.wait4(pid, 0)[2].ru_maxrss + MARGIN_KIB


def _exec(command: list[str]) -> None:
    if sys.platform == "win32":
        return
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores them
        _signal.signal(number, _signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        if command != ["/"]:
            os.write(2, os.fsencode(f"{command[0]}: {error.strerror}\n"))
    finally:
        os._exit(NOT_STARTED_CODE)


def _write(path: str, offset: int, kind: str, times: tuple[float, float, float], peak: int, floor: int) -> None:
    if sys.platform == "win32":
        return
    line = " ".join((kind, *(f"{seconds:.6f}" for seconds in times), str(peak), str(floor))).ljust(RECORD_SIZE)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.pwrite(descriptor, line.encode(), offset)
        os.close(descriptor)
    except OSError:  # without the file, the command runs all the same
        pass


def _group_usage() -> tuple[float, float, int]:
    """Return the CPU seconds, and the peak memory in KiB, of the running processes of this group, without this one."""
    if sys.platform == "win32":
        return 0, 0, 0
    user = system = peak = 0
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            stat = _read(f"/proc/{name}/stat").rpartition(")")[2].split()
            if int(stat[2]) != os.getpgrp():
                continue
            times = [int(field) for field in stat[CPU_TIME_FIELDS]]
            user, system = user + times[0] + times[2], system + times[1] + times[3]
            _, found, rest = _read(f"/proc/{name}/status").partition("VmHWM:")
            peak = max(peak, int(rest.split()[0]) if found else 0)
        except (OSError, ValueError, IndexError):  # the process has ended
            pass
    ticks = os.sysconf("SC_CLK_TCK")
    return user / ticks, system / ticks, peak


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
