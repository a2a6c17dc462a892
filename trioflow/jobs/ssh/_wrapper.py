"""The wrapper: a shell script on the node that runs a command, and ends the command when its own input closes.

```
session ── stdin ──► sh (the wrapper): starts the command in a session of its own, and waits for it
                      ├── a subshell that reads stdin: at a line, or its end, it ends the command's process group
                      └── the command
```

The controller, the program with the run, keeps the wrapper's standard input open while the command may run. If the
controller, the ssh that holds the connection, or the connection itself fails, the input closes, and the wrapper ends
the command: SIGTERM to its process group and, after the grace period, SIGKILL.

The wrapper reports the start and the end of the command on its standard error, in lines that begin with a random token.
From these lines the controller learns whether the command has started, how it has ended, and whether an exit code of
255 is the command's own or means a lost connection.

The environment variables of the command are sent through standard input, too: all users of the node can read command
lines, and some variables are secrets.

The script is POSIX sh on a single line, because any login shell must be able to pass it on. It starts the command in a
new session by setsid(1) or, where that is missing, in a new process group by `set -m`, which works without a terminal
in bash and ksh. In containers, orphans often remain as zombies because process 1 does not reap them. Where /proc
exists, zombies do not count as alive.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..command._output_sinks import OutputSink

# A fork or a program takes up to a millisecond on a node, so a command has no more than these: the wrapper, the
# subshell that reads its input, setsid(1), the command. The script has no single quote, backslash, exclamation mark or
# line break, because login shells differ in reading them, even in quotes. Only words with any of them need another
# subshell, which decodes all words.
#
# The parameters of the script:
#   $t the mark of the report: a control character and the token;
#   $g the grace period in tenths of a second; $i a file for the command's standard input, or empty;
#   $m not empty if standard error is merged into standard output; $v the size of the variables in bytes;
#   $w a script that looks at the port of a service (`port_script`), or empty;
#   then the program and its arguments.
# Descriptor 3 is the input from the controller, 4 the wrapper's standard error, 5 the command's standard input.
#
# $e holds a single `export` command (`export_variables`), which the shell evaluates in linear time: 100 kB take 0.03 s,
# and 9,000 variables in bash 0.25 s. A loop over the variables took quadratic time: 24 s and 37 s. dd reads byte by
# byte, and so leaves the input that the subshell reads later. The export comes after the last use of the script's own
# variables, because the command's variables may have the same names.
#
# Where sleep accepts only whole seconds, `nap` sleeps for a second and counts it as ten tenths.
_START_SCRIPT: Final = (
    'start() { eval "$e"; if ! command -v "$1" >/dev/null; then echo "$1: command not found" >&2; exit 127; fi; '
    'shift; exec "$@"; };'
)
"""Executes a command, whose program is also the first parameter. setsid(1) would report in its own name."""
_NAP_SCRIPT: Final = (
    'nap() { if sleep "$1"; then n=$((n+$2)); else sleep 1; n=$((n+10)); fi; };'
)
_HAS_MEMBERS_SCRIPT: Final = (
    "left() { kill -0 -$p && if [ -r /proc/self/stat ]; then "
    'cat /proc/[0-9]*/stat | grep -q ") [^ZX] [0-9]* $p "; fi; };'
)
"""Defines `left`, which tests whether any process of the command's group, $p, is alive."""
_END_SCRIPT: Final = (
    "n=0; until kill -TERM -$p; do kill -0 $p || break; "
    'if [ "$n" -ge 10 ]; then kill -TERM $p; break; fi; nap .02 1; done; '
    "n=0; kill -CONT -$p; while kill -0 -$p || kill -0 $p; do "
    'if [ "$n" -ge "$g" ]; then kill -KILL -$p || kill -KILL $p; fi; '
    'if [ "$n" -ge $((g+100)) ]; then break; fi; '
    "nap .1 1; done;"
)
"""Ends a command: sends SIGTERM and SIGCONT, waits for the grace period, then sends SIGKILL. It waits until the command
has its process group, because a subshell of ksh loses a SIGTERM that comes before its exec."""
_WAIT_SCRIPT: Final = 'wait $p; c=$? n=0; if [ "$c" -gt 256 ]; then c=$((c-128)); fi;'
"""Waits for the command, and sets $c to its exit code. After a signal, this is its number plus 128, in ksh plus 256."""
_LEFTOVERS_SCRIPT: Final = (
    "while left; do "
    'if [ "$n" -ge $((2*g+10)) ]; then break; fi; '
    'if [ "$n" -ge $((2*g)) ]; then kill -KILL -$p; '
    'elif [ "$n" -ge "$g" ]; then kill -TERM -$p; fi; '
    'if [ "$n" -eq 0 ]; then nap .02 1; else nap .1 1; fi; done;'
)
"""Waits for processes left in the command's group. Sends SIGTERM after a grace period, and SIGKILL after two."""
_PORT_SCRIPT: Final = (
    """up() { if command -v bash; then bash -c ': <>"/dev/tcp/$0/$1"' "$h" "$q"; else nc -z "$h" "$q"; fi; }; """
    'watch() { until up; do kill -0 $p || return; nap .1 1; done; kill -0 $p && echo "$t ready" >&4; }; '
    "if ! command -v bash && ! command -v nc; then f=127 w='PortOpen needs bash or nc on the node'; "
    'elif up; then f=1 w="port $q of $h is in use before the service starts"; else f=; fi; '
    """if [ -n "$f" ]; then set -- sh -c 'echo "$0" >&2; exit "$1"' "$w" "$f"; w=; fi"""
)
"""Puts an error in the place of a service if its port, $q of $h, is in use, or otherwise defines `watch`, which reports
when the port accepts connections, unless the service has ended."""
_WRAPPER_LINES: Final = (
    'if [ -n "$1" ]; then eval "$(printf %b "$1")"; else shift; fi;',
    "t=$1 g=$2 i=$3 m=$4 v=$5 w=$6 e=; shift 6;",
    "exec 3<&0 4>&2 2>/dev/null </dev/null;",
    'if [ -n "$i" ]; then exec 5<"$i"; rm -f -- "$i"; else exec 5</dev/null; fi;',
    'if [ "$v" -gt 0 ]; then e=$(dd ibs=1 count="$v" <&3); case $e in *"#$t") ;; *) exit 1;; esac; fi;',
    'eval "$w" >/dev/null;',
    "s=/usr/bin/setsid; if [ -x $s ] || s=$(command -v setsid);",
    'then set -- "$1" "$s" "$@"; else set -- "$1" "$@"; set -m; fi;',
    _START_SCRIPT,
    _NAP_SCRIPT,
    _HAS_MEMBERS_SCRIPT,
    'echo "$t start" >&4;',
    'if [ -n "$m" ]; then start "$@" <&5 2>&1 3<&- 4>&- 5<&- & else start "$@" <&5 2>&4 3<&- 4>&- 5<&- & fi;',
    "p=$!;",
    'if [ -n "$w" ]; then watch >/dev/null 3<&- 5<&- & fi;',
    "( read -r x <&3;",
    _END_SCRIPT,
    ") >/dev/null 4>&- 5<&- &",
    "v=$!; exec 3<&- 5<&-;",
    _WAIT_SCRIPT,
    _LEFTOVERS_SCRIPT,
    "kill -KILL $v;",
    'printf "%s end %s " "$t" $c >&4; times >&4; exit $c',
)
WRAPPER_SCRIPT: Final = " ".join(_WRAPPER_LINES)
MARK: Final = "\x1e"
"""Precedes the token, so that a program which prints its own command line prints no report."""


