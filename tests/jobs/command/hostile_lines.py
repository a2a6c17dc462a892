# ruff: noqa: E501 - the lines of shells are as long as they are
"""Random lines for a shell, with places for values, and hostile values: no value runs, and none arrives changed.

`{}` is a place for a hostile value. The commands evaluate no word of theirs: what a command does with one is its own.

python -m tests.jobs.command.hostile_lines --count 2000 --seed 7    say what is accepted, and what the shells do with it
"""

import argparse
import os
import random
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from trioflow.jobs.command._shell_places import (
    COMMENT,
    VALUE,
    UnsafePlaceError,
    check_places,
    quote,
)
from .hostile_values import HOSTILE, SHELLS

HARMLESS = [
    "4194305",
    "-4194306",
    "a b",
    "if",
    "a=b",
    "-n",
    "~",
    "*",
    "y",
    "'",
    "",
    "x\\",
    "{a,b}",
    "é",
    "#",
    "!",
    "$HOME",
]
"""Values that a shell could change."""
# `@` is a place whose argument is known to arrive; `{}` another one.
WORDS = [
    "{}",
    "a{}",
    "{}.x",
    "p-{}/q",
    '"b c"{}',
    "{}'d'",
    "${{x}}{}",
    "$x{}",
    "~{}",
    "={}",
    "x#{}",
    "*{}",
    "{}$(true)",
    "\\{}",
    "${}",
]
QUOTED = [
    '"{}"',
    "'{}'",
    '"a {} b"',
    "$'{}'",
    '$"{}"',
    '"$(show : {})"',
    "`show : {}`",
    "$(({}+1))",
    "$[{}]",
    "${{x:-{}}}",
    "${{x:{}}}",
    "$(show : {})",
    "$(echo {})",
    "<(echo {})",
    "a[{}]",
    '"`echo {}`"',
    '"$(echo "{}")"',
    "$((1+2))",
    "$((x))",
    "$((x+1))",
    "${{#x}}",
]
COMMANDS = """
echo {w}|printf '%s\\n' {w}|[ {w} = b ]|[ -f {w} ]|[ -n {w} ]|[[ {w} = b ]]|x={w}|y=$x|export x={w}|cd {w}|type {w}|echo {w} >&2|echo a >&{w}|echo a &> {w}|echo a >| {w}
echo a > {w}|exec 3<{w}|cat < {w}|cat <<< {w}|echo a 2>{w}|./{w} a|"$x"/a|command -v {w}|hash {w}|for i in {w}; do echo $i; done|for i in 1 2; do echo $((1+1)) {w}; done
case {w} in a) echo;; esac|case x in {w}) echo;; esac|f() { echo "$1"; }; f {w}|echo {w} | while read -r x; do echo "$x"; done|((1 > 0))
cat <<EOF
a
EOF|cat <<EOF
{w}
EOF|cat <<'EOF'
it's
EOF|echo # it's {w}|echo $(echo a)#"{}"|echo `echo a`#'{}'|echo $((1))#'{}'|echo <(true)#'{}'|(echo)#'{}'
echo "${x:-'}" {w} "'"|echo ${x#\\'} {w}|echo $'a\\'b' {w}|echo ${x%.*}|time sleep {w}x|env COLUMNS={w} true|echo ~ro{w}|x=~ro{w}|echo $x:{w}|cp {w}{,.b}|printf $'%s\\t' {w}|~/bin/{w} {w}|set -eu -- {w}; echo "$@"
i=1; i=$((i+1)); echo $i {w}|echo x{w}>y|echo {w}>y|echo {w}<y|echo {w}{a,b}|echo {a,{w}}|echo [{w}]|true \\
# {w}
sh -c {w}|bash -euc {w} x|eval {w}|command eval {w}|sh -c 'echo "$1"' - {w}|xargs sh -c {w}
""".strip()  # fmt: skip


def _commands() -> list[str]:
    commands = [""]
    for line in COMMANDS.splitlines():  # a here-document has line ends
        inside = line in (
            "a",
            "EOF",
            "{w}",
            "$((x))",
            "it's",
            "# {w}",
        ) or line.startswith("EOF|")
        head, *others = (
            line.split("|")
            if not line.startswith("EOF|")
            else ["EOF", *line.split("|")[1:]]
        )
        commands[-1] += "\n" + head if inside else ""
        commands += others if inside else [head, *others]
    joined: list[str] = []
    for command in commands:  # a pipe is no border between commands
        if joined and (
            command.startswith(" ") or joined[-1].endswith((" ", "x in a", ">"))
        ):
            joined[-1] += "|" + command
        elif command:
            joined.append(command)
    return joined


