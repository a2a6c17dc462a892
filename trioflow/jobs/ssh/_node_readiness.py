"""The conditions for `SshService(ready=...)` that are tested on the node.

The test runs beside the program: in its session over the connection, and in its process group, so it ends with it.

```
sh (PROBE_SCRIPT): looks at the port or the file, then becomes the program
 └── a subshell: tests every 0.1 s, while the program lives; reports on standard error, in lines with a random token
```

A line of output needs no test: it is looked for in the output that arrives.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from ...abc import AbstractJob, RunHandle, shown_value
from ..command._readiness import CommandSucceeds, FileExists, OutputLine, PortOpen, Readiness, make_readiness
from ..command._result import REDACTED_COMMAND, CommandError
from ._wrapper import ReportFilter

if TYPE_CHECKING:
    from ..command._output_sinks import OutputSink

# The parameters of the script:
#   $_t the token; $_d the directory of the tests, or empty; $_b a line to run before the program starts, whose
#   output is kept in $_i for the tests, and which fails if the condition is already met; $_q the line of the test;
#   then the program and its arguments.
#
# The subshell is started by another one, so that the program has no child that it does not know. A change of the test's
# exit code is reported as the end of a command, its success as the start of one: see `ReportFilter`.
PROBE_SCRIPT: Final = (
    "_t=$1 _d=$2 _b=$3 _q=$4; shift 4; "
    '_end() { printf \'\\036%s end %s 0m0s 0m0s\\n0m0s 0m0s\\n\' "$_t" "$1" >&2; }; '
    '_at() { if [ -n "$_d" ]; then cd -- "$_d" || return; fi; eval "$1"; }; '
    '_i=$(_at "$_b" 2>/dev/null </dev/null) || { _end 0; exit 1; }; '
    "( ( _l=; "
    'until ( _at "$_q" ) >/dev/null 2>&1; do _c=$?; kill -0 $$ 2>/dev/null || exit 0; '
    'if [ "$_c" != "$_l" ]; then _l=$_c; _end "$_c"; fi; { sleep .1 || sleep 1; } 2>/dev/null; done; '
    "printf '\\036%s start\\n' \"$_t\" >&2 ) </dev/null >/dev/null & ); "
    'exec "$@"'
)
_PORT_TEST: Final = (
    "if [ -r /proc/net/tcp ]; then cat /proc/net/tcp /proc/net/tcp6 | grep -q ':{number:04X} 0*:0000 0A '; "
    "else nc -z {host} {number}; fi"
)
"""Tests whether a port listens. Linux has a table of ports: reading it needs no other program, and no connection."""
_STAMP: Final = "{{ stat -c '%i %y' -- {path} || stat -f '%i %Fm' -- {path} || ls -di -- {path}; }} 2>/dev/null"
"""Prints what changes when a file is created, replaced or modified: with GNU or busybox, on BSD, and elsewhere."""
_FILE_TEST: Final = (
    '[ -e {path} ] && [ "$(' + _STAMP + ')" != "$_i" ] && '
    "{{ [ ! -S {path} ] || [ ! -r /proc/net/unix ] && exit; _w={name}; "
    'while read -r _a _r _o _f _k _s _n _p; do if [ "$_f" = 00010000 ]; then '
    'case $_p in "$_w"|*/"$_w") exit 0;; esac; fi; done </proc/net/unix; exit 1; }}'
)
"""Tests whether a file is new; a socket must also listen (flag 00010000 in Linux's table)."""
NOT_EXECUTABLE_CODES: Final = (126, 127)
"""A shell's exit codes for a program that cannot be executed, and for one that it does not find."""


@final
class NodeReadiness(Readiness):
    """A condition that a script tests on the node.

    Args:
        condition: the condition as the user gave it.
        subject: the service's name in errors.

    Raises:
        ValueError: the condition has an option that a node does not support.

    """

    def __init__(self, condition: Readiness, subject: str) -> None:
        self._condition: Final = condition
        self._is_redacted = False
        self._before_line, self._test_line = ":", ""
        self._result: Any = None
        match condition:
            case PortOpen():
                self._test_line = _PORT_TEST.format(number=condition.number, host=shlex.quote(condition.host))
                self._before_line = f"if {self._test_line}; then exit 1; fi"
                self._result = condition.number
            case CommandSucceeds():
                self._test_line = _command_line(condition, subject)
            case FileExists():
                self._result = condition._path
            case _:
                raise TypeError(
                    f"ready={shown_value(condition, subject)} of {subject}: a node cannot test it; "
                    f"give OutputLine(...), PortOpen(...), CommandSucceeds([...]), or a pathlib.Path"
                )
        self._failure: Exception | None = None
        self._latest_code: int | None = None
        self._event = anyio.Event()

    def __str__(self) -> str:
        return str(self._condition)

    def _redact(self) -> None:
        self._is_redacted = True
        self._condition._redact()

    @property
    def failure(self) -> Exception | None:
        """The error that a report of the test means; None if there is none."""
        return self._failure

    def check_before_start(self) -> None:
        """Discard the reports of an earlier attempt."""
        self._failure, self._latest_code, self._event = None, None, anyio.Event()

    def prefix(self, token: str, directory: str | None, node_path: Callable[[str], str]) -> Sequence[str]:
        """Return the words before those of the program, which start the test.

        Args:
            token: the random token that marks the lines of its reports.
            directory: the directory on the node to which paths are relative; None for the home directory.
            node_path: converts a path to one without a leading `~`.

        """
        before, test = self._before_line, self._test_line
        if isinstance(self._condition, FileExists):
            text = node_path(os.fspath(self._condition._path))
            path = shlex.quote(text if text.startswith("/") else f"./{text}")
            before = f"{_STAMP.format(path=path)}; :"
            test = _FILE_TEST.format(path=path, name=shlex.quote(os.path.basename(text)))
        return ["/bin/sh", "-c", PROBE_SCRIPT, "trioflow", token, directory or "", before, test]

    def filter(self, token: str, job: AbstractJob[Any], sinks: Sequence[OutputSink]) -> ReportFilter:
        """Return a sink that takes the reports of the test out of the program's output, and forwards the rest."""

        def process_code(code: int) -> None:
            self._latest_code = code
            self._failure = self._find_failure(code, job)
            if self._failure is not None:
                self._event.set()

        return ReportFilter(token, sinks, on_start=lambda: self._event.set(), on_end=process_code)

    def _find_failure(self, code: int, job: AbstractJob[Any]) -> Exception | None:
        if code == 0:
            what = "its port is" if self._is_redacted else f"port {self._result} is"
            return RuntimeError(
                f"{what} already in use on the node before the service starts: stop the program that uses it, or give "
                f"the service another port"
            )
        if code in NOT_EXECUTABLE_CODES:
            line = REDACTED_COMMAND if self._is_redacted else self._test_line
            return CommandError(job, line, f"exit code {code}: the node cannot execute the command of ready=")
        return None

    async def wait(self, run: RunHandle) -> Any:
        """Wait for the report that the condition is met, and return the service's result.

        Raises:
            RuntimeError: the port was in use before the start.
            CommandError: the node cannot execute the command of a `CommandSucceeds`.

        """
        await self._event.wait()
        if self._failure is not None:
            raise self._failure
        return self._result

    def latest_failure(self) -> str:
        """Return a space and a sentence about the latest failure of the command; "" if there was none."""
        if not isinstance(self._condition, CommandSucceeds) or self._latest_code is None:
            return ""
        return f" The last attempt failed: exit code {self._latest_code}."


def _command_line(condition: CommandSucceeds, subject: str) -> str:
    options = dict(condition.options)
    is_shell_line = options.pop("shell", False)
    if options:
        name = next(iter(options))
        raise ValueError(f"ready= of {subject}: CommandSucceeds({name}=...) has no meaning on a node; leave it out")
    return condition.command if is_shell_line else shlex.join(map(str, condition.command))


def make_node_readiness(value: Readiness | Path, subject: str) -> Readiness:
    """Return the condition that an `SshService` tests.

    Raises:
        TypeError, ValueError: `value` is not a condition that can be tested on a node.

    """
    readiness = make_readiness(value, subject)
    return readiness if isinstance(readiness, OutputLine) else NodeReadiness(readiness, subject)
