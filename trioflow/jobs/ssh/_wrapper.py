"""The wrapper: a small script on the node around each command, which ends the command when its input closes.

```
session ── stdin ──► sh (the wrapper): starts the command in a session of its own, and waits for it
                      ├── a subshell that reads stdin: a line, or its end, means TERM, grace, KILL for its group
                      └── the command
```

The controller keeps the standard input open while the command may run. If the controller, the ssh that holds the
connection, or the connection ends, that input closes, and the command is ended. The wrapper reports the start and the
end of the command on the standard error, in lines with a random token. So the controller can distinguish whether the
command has started, how it has ended, and whether an exit code of 255 is the command's own or means a lost connection.

Variables for the command also come through the standard input, before it starts: all users of the node can read
command lines, and some variables are secrets.

The script is plain POSIX sh on one line, because it passes through login shells of all kinds. A session comes from
setsid(1); without it, a group comes from `set -m`, which bash and ksh have without a terminal. In containers orphans
often remain as zombies, because process 1 does not reap them: with /proc, they do not count as alive.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..command._output_sinks import Sink

# $t the token, $g the grace in tenths of a second, $i a file for the command's standard input, $m whether its standard
# error goes where its standard output goes, $v the number of bytes of variables; then the command. File 3 is the input
# from the controller, 4 the standard error, 5 the command's input. $e is the `export` of the variables
# (`export_variables`). It is read whole and evaluated by the parser in linear time: 100 kB take 0.03 s, and 9,000
# variables in bash 0.25 s. (A loop over the variables took quadratic time: 24 s and 37 s.) dd reads byte by byte,
# because the subshell reads the rest. The variables are exported all at once, after the last use of the script's own
# variables, which may have the same names. If sleep takes only whole seconds, `nap` counts ten tenths at a time.
_START: Final = 'start() { eval "$e"; exec "$@"; };'
_NAP: Final = 'nap() { if sleep "$1"; then n=$((n+$2)); else sleep 1; n=$((n+10)); fi; };'
_HAS_MEMBERS: Final = (
    "left() { kill -0 -$p && if [ -r /proc/self/stat ]; then "
    'cat /proc/[0-9]*/stat | grep -q ") [^ZX] [0-9]* $p "; fi; };'
)
"""Tests whether a process of the command's group, $p, is alive."""
_ENDING: Final = (
    "n=0; kill -TERM -$p || kill -TERM $p; kill -CONT -$p; "
    "while kill -0 -$p || kill -0 $p; do "
    'if [ "$n" -ge "$g" ]; then kill -KILL -$p || kill -KILL $p; fi; '
    'if [ "$n" -ge $((g+100)) ]; then break; fi; '
    "nap .1 1; done;"
)
"""Ends a command: sends SIGTERM and SIGCONT, waits for the grace period, and sends SIGKILL."""
_WAIT: Final = 'wait $p; c=$? n=0; if [ "$c" -gt 256 ]; then c=$((c-128)); fi;'
"""Waits for a command; $c is its exit code. ksh adds 256 to the number of a signal, other shells 128."""
_LEFTOVERS: Final = (
    "while left; do "
    'if [ "$n" -ge $((2*g+10)) ]; then break; fi; '
    'if [ "$n" -ge $((2*g)) ]; then kill -KILL -$p; '
    'elif [ "$n" -ge "$g" ]; then kill -TERM -$p; fi; '
    'if [ "$n" -eq 0 ]; then nap .02 1; else nap .1 1; fi; done;'
)
"""Waits for the processes that a command has left in its group, and ends them."""
_LINES: Final = (
    "t=$1 g=$2 i=$3 m=$4 v=$5 e=; shift 5;",
    "exec 3<&0 4>&2 2>/dev/null </dev/null;",
    'if [ -n "$i" ]; then exec 5<"$i"; rm -f -- "$i"; else exec 5</dev/null; fi;',
    'if [ "$v" -gt 0 ]; then e=$(dd ibs=1 count="$v" <&3); case $e in *"#$t") ;; *) exit 1;; esac; fi;',
    'if s=$(command -v setsid); then set -- "$s" "$@"; else set -m; fi;',
    _START,
    _NAP,
    _HAS_MEMBERS,
    "printf '\\036%s start\\n' \"$t\" >&4;",
    'if [ -n "$m" ]; then start "$@" <&5 2>&1 3<&- 4>&- 5<&- & else start "$@" <&5 2>&4 3<&- 4>&- 5<&- & fi;',
    "p=$!;",
    "( read -r x <&3;",
    _ENDING,
    ") >/dev/null 4>&- 5<&- &",
    "v=$!; exec 3<&- 5<&-;",
    _WAIT,
    _LEFTOVERS,
    "kill -KILL $v;",
    "printf '\\036%s end %s ' \"$t\" $c >&4; times >&4; exit $c",
)
SCRIPT: Final = " ".join(_LINES)
# Login shells read a backslash, an exclamation mark or a line break in quotes differently: such words are encoded.
UNPACK: Final = (
    'for a do shift; case $a in 1*) a=$(printf %b. "$a"); a=${a%.};; esac; set -- "$@" "${a#?}"; done; '
    's=$1; shift; eval "$s"'
)


