# ruff: noqa: E501 - the lines of shells are as long as they are
"""Random lines for a shell, with places for values, and hostile values: no value runs, and none arrives changed.

`{}` is a place for a hostile value; `{=val}` is a place, too, of which the value is `val`, so that two may act together:
`e{=val} {}` is `eval` and a command.

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
from trioflow.jobs.command._shell_places import COMMENT, VALUE, UnsafePlaceError, check_places, quote
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
NAMES = [
    *"""
{=eval}|e{=val}|{=ev}al|ev{=}al|{=}.|.{=}|{=.} /dev/stdin|tr{=ap} x; {=trap}|{=command} {=eval}|command {=eval}|exec {=eval}|time {=eval}|time ev{=al}
env {=eval}|env x=1 {=sh} -c|env -{=i} sh -c|env {=x}=1 touch pwned|env {=-S}|-{=} eval|{=-} eval|{=}{=-} eval|{=l}et|{=let}|declare -{=i}|{=declare} -i
{=export} -n|{=printf} -v|print{=f} -v|prin{=t}|{=readonly}|{=test} -v|tes{=t} 1 -eq|{=[} 1 -eq|{=builtin} eval|{=noglob} eval|{=alias}|{=}source|sourc{=e}|{=x}=1 eval|x=1 {=eval}
x={} {=eval}|x={} e{=val}|{=!} eval|! {=eval}|! e{=val}|if {=eval}|{=if} eval|then {=eval}|{=else} eval|do {=eval}|{=do} eval|{=then} eval|{ {=eval}|>f {=eval}|>f e{=val}
>{} {=eval}|<{=x} eval|command -{=p} eval|exec -{=a} x eval|{=coproc} eval|{=repeat} 1|{=typeset} -n|{=set} -o|s{=et} -A|{=for} x in|{=case}|{=function}|{=unset}|{=fc} -s|{=r}
a{=/}b|./{=x}|{=x}/y|x-{=y}|{=x}.sh|python3.{=1}|{=5}|{=x}5|{=x}-y
""".replace("\n", "|")
    .strip("|")
    .split("|")
]
"""Names of commands of which a part, or all, is a value, and what may stand before a name."""
PLACE = re.compile(r"\{(?:=([^{}]*))?\}")
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
echo {w}|printf '%s\\n' {w}|printf '%d\\n' {w}|printf {w} {w}|printf -v {w} {w}|[ {w} -gt 5 ]|[ 5 -lt {w} ]|test {w} -eq 1|[ {w} = b ]|[ -f {w} ]
[ -n {w} ]|[ {w} ]|[ {w} {w} {w} ]|[ $x -gt 1 ]|[ "$x" -gt 1 ]|[ $x ]|[ "$x" = a ]|test -v $x|test -v {w}|[[ {w} -gt 5 ]]|[[ {w} = b ]]|[[ -v {w} ]]
[[ $x -gt 5 ]]|[[ x -eq 5 ]]|x={w}|x={w} y=$((x+1))|y=$x|export x={w}|export {w}|readonly y{n}={w}|declare x={w}|declare -i x={w}|declare -i x|typeset -i x
typeset -i x={w}|typeset x={w}|typeset -n r={w}|declare -n r=x|local x={w}|integer x|z=({w})|z+=({w})|declare -A z=([k]={w})|z[{w}]=1|z[x]=1|z[$x]=1|z[1]={w}
exit {w}|exit $x|exit x|return {w}|shift {w}|shift x|break {w}|ulimit -n {w}|ulimit -n x|umask {w}|kill -0 {w}|cd {w}|wait {w}|wait -p {w} -n|trap {w} EXIT
trap 'echo $((x))' EXIT|trap "$x" EXIT|eval {w}|eval $x|eval 'echo $((x))'|eval "echo \\$((x))"|set -- {w}; show0 $(( $1 + 1 ))|set -- {w}; $1|set -- {w}; "$@"
set -A arr {w}|let x={w}|let {w}|let y=x|let x+=1|read x <<< {w}|read {w}|read -r y|unset {w}|echo {w} >&2|echo a >&{w}|echo a >& {w}|echo a &> {w}|echo a >| {w}
echo a > {w}|exec 3<{w}|exec {{fd}}> {w}|cat < {w}|cat <<< {w}|echo a 2>{w}|{w}|{w} {w}|./{w} a|$x|"$x"|$x/a|y{w}=1|{w}=1|alias x={w}|type {w}|command -v {w}|command eval {w}
builtin eval {w}|command -p eval {w}|exec eval {w}|hash {w}|. {w}|case {w} in a) echo;; esac|case x in {w}) echo;; esac|case x in a|{w}) echo;; (b) echo;; esac
for i in {w}; do echo $i; done|for i in {w}; do [ $i -gt 3 ]; done|for i in 1 2; do echo $((i+1)) {w}; done|for ((i=0;i<2;i++)); do echo {w}; done|for ((x=0;x<{w};x++)); do break; done
((x > 1))|((1 > 0))|((x = {w}))|f() { echo $(( $1 )); }; f {w}|f() { echo "$1"; }; f {w}|f() { [ $1 -gt 1 ]; }; f {w}|f() { eval "$1"; }; f {w}
echo {w} | while read x; do echo $((x)); done|echo {w} | while read -r x; do echo "$x"; done|echo {w} | { read -r x; [ "$x" -gt 1 ]; }|x=$(echo {w}); echo $((x))
cat <<EOF
a
EOF|cat <<EOF
{w}
EOF|cat <<EOF
$((x))
EOF|cat <<'EOF'
it's
EOF|echo # it's {w}|echo $(echo a)#"{}"|echo `echo a`#'{}'|echo $((1))#'{}'|echo <(true)#'{}'|(echo)#'{}'
echo "${x:-'}" {w} "'"|echo ${x#\\'} {w}|echo $'a\\'b' {w}|print {w}|print -P {w}|repeat {w} echo|noglob eval {w}|coproc eval {w}|function g { eval "$1"; }; g {w}|select x in {w}; do break; done
echo ${!x}|echo ${x:$x}|echo ${(e)x}|echo ${x@P}|echo ${x/a/{w}}|echo ${x%.*}|echo ${z[x]}|echo ${z[$x]}|true ${x:={w}}|echo $_; echo $((_))|read; echo $((REPLY))|getopts ab x {w}
mapfile -C {w} -c 1 a < /etc/passwd|printf '%*d' {w} 1|printf '%(%s)T' {w}|test 1 -eq {w} -a 2 -eq 2|[ ! {w} -gt 5 ]|[ -t {w} ]|[ x -ot {w} ]|[ ! -f {w} ]|x={w}; echo ${a:$x}|time sleep {w}x
{N} {w}|{N} {w} {w}|{N} {w} EXIT|{N} {w}; echo {w}|{N} 'echo $((x))'|{N} $x|{N} "$x" {w}
RANDOM={w}|OPTIND={w}|COLUMNS={w}; true|TMOUT={w} true|read RANDOM <<< {w}|for SECONDS in {w}; do true; done|PS4={w}; set -x; true|env COLUMNS={w} true|trap -- "let y" EXIT; y={w}|echo $x[{w}]|echo "$x[y]"|echo $x[y]|x=y; y={w}; echo $((x))|y={w}; x=y; [ $x -gt 1 ]|y={w}; [[ y -eq 1 ]]|x=y; export y={w}; declare -i z=x|y={w}; read x <<< y; echo $((x))
z[1 + {w}]=1|declare -a x={w}|typeset -a x={w}|local -a x={w}|x=(); declare x={w}|read -a x < /dev/null; declare x={w}|read y"x" <<< {w}; echo $((yx))|KSHUID={w}
y={w}; trap 'echo $(('"y))" EXIT|$'\\x65val' {w}|{eval,} {w}|{eval,/x} {w}|printf {-v,z[{w}],x}|set -- 1 {w}; y=2; echo $((${!y}))|cd {w}; echo $((DIRSTACK))|- eval {w}|command {w} {w}
{ :; } always { eval {w}; }|exec -a x eval {w}|$x eval {w}|e${x}val {w}|echo ~ro{w}|x=~ro{w}|nameref r={w}; r=1
setopt promptsubst; PROMPT4={w}; set -x; true|setopt globsubst; x={w}; echo $x|declare DIRSTACK={w}|exec {w}|time z[{w}]=1|env {w} x|echo {w} | { echo $(( $(cat) )); }|echo $x:{w}|command -v {w}
read x <<< {w}; printf '%s' "$x"|f() { local x={w}; echo "$x"; }; f {w}|[ {w} -nt {w} ]|[[ ! {w} == {w} ]]|set -eu -- {w}; echo "$@"|cp {w}{,.b}|printf $'%s\\t' {w}|~/bin/{w} {w}|x={w}; : "${x:-"{w}"}"
true {w} && echo $((RANDOM%2))|i=1; i=$((i+1)); echo $i {w}|echo x{w}>y|echo {w}>y|echo {w}<y|f{w}() { true; }|echo {w}{a,b}|echo {a,{w}}|echo [{w}]|x={w}; ${?:+$x}|x={w}; [ "${!:-$x}" -gt 1 ]|touch -- {w}; [ * ]|>! y eval {w}|< *(e:{w}:) cat|{ true } always { eval {w} }
if (false) { true } else { eval {w} }|echo $x:F:{w}:h|y={w}; echo "$x:F:y:h"|y={w}; echo ${x:-*(e:$y:)}|true {a[{w}]}>y|IFS= read -r RANDOM < {w}|x=1 export SECONDS={w}|SHLVL={w}|x=={w}|printf %n {w}|true \\
# {w}
echo {w} | sh|echo {w} | sh -c cat|echo {w} | bash -s {w}|echo {w} | . /dev/stdin|echo {w} | xargs -I% sh -c %|echo {w} | xargs sh -c 'echo "$@"' -|sh -c {w}|bash -euc {w} x|sh -c 'echo "$1"' - {w}
x={w}; sh -c "$x"|echo {w} | { read y; sh; }|echo {w} | env x=1 dash|echo {w} | (nice zsh)|sh {w}|sh {w} {w}|. {w} {w}|echo {w} | ksh -x {w}|echo {w} | busybox sh /dev/stdin
""".strip()  # fmt: skip


def _commands() -> list[str]:
    commands = [""]
    for line in COMMANDS.splitlines():  # a here-document has line ends
        inside = line in ("a", "EOF", "{w}", "$((x))", "it's", "# {w}") or line.startswith("EOF|")
        head, *others = line.split("|") if not line.startswith("EOF|") else ["EOF", *line.split("|")[1:]]
        commands[-1] += "\n" + head if inside else ""
        commands += others if inside else [head, *others]
    joined: list[str] = []
    for command in commands:  # a pipe is no border between commands
        if joined and (command.startswith(" ") or joined[-1].endswith((" ", "x in a", ">"))):
            joined[-1] += "|" + command
        elif command:
            joined.append(command)
    return joined


def make_line(rng: random.Random) -> str:
    """Return a line with places for values, `{}`; many are at places where a shell evaluates them."""

    def word() -> str:
        return rng.choice(WORDS if rng.random() < 0.7 else QUOTED).replace("{{", "{").replace("}}", "}")

    def command(depth: int) -> str:
        if depth and rng.random() < 0.5:
            form = rng.choice(
                ["A; B", "A && B", "A || B", "A | B", "(A); B", "{ A; }; B", "if A; then B; fi", "echo $(A) {}", 'echo "$(A)"; B', "! A\nB", "A &\nB",
                 "A # it's\nB", "while A; do B; break; done", "x={}; A; B", "for x in {}; do A; done", "f() { A; }; f {}"]
            )  # fmt: skip
            return "".join(command(depth - 1) if part in "AB" else part for part in form)
        if rng.random() < 0.32:
            prefix, suffix = rng.choice([("", ""), ("a/", ""), ("", ".x"), ("--k=", ""), ("x", "y"), ("'a b'", "'c'")])
            return (
                f"show {prefix.replace(chr(39), '')}:{suffix.replace(chr(39), '')} {prefix}{{}}{suffix}"
                if "'" not in prefix
                else f"show 'a b:c' {prefix}{{}}{suffix}"
            )
        text = rng.choice(COMMAND_LIST if rng.random() < 0.85 else COMMANDS_WITH_NAMES)
        while "{w}" in text:
            text = text.replace("{w}", word(), 1)
        return text.replace("{N}", rng.choice(NAMES)).replace("{n}", str(rng.randrange(1000)))

    line = command(2)
    return cut(rng, line) if rng.random() < 0.25 else line


def cut(rng: random.Random, line: str) -> str:
    """Make a part of the line's own text a value, mostly in a word where a command may stand."""
    words = [found.span() for found in re.finditer(r"\{=?[^{}]*\}|([\w./:-]+)", line) if found[1]]
    names = [
        (start, end) for start, end in words
        if re.search(r"(?:\A|[;&|({!\n]|\b(?:then|do|if|while|else|command|exec|time|env)|=\S*)\s*\Z", line[:start])
    ]  # fmt: skip
    chosen = names if names and rng.random() < 0.7 else words
    if not chosen:
        return line
    start, end = rng.choice(chosen)
    first, last = sorted((rng.randint(start, end), rng.randint(start, end)))
    return f"{line[:first]}{{={line[first:last]}}}{line[last:]}"


COMMAND_LIST = _commands()
COMMANDS_WITH_NAMES = [command for command in COMMAND_LIST if "{N}" in command]
SCRIPT = r"""
show() { printf '\001%s\n%s\0' "$1" "$2" >&9; }
for line; do (eval "$line") </dev/null; if [ -e pwned ]; then printf '%s' "$line" >broken; exit 7; fi; done
"""


def accepted(line: str, shell: str = "") -> bool:
    texts = re.split(r"\{(?:=[^{}]*)?\}", line)
    try:
        return COMMENT not in check_places(texts, [VALUE] * (len(texts) - 1), shell)
    except UnsafePlaceError:
        return False


def fill(line: str, value: str) -> str:
    return PLACE.sub(lambda found: quote(value if found[1] is None else found[1]), line)


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
            start, place, argument = re.fullmatch(r"(\x01?)([^\n]*)\n?(.*)", os.fsdecode(record), re.DOTALL).groups()
            if not start or "\1" in argument:
                continue  # those of two processes, one inside the other
            expected = place.replace(":", value, 1)
            if argument != expected:
                yield f"{shell}: {value!r} arrives as {argument!r} and not as {expected!r}"


def try_lines(count: int, seed: int) -> tuple[int, list[str]]:
    """Return how many of the lines are accepted, and what went wrong."""
    rng = random.Random(seed)
    lines = [line for line in (make_line(rng) for _ in range(4 * count)) if "{}" in line][:count]
    faults = list[str]()
    known = [line for line in lines if accepted(line)]
    for shell in sorted(SHELLS):
        for_shell = [line for line in lines if accepted(line, shell)]
        for value in [*HOSTILE, *HARMLESS]:
            faults += run(for_shell, value, shell)
    return len(known), faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    accepted_count, faults = try_lines(options.count, options.seed)
    print(f"{options.count} lines, {len(HOSTILE)} hostile and {len(HARMLESS)} other values; accepted: {accepted_count}")
    print(*faults, f"{len(faults)} faults", sep="\n")


if __name__ == "__main__":
    main()
