"""Places of a shell's line where quoting protects a value, and those where it does not: in batches and in t-strings."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trioflow import CommandJob, SshJob
from trioflow.batch._template import CommandTemplate
from trioflow.jobs.command._shell_line import Template, join_line, line_parts

from .hostile_values import HOSTILE, runs_nothing

UNSAFE = [
    ('ls "{}"', "inside double quotes"),
    ("echo '{}'", "inside single quotes"),
    ("sh -c 'x {}'", "inside single quotes"),
    ('"{}" a', "inside double quotes"),
    ('echo "$(echo "{}")"', "inside double quotes"),
    ("echo $'{}'", "inside $'...'"),
    ("printf '%s' $'it\\'s {} here'", "inside $'...'"),
    ('echo $"{}"', "inside double quotes"),
    ("echo `echo {}`", "inside backquotes"),
    ('echo "`echo {}`"', "inside backquotes"),
    ("echo $(({}+1))", "inside $(( ... ))"),
    ("((x = {} > 1)); echo", "inside (( ... ))"),
    ("for ((i = 0; i < {}; i++)); do echo; done", "inside (( ... ))"),
    ("echo $[{}]", "inside $[ ... ]"),
    ("x=abc; echo ${x:{}}", "inside ${ ... }"),
    ("echo ${x:-{}}", "inside ${ ... }"),
    ("echo \\{}", "after \\"),
    ("echo ${}", "after $"),
    ("cat <<EOF\n{}\nEOF", "after the beginning of a here-document"),
    ("echo '", "inside single quotes"),
    ("[[ {} -gt 5 ]]", "inside [[ ... ]]"),
    ("if ! [[ (1 -eq 1 && {} -gt 5) ]]; then echo; fi", "inside [[ ... ]]"),
    ("case a in a) [[ 5 -gt {} ]];; esac", "inside [[ ... ]]"),
    ("echo $([[ -v {} ]])", "inside [[ ... ]]"),
    ("let {}", "after let"),
    ("true && builtin let x={}+1", "after let"),
    ("declare -i x={}", "in a number for declare"),
    ("f() { local -xi x={}; }; f", "in a number for local"),
    ("declare -ia x=({})", "in a number for declare"),
    ("typeset {}", "in a name for typeset"),
    ("[ -v {} ]", "in a name for ["),
    ("a=b test -v {}", "in a name for test"),
    ("printf -v {} x", "in a name for printf"),
    ("read {} < /dev/null", "in a name for read"),
    ("unset {}", "in a name for unset"),
    ("a[{}]=1", "inside a subscript"),
]
SAFE = [
    'echo a"b"{}\'c\' "d" {}',
    'echo "$(echo {})"',
    "echo $(echo {}; (echo {})) {}",
    "((echo a) | echo {})",
    "x={}; echo \"$x\" '(' {}",
    "a 'b' \"\\\" c\" `d` # don't\necho {}",
    'echo $# $$ x#{} \\" {}',
    "echo $((1<<2)) ${x:-y} {} > out",
    "cat <<< {} | echo {}",
    "[ {} = b ] || [ {} -gt 5 ] || test -f {}",
    "[[ a = a ]] && let x=1 && declare -i y=2; echo {}",
    "declare x={}; export y={}; declare -a z=({})",
    "read x < {}; unset x; echo let {} 2>&1 {}",
    "case {} in a) echo {};; esac; for x in {}; do echo {}; done; f() { echo {}; }; f",
]


def template(line: str, value: str) -> Any:
    """Return the t-string with this value in all places; before Python 3.14, a stand-in with the same attributes."""
    *texts, last = line.split("{}")
    if sys.version_info >= (3, 14):
        from string.templatelib import Interpolation

        parts = (part for text in texts for part in (text, Interpolation(value, "value")))
        return Template(*parts, last)
    stand_in: Any = Template()
    stand_in.strings = (*texts, last)
    place = SimpleNamespace(value=value, expression="value", conversion=None, format_spec="")
    stand_in.interpolations = (place,) * len(texts)
    return stand_in


@pytest.mark.parametrize(("line", "place"), UNSAFE)
def test_a_place_where_quoting_does_not_protect_is_rejected(line: str, place: str) -> None:
    """A place where a shell would run parts of a quoted value is rejected by batches, and by both kinds of jobs."""
    with pytest.raises(ValueError, match="could run as code") as batch:
        CommandTemplate([line])
    assert f"an argument {place} could run as code" in str(batch.value)
    if "{}" in line:
        for job in (lambda value: CommandJob(value, shell=True), lambda value: SshJob("node", value)):
            with pytest.raises(ValueError, match="the quotes around each value do not protect it") as error:
                job(template(line, "x"))
            assert f"'{{value}}' is {place}" in str(error.value)


@pytest.mark.parametrize("line", SAFE)
def test_no_part_of_a_hostile_value_runs(tmp_path: Path, line: str) -> None:
    """A line that is accepted runs no part of a value, in any of the shells that are installed."""
    batch = CommandTemplate([line])
    filled = {batch.fill([value], 1, 1) for value in HOSTILE}
    joined = {str(join_line(line_parts(template(line, value), "job"))) for value in HOSTILE}
    runs_nothing(tmp_path, *filled, *joined - filled)


def test_a_value_in_a_comment_is_rejected_or_stays_in_it(tmp_path: Path) -> None:
    """A newline in a value would end a comment: a batch replaces it, and a t-string has no value there."""
    runs_nothing(tmp_path, CommandTemplate(["true # it's {}\necho {}"]).fill(["\ntouch pwned\n"], 1, 1))
    with pytest.raises(ValueError, match=r"'\{value\}' is in a comment"):
        CommandJob(template("true # {}", "x"), shell=True)