def login_shell_line(
    words: Sequence[str],
    token: str,
    *,
    grace: float,
    stdin: str = "",
    merged: bool = False,
    size: int = 0,
) -> str:
    """Return the line for the login shell of a node.

    Args:
        words: the program and its arguments.
        token: the mark of the wrapper's own lines.
        grace: seconds between SIGTERM and SIGKILL.
        stdin: a file on the node for the command to read, removed once it is open.
        merged: whether the standard error goes where the standard output goes.
        size: the number of bytes at the start of its input that `export_variables` returned.

    """
    parameters = (token, str(round(grace * 10)), stdin, "1" if merged else "", str(size))
    return f"exec /bin/sh -c '{UNPACK}' trioflow " + " ".join(map(_encode_word, (SCRIPT, *parameters, *words)))


def export_variables(env: Mapping[str, str], token: str) -> bytes:
    """Return a shell command that exports variables, with a comment that marks its end.

    Args:
        env: the variables; their names are valid in a shell.
        token: the token in the `login_shell_line`.

    """
    words = (f"{name}={value}".replace("'", "'\\''") for name, value in env.items())
    return os.fsencode("export" + "".join(f" '{word}'" for word in words) + f" #{token}")


@dataclass(slots=True)
class WrapperReport:
    """The wrapper's report on one command."""

    started: bool = False
    returncode: int | None = None  # in a shell's form: 128 plus the number of the signal that ended it
    user_time: float = 0.0
    system_time: float = 0.0


class ReportFilter:
    """A sink that parses the wrapper's lines in a standard error, and passes on all else.

    Args:
        token: the mark of the lines.
        sinks: the destinations of the command's output.
        before: the destination of output before the command's start, from ssh and the login shell.
        started: called at the start.

    """

    def __init__(
        self, token: str, sinks: Sequence[Sink], before: Sink | None = None, started: Callable[[], object] | None = None
    ) -> None:
        self._mark: Final = b"\x1e" + token.encode() + b" "
        self._sinks: Final = tuple(sinks)
        self._current_sinks = self._sinks if before is None else (before,)
        self._started: Final = started
        self._held = b""
        self.report: Final = WrapperReport()

    def write(self, data: bytes) -> None:
        """Parse the next piece, and pass on what is not a report."""
        data, self._held = self._held + data, b""
        while data:
            before, mark, rest = data.partition(self._mark)
            if not mark:
                kept = _partial_mark(data, self._mark)
                self._held = data[len(data) - kept :]
                self._pass_on(data[: len(data) - kept])
                return
            self._pass_on(before)
            matched = _REPORT.match(rest)
            if matched is None:  # the report is incomplete
                self._held = mark + rest
                return
            self._note(matched)
            data = rest[matched.end() :]

    def finish(self) -> None:
        """Pass on the rest at the end of the stream."""
        held, self._held = self._held, b""
        if not held.startswith(self._mark):
            self._pass_on(held)
        for sink in self._sinks:
            sink.finish()

    def _note(self, matched: re.Match[bytes]) -> None:
        if matched["code"] is None:
            self.report.started = True
            self._current_sinks = self._sinks
            if self._started is not None:
                self._started()
            return
        self.report.returncode = int(matched["code"])
        self.report.user_time = _parse_seconds(matched["user"])
        self.report.system_time = _parse_seconds(matched["system"])

    def _pass_on(self, data: bytes) -> None:
        if data:
            for sink in self._current_sinks:
                sink.write(data)


def _encode_word(word: str) -> str:
    """Quote a word for any login shell, with a first character of 1 if it is encoded, else 0."""
    encoded = _UNSAFE.sub(lambda match: f"\\0{ord(match[0]):03o}", word)
    return f"'{0 if encoded == word else 1}{encoded}'"


_UNSAFE: Final = re.compile(r"[\\'!\n\r]")
_TIME: Final = rb"\d+m[\d.,]+s"
# `times` writes two lines: the shell's own times, and its children's.
_REPORT: Final = re.compile(
    rb"(?:start\n|end (?P<code>\d+) %b %b\n(?P<user>%b) (?P<system>%b)\n)" % (_TIME, _TIME, _TIME, _TIME)
)


def _partial_mark(data: bytes, mark: bytes) -> int:
    """Return the number of bytes at the end of `data` that may be the start of `mark`."""
    for size in range(min(len(data), len(mark) - 1), 0, -1):
        if data.endswith(mark[:size]):
            return size
    return 0


def _parse_seconds(text: bytes) -> float:
    minutes, _, seconds = text.decode().rstrip("s").replace(",", ".").partition("m")
    return 60 * int(minutes) + float(seconds)