def login_shell_line(
    words: Sequence[str],
    token: str,
    *,
    grace: float,
    stdin: str = "",
    merged: bool = False,
    size: int = 0,
    port: str = "",
) -> str:
    """Return the line for the login shell of a node.

    Args:
        words: the program and its arguments.
        token: the random token that marks the lines of the wrapper's report.
        grace: seconds between SIGTERM and SIGKILL.
        stdin: a file on the node for the command to read, removed once it is open.
        merged: whether standard error is merged into standard output.
        size: the number of bytes from `export_variables`, which are sent to standard input first.
        port: a script from `port_script`, for a service that listens on a port.

    """
    parameters = (
        MARK + token,
        str(round(grace * 10)),
        stdin,
        "1" if merged else "",
        str(size),
        port,
    )
    return f"exec /bin/sh -c '{WRAPPER_SCRIPT}' trioflow {_encode_words((*parameters, *words))}"


def export_variables(env: Mapping[str, str], token: str) -> bytes:
    """Return a shell command that exports variables, ending with a comment that contains the mark and the token.

    Args:
        env: the variables. Their names must be valid in a shell.
        token: the token given to `login_shell_line`.

    """
    return os.fsencode(
        f"export {_quote_words(f'{name}={value}' for name, value in env.items())} #{MARK}{token}"
    )


def port_script(host: str, number: int) -> str:
    """Return a script for the wrapper, which looks whether a port is free, and reports when it accepts connections."""
    return f"h={_quote_words([host])} q={number}; {_PORT_SCRIPT}"


def portions(items: Iterable[Sequence[str]]) -> Iterator[list[str]]:
    """Yield the words of the items, of as many items at once as a command line for a node has room for."""
    words: list[str] = []
    total = 0
    for item in items:
        size = len(os.fsencode(_escape(_quote_words(item)))) + 1
        if words and total + size > MAX_PORTION_BYTES:
            yield words
            words = []
            total = 0
        words += item
        total += size
    if words:
        yield words


def _quote_words(words: Iterable[str]) -> str:
    return " ".join("'{}'".format(word.replace("'", "'\\''")) for word in words)


@dataclass(slots=True)
class WrapperReport:
    """The wrapper's report on a command."""

    started: bool = False
    # The exit code as a shell has it: 128 plus the number of the signal that ended the command.
    returncode: int | None = None
    user_time: float = 0.0
    system_time: float = 0.0


