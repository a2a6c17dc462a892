"""A lane: one session of ssh for many commands, which a shell on the node runs one after the other.

A session of the server, a login shell and a wrapper for each command cost twice what most commands cost. So they stay,
and only the command is new:

```
session ── stdin ──► sh (the lane): reads a line, runs what it says, reads the next
  ▲  ▲               ├── the command, in a session of its own
  │  │               └── a subshell that reads stdin: its end means TERM, grace, KILL for the command's group
  │  └─ stdout ────── cat ◄── two pipes in turn, for the standard output of the commands
  └──── stderr ────── cat ◄── two pipes in turn, for their standard error
```

What goes there is a line for each command: shell words, so that it may be of any length, and no one but the shell sees
it: neither words nor variables stand in the command line of anything but the command itself. What comes back ends, on
both streams, in a mark: the byte 0x1e and a token that is new for each command, so a command cannot know it. The mark
on the standard error has the exit code, and the CPU times of all commands up to now. When both marks have come, and not
before, the lane is free. All else is passed on as it is, byte for byte.

The cats are what makes the marks true. A command may leave something behind that holds its outputs, in a session of its
own. If they were the lane's outputs, that would write into what comes from the next command. So each command writes to
pipes, and a cat takes the next pipe when nobody holds the one before any more; as ssh itself, the lane waits for that.
One cat is enough for many commands, because it can be told to read the same two pipes by turns:

```
          cat  one  two  one  two ...
first     writes to one                      the lane holds two alone, so that the cat waits there when one has ended
its mark            goes to two              and so comes behind all that was written to one
second              writes to two            the lane opens one anew: the cat has left it, as the first mark has come
its mark                 goes to one
```

Pipes are opened anew by /proc/self/fd, so there are lanes on Linux alone.

A command is ended by the end of the lane's input: whether the job is cancelled, or this program, the ssh that holds the
connection, or the connection is gone. So a lane whose command was cut off is not used again, nor one that has said
something while it was idle, or in which anything was killed: a lane that cannot be sure ends, and its outputs end
without a mark. If a cat is killed, the shell around it kills the lane. A command does not begin before somebody watches
for it: its shell waits for a line from the lane, in a pipe that ends with the lane.

As long as no lane has said that it is ready, nothing is sent. A node where none comes to that (a forced command, a
login shell that is not one, no /proc, no setsid) has no lanes: each command has a session, with that of `_wrapper`.

The script is plain POSIX sh. `read` takes a byte at a time, lest it takes what is for others: 100 kB take 0.05 s.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ._ends import Ends
from ._wrapper import ENDING, LEFT, LEFTOVERS, NAP, START, WAIT, Report, exported, login_line, overlap

if TYPE_CHECKING:
    from ...abc import RunHandle
    from ..command._capture import Sink
    from ._ends import Begin

MOST_COMMANDS: Final = 254
"""Commands that a lane can have. The cats are told the order of their pipes in 256 words, and go through those that are
left at its end, which takes 1 ms. Another lane takes 25 ms of both sides, a tenth of a millisecond for each command."""

# $t the token, $g the grace in tenths of a second, $i a file that the command is to read, $m whether its standard error
# goes where its standard output goes, $e the `export` of its variables; then the command. $q is a line break, which a
# line cannot have. $a is the lane, $w and $x the shells around the cats. File 3 is what comes from the conductor; 4 and
# 5 are the pipes of the standard output, to read from, and 8 and 9 those of the standard error; 6 and 7 are the pipes
# that come next, $f and $h, to write to. 0 and 1 are the pipe by which a command is told to begin. Subshells open and
# close by `exec`: a function that is called with other files keeps those that it had.
_LINES: Final = (
    "t=$1; exec 3<&0 6>&1 7>&2 </dev/null 2>/dev/null;",
    "s=$(command -v setsid) && c=$(command -v cat) || exit 1;",
    "q='\n';",
    NAP,
    LEFT,
    START,
    f'carry() {{ while [ $# -le {MOST_COMMANDS} ]; do set -- "$@" "$@"; done; "$c" "$@" || kill -KILL "$a"; }};',
    ": | { exec 4<&0 5</proc/self/fd/1 1</dev/null; : | { exec 8<&0 9</proc/self/fd/1 1</dev/null; : | {",
    "read -r a y </proc/self/stat || exit 1; exec 1>/proc/self/fd/4 2>/proc/self/fd/8;",
    "( exec >&6 2>/dev/null 3<&- 6>&- 7>&- 8<&- 9<&-; carry /proc/self/fd/4 /proc/self/fd/5 ) & w=$!;",
    "( exec >&7 2>/dev/null 3<&- 6>&- 7>&- 4<&- 5<&-; carry /proc/self/fd/8 /proc/self/fd/9 ) & x=$!;",
    "exec 6>&1 7>&2 1>/proc/self/fd/0 2>/dev/null; f=4 h=8;",
    'read -r b </proc/self/stat; printf "\\036%s 0 %s\\n" "$t" "$b" >&7; printf "\\036%s\\n" "$t" >&6;',
    'while IFS= read -r l <&3; do if [ -z "$l" ]; then exit; fi;',
    'eval "set -- $l"; t=$1 g=$2 i=$3 m=$4 e=$5 l=; shift 5;',
    '( exec <"${i:-/dev/null}" >&6 3<&- 4<&- 5<&- 6>&- 8<&- 9<&-; read -r y <"/proc/$a/fd/1" || exit 1;',
    'if [ -n "$i" ]; then rm -f -- "$i"; fi; if [ -n "$m" ]; then exec 2>&1 7>&-; else exec 2>&7 7>&-; fi;',
    'start "$s" "$@" ) & p=$! e=;',
    "f=$((9-f)) h=$((17-h)); exec 6>/proc/self/fd/$f 7>/proc/self/fd/$h;",
    "( exec >/dev/null 6>&- 7>&-; read -r y <&3;",
    ENDING,
    "sleep 4; kill -KILL 0 ) & v=$!;",
    "echo;",
    WAIT,
    LEFTOVERS,
    "kill -KILL $v; wait $v; read -r b </proc/self/stat;",
    'printf "\\036%s %s %s\\n" "$t" "$c" "$b" >&7; printf "\\036%s\\n" "$t" >&6;',
    "done;",
    "exec 6>&- 7>&-; n=0; while [ -e /proc/$w/fd/1 ] || [ -e /proc/$x/fd/1 ]; do "
    'if [ "$n" -ge 40 ]; then kill -KILL 0; fi; if [ "$n" -eq 0 ]; then nap .02 1; else nap .1 1; fi; done; '
    "}; } | :; } | :",
)
SCRIPT: Final = " ".join(_LINES)
PATIENCE: Final = 15.0
"""Seconds that a lane may take to be ready, once there is a connection; otherwise the node is taken to have none."""
MOST_HELD: Final = 4096
"""Bytes of a mark, at most, and of what is kept of the words of a lane that does not become ready."""
TICKS: Final = 100
"""How many a second the times in /proc/PID/stat count: USER_HZ of Linux."""


def opening(token: str) -> str:
    """Return what the login shell of a node is to run for a lane."""
    return login_line(SCRIPT, token)


def command_line(
    words: Sequence[str], token: str, *, grace: float, stdin: str, merged: bool, variables: Mapping[str, str]
) -> bytes:
    """Return what a lane is to be sent for a command; see `_wrapper.line` for what is given."""
    export = exported(variables) if variables else ""
    given = (token, str(round(grace * 10)), stdin, "1" if merged else "", export, *words)
    return os.fsencode(" ".join(map(_quoted, given)) + "\n")


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''").replace("\n", "'\"$q\"'") + "'"


class Tap:
    """What comes from one stream of a lane: it goes to sinks, up to a mark.

    Attributes:
        told: what the mark has told; None as long as it has not come.
        stray: the end of what came behind a mark, or before there was anybody to want it.

    """

    def __init__(self) -> None:
        self.told: bytes | None = None
        self.stray: bytes = b""
        self._mark: bytes = b""
        self._sinks: Sequence[Sink] = ()
        self._held: bytes = b""

    def expect(self, token: str, sinks: Sequence[Sink]) -> None:
        """Pass on to these sinks what comes before the next mark."""
        self._mark, self._sinks, self.told = b"\x1e" + token.encode(), sinks, None

    def write(self, data: bytes) -> None:
        """Take the next piece."""
        if self.told is not None:
            self.stray = (self.stray + data)[-MOST_HELD:]
            return
        data, self._held = self._held + data, b""
        before, found, rest = data.partition(self._mark)
        if not found:
            kept = overlap(data, self._mark)
            self._held = data[len(data) - kept :]
            before = data[: len(data) - kept]
        elif b"\n" in rest:
            self.told, _, self.stray = rest.partition(b"\n")
        elif len(rest) < MOST_HELD:
            self._held = found + rest
        if before:
            for sink in self._sinks:
                sink.write(before)


class LaneLost(Exception):
    """A lane has ended before it was ready, or was not ready in time; nothing has been sent.

    Attributes:
        said: what ssh, and what it has started, have said.
        code: the exit code of its session; None if it took too long.

    """

    def __init__(self, said: bytes, code: int | None) -> None:
        super().__init__(said, code)
        self.said: Final = said
        self.code: Final = code


class Lane:
    """One lane, from the start of its session until that is over."""

    def __init__(self, run: RunHandle, begin: Begin) -> None:
        """Begin without a session.

        Args:
            run: the run that it belongs to.
            begin: begins a session on the node.

        """
        self._run: Final = run
        self._begin: Final = begin
        self._token: Final = os.urandom(8).hex()
        self._taps: Final = Tap(), Tap()
        self._ends: Final = Ends(run, self._taps)
        self._times: tuple[float, float] = (0.0, 0.0)  # those of all its commands up to now
        self._left: int = MOST_COMMANDS

    async def open(self) -> None:
        """Begin its session, and wait until it is ready.

        Raises:
            LaneLost: it has ended, or takes too long.
            OSError: it could not be started.

        """
        ends, said = self._ends, _Said()
        for tap in self._taps:
            tap.expect(self._token, [said])
        exited = False
        try:
            await ends.start(self._begin, opening(self._token))
            until = self._run.clock() + PATIENCE
            while not self._has_told():
                if ends.is_over or not await ends.read(until):
                    exited = ends.is_over
                    break
        finally:
            if not self._has_told():
                await self.end(0.0)
        if not self._has_told():
            raise LaneLost(bytes(said.data), ends.returncode if exited else None)
        self._ending()

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left of it here."""
        return self._ends.are_closed

    def is_free(self) -> bool:
        """Return whether it can be used, as far as is known: nothing has come, no stream has ended, nor its session."""
        return self._left > 0 and self._ends.are_quiet() and not any(tap.stray for tap in self._taps)

    async def do(self, line: bytes, token: str, sinks: Sequence[Sequence[Sink]], patience: float, told: Report) -> None:
        """Run a command.

        Whatever ends it, and whatever is cancelled meanwhile: when this returns or raises, the command has ended, or
        the session of the lane has, and whoever looks after the lane on the node ends it.

        Args:
            line: what the lane is to be sent; see `command_line`.
            token: that of the line.
            sinks: where the standard output goes, and where the standard error goes.
            patience: seconds that the command may take to end, if it has to.
            told: is told what becomes of it. Without an exit code, the lane was lost.

        Raises:
            BaseException: what was cancelled, or what a sink has raised.

        """
        ends = self._ends
        self._left -= 1
        for tap, given in zip(self._taps, sinks, strict=True):
            tap.expect(token, given)
        try:
            if await ends.send(line):  # a line without its end is not run
                told.started = True
                while not (self._has_told() or ends.is_over or ends.error is not None):
                    await ends.read(math.inf)
        finally:
            if not self._has_told():
                await self.end(patience)
            ends.pass_on(lambda: [sink.finish() for given in sinks for sink in given])
            if self._has_told():
                told.returncode, told.user_time, told.system_time = self._ending()
        if ends.error is not None:
            raise ends.error

    def let_go(self) -> None:
        """Close its input, by which it ends; an empty line before says that all has come."""
        self._ends.let_go(self._last_words())

    async def end(self, patience: float) -> None:
        """End it, whatever is cancelled meanwhile; its session is killed if that takes more than so many seconds."""
        await self._ends.end(patience, self._last_words())

    def _last_words(self) -> bytes:
        return b"\n" if self._has_told() else b""

    def _has_told(self) -> bool:
        return all(tap.told is not None for tap in self._taps)

    def _ending(self) -> tuple[int | None, float, float]:
        """Return the exit code that the latest mark tells, and the CPU times since the one before, user and system."""
        before = self._times
        code, *times = ending(self._taps[1].told)
        self._times = times[0], times[1]
        user, system = (max(0.0, late - early) for early, late in zip(before, self._times, strict=True))
        return code, user, system


class _Said:
    """The end of what a lane has said that is not ready yet."""

    def __init__(self) -> None:
        self.data: Final = bytearray()

    def write(self, data: bytes) -> None:
        self.data.extend(data)
        del self.data[:-MOST_HELD]

    def finish(self) -> None:
        """Nothing is left to do."""


def ending(told: bytes | None) -> tuple[int | None, float, float]:
    """Return what a mark tells: the exit code, and the CPU times of all commands up to now; no code if it has none."""
    found = _ENDING.fullmatch(told or b"")
    if found is None:
        return None, 0.0, 0.0
    return int(found["code"]), int(found["user"]) / TICKS, int(found["system"]) / TICKS


# The times of children that have been waited for are the 16th and 17th number in /proc/PID/stat.
_ENDING: Final = re.compile(rb" (?P<code>\d{1,3}) \d+ \(.*\) \S(?: -?\d+){12} (?P<user>\d+) (?P<system>\d+) [-\d ]*")