def make_line(rng: random.Random) -> str:
    """Return a line with places for values, `{}`; many are at places where a shell evaluates them."""

    def word() -> str:
        return (
            rng.choice(WORDS if rng.random() < 0.7 else QUOTED)
            .replace("{{", "{")
            .replace("}}", "}")
        )

    def command(depth: int) -> str:
        if depth and rng.random() < 0.5:
            form = rng.choice(
                ["A; B", "A && B", "A || B", "A | B", "(A); B", "{ A; }; B", "if A; then B; fi", "echo $(A) {}", 'echo "$(A)"; B', "! A\nB", "A &\nB",
                 "A # it's\nB", "while A; do B; break; done", "x={}; A; B", "for x in {}; do A; done", "f() { A; }; f {}"]
            )  # fmt: skip
            return "".join(
                command(depth - 1) if part in "AB" else part for part in form
            )
        if rng.random() < 0.32:
            prefix, suffix = rng.choice(
                [
                    ("", ""),
                    ("a/", ""),
                    ("", ".x"),
                    ("--k=", ""),
                    ("x", "y"),
                    ("'a b'", "'c'"),
                ]
            )
            return (
                f"show {prefix.replace(chr(39), '')}:{suffix.replace(chr(39), '')} {prefix}{{}}{suffix}"
                if "'" not in prefix
                else f"show 'a b:c' {prefix}{{}}{suffix}"
            )
        text = rng.choice(COMMAND_LIST)
        while "{w}" in text:
            text = text.replace("{w}", word(), 1)
        return text

    return command(2)


COMMAND_LIST = _commands()
SCRIPT = r"""
show() { printf '\001%s\n%s\0' "$1" "$2" >&9; }
for line; do (eval "$line") </dev/null; if [ -e pwned ]; then printf '%s' "$line" >broken; exit 7; fi; done
"""


def accepted(line: str) -> bool:
    texts = line.split("{}")
    try:
        return COMMENT not in check_places(texts, [VALUE] * (len(texts) - 1))
    except UnsafePlaceError:
        return False


def fill(line: str, value: str) -> str:
    return line.replace("{}", quote(value))


def run(lines: list[str], value: str, shell: str) -> Iterator[str]:
    """Fill a value into lines, let the shell run them, and yield what went wrong."""
    filled = [fill(line, value) for line in lines]
    with tempfile.TemporaryDirectory() as directory:
        seen = Path(directory, "seen")
        command = [
            shell, *(["sh"] if shell.endswith("busybox") else []), "-c", 'exec 9>>"$0"; ' + SCRIPT, str(seen), *filled,
        ]  # fmt: skip
        work = Path(directory, "work")
        work.mkdir()
        subprocess.run(
            command, cwd=work, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"}, stdin=subprocess.DEVNULL, check=False,
            capture_output=True, timeout=300,
        )  # fmt: skip
        if Path(work, "broken").exists():
            yield f"{shell}: {value!r} runs in {Path(work, 'broken').read_text()!r}"
        for record in seen.read_bytes().split(b"\0")[:-1] if seen.exists() else ():
            start, place, argument = re.fullmatch(
                r"(\x01?)([^\n]*)\n?(.*)", os.fsdecode(record), re.DOTALL
            ).groups()
            if not start or "\1" in argument:
                continue  # those of two processes, one inside the other
            expected = place.replace(":", value, 1)
            if argument != expected:
                yield f"{shell}: {value!r} arrives as {argument!r} and not as {expected!r}"


def try_lines(count: int, seed: int) -> tuple[int, list[str]]:
    """Return how many of the lines are accepted, and what went wrong."""
    rng = random.Random(seed)
    lines = [
        line for line in (make_line(rng) for _ in range(4 * count)) if "{}" in line
    ][:count]
    faults = list[str]()
    known = [line for line in lines if accepted(line)]
    for shell in sorted(SHELLS):
        for value in [*HOSTILE, *HARMLESS]:
            faults += run(known, value, shell)
    return len(known), faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    accepted_count, faults = try_lines(options.count, options.seed)
    print(
        f"{options.count} lines, {len(HOSTILE)} hostile and {len(HARMLESS)} other values; accepted: {accepted_count}"
    )
    print(*faults, f"{len(faults)} faults", sep="\n")


if __name__ == "__main__":
    main()