class ReportFilter:
    """A sink for the wrapper's standard error, which extracts the report, and forwards all other bytes.

    Args:
        token: the random token that marks the lines of the report.
        sinks: the destinations of bytes after the start of the command.
        login_sink: the destination of bytes before the start, which ssh and the login shell write.
        on_start: called when the start of the command is reported.

    Attributes:
        on_ready: called when it is reported that the port of a service accepts connections.

    """

    on_ready: Callable[[], object]

    def __init__(
        self,
        token: str,
        sinks: Sequence[OutputSink],
        login_sink: OutputSink,
        on_start: Callable[[], object],
    ) -> None:
        self._mark: Final = f"{MARK}{token} ".encode()
        self._sinks: Final = tuple(sinks)
        self._current_sinks: tuple[OutputSink, ...] = (login_sink,)
        self._on_start: Final = on_start
        self._unparsed = b""
        self.report: Final = WrapperReport()

    def write(self, data: bytes) -> None:
        """Extract the lines of the report from the data, and forward the rest."""
        data = self._unparsed + data
        self._unparsed = b""
        while data:
            before, mark, rest = data.partition(self._mark)
            if not mark:
                kept = _partial_mark_size(data, self._mark)
                self._unparsed = data[len(data) - kept :]
                self._forward(data[: len(data) - kept])
                return
            self._forward(before)
            matched = _REPORT_PATTERN.match(rest)
            if matched is None and len(rest) > MAX_REPORT_BYTES:
                # The node has written something else after the mark.
                self._forward(mark)
                data = rest
                continue
            if matched is None:
                # The report is incomplete.
                self._unparsed = mark + rest
                return
            self._record(matched)
            data = rest[matched.end() :]

    def finish(self) -> None:
        """Forward bytes that were held back as a possible report, and finish the sinks."""
        held = self._unparsed
        self._unparsed = b""
        if not held.startswith(self._mark):
            self._forward(held)
        for sink in self._sinks:
            sink.finish()

    def _record(self, matched: re.Match[bytes]) -> None:
        if matched[0] == b"ready\n":
            self.on_ready()
            return
        if matched["code"] is None:
            self.report.started = True
            self._current_sinks = self._sinks
            self._on_start()
            return
        self.report.returncode = int(matched["code"])
        self.report.user_time = _parse_seconds(matched["user"])
        self.report.system_time = _parse_seconds(matched["system"])

    def _forward(self, data: bytes) -> None:
        if data:
            for sink in self._current_sinks:
                sink.write(data)


def _encode_words(words: Sequence[str]) -> str:
    """Quote words so that any login shell passes them on intact.

    An empty word precedes them if they are safe. Otherwise there is a single word, with unsafe characters escaped in
    octal: a command that sets the words.
    """
    if not any(map(_UNSAFE_PATTERN.search, words)):
        return _quote_words(("", *words))
    return f"'{_escape(f'set -- {_quote_words(words)}')}'"


def _escape(text: str) -> str:
    return _UNSAFE_PATTERN.sub(lambda match: f"\\0{ord(match[0]):03o}", text)


MAX_PORTION_BYTES: Final = 100_000
"""How many bytes the words of a portion take, as they are sent: a command line for a node may not be longer than 128
KiB."""
MAX_REPORT_BYTES: Final = 256
"""The maximum length of a line of the report, after its mark. The times of a thousand years take a hundred bytes."""
MAX_CPUS: Final = 4096
"""The largest number of CPUs that a node is believed to have."""
_UNSAFE_PATTERN: Final = re.compile(r"[\\'!\n\r]")
_TIME_PATTERN: Final = rb"\d{1,9}m\d{1,2}(?:[.,]\d{1,9})?s"
# The shell's `times` prints two lines: first its own CPU times, then those of its children.
_REPORT_PATTERN: Final = re.compile(
    rb"(?:start\n|ready\n|end (?P<code>\d{1,9}) %b %b\n(?P<user>%b) (?P<system>%b)\n)"
    % (_TIME_PATTERN, _TIME_PATTERN, _TIME_PATTERN, _TIME_PATTERN)
)


def _partial_mark_size(data: bytes, mark: bytes) -> int:
    """Return the number of bytes at the end of `data` that may be the start of `mark`."""
    for size in range(min(len(data), len(mark) - 1), 0, -1):
        if data.endswith(mark[:size]):
            return size
    return 0


def parse_cpu_count(text: bytes) -> int:
    """Return the number of CPUs that a node names, or 1 if it names none, but at most `MAX_CPUS`."""
    if not re.fullmatch(rb"\s*[1-9]\d{0,8}\s*", text):
        return 1
    return min(MAX_CPUS, int(text))


def _parse_seconds(text: bytes) -> float:
    minutes, _, seconds = text.decode().rstrip("s").replace(",", ".").partition("m")
    return 60 * int(minutes) + float(seconds)
