"""Places of a shell's line where quoting protects a value, and those where it does not: in batches and in t-strings."""

import contextlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import pytest
from trioflow import CommandJob, SshJob
from trioflow.batch._template import CommandTemplate
from trioflow.jobs.command._argv import Template, join_line, line_parts
from trioflow.jobs.command._shell_places import BUILTINS
from .hostile_lines import try_lines
from .hostile_values import HOSTILE, SHELLS, shells_that_run_a_value

UNSAFE = {
    "inside double quotes": (
        'ls "{}"', '"{}" a', 'echo "$(echo "{}")"', 'echo $"{}"',
    ),
    "inside single quotes": (
        "echo '{}'", "sh -c 'x {}'", "echo $'{}'", "printf '%s' $'it\\'s {} here'", "echo '", "$'\\x65val' {}",
        "read $'\\x79x' <<< {}; echo $((yx))",
    ),
    "in a line with backquotes": (
        "echo `echo {}`", 'echo "`echo {}`"', "echo `date` {}",
    ),
    "inside $(( ... ))": (
        "echo $(({}+1))", "x={}; echo $((x + 1))", "i=1; i={}; echo $((i))",
        "echo {} | { echo $(( $(cat) )); }", "echo {} > f1.txt; echo $(( $(cat f*) ))",
    ),
    "inside (( ... ))": (
        "((x = {} > 1)); echo", "for ((i = 0; i < {}; i++)); do echo; done", "((echo a) | echo {})",
    ),
    "inside $[ ... ]": (
        "echo $[{}]",
    ),
    "inside ${ ... }": (
        "x=abc; echo ${x:{}}", "echo ${x:-{}}", "y={}; echo ${x:-*(e:$y:)}",
    ),
    "after \\": (
        "echo \\{}", "(\\\n(a[{}]=1))", "echo $(\\\n(a[{}]))", "cat <\\\n<E\n{}\nE", "ev\\\nal {}", "echo $x\\\n{}",
        "echo >\\\n& {}",
    ),
    "after $": (
        "echo ${}",
    ),
    "in a line with a here-document": (
        "cat <<EOF\n{}\nEOF", 'read y"x" <<< {}; echo $((yx))',
    ),
    "after (": (
        "if ! [[ (1 -eq 1 && {} -gt 5) ]]; then echo; fi", "f() { local -xi x={}; }; f", "declare -ia x=({})",
        "declare -a z=({})", "f() { echo {}; }; f", "f() { local -a x={}; }; f", "x=(); declare x={}",
        "< *(e:{}:) cat", "> *(e:{}:)",
    ),
    "after )": (
        "case a in a) [[ 5 -gt {} ]];; esac", "case {} in a) echo;; esac",
    ),
    "in a line with a subscript": (
        "echo $x[{}]", 'y={}; echo "$x[y]"',
    ),
    "after >&": (
        "make >& {}.log",
    ),
    "after &>": (
        "make &> {}",
    ),
    "directly before >": (
        "exec {fd}>{}", "sort {}>out", "true {a[{}]}>f",
    ),
    "after the name of a variable": (
        "echo $x{}",
    ),
    "after ~": (
        "cp a ~{}",
    ),
    "after an expansion": (
        "${x}eval {}", "e${x}val {}", "x={}; $x",
    ),
    "in a line with eval": (
        "x=1 >f eval {}", "command eval {}", '"ev\\\nal" {}', '"$x"- eval {}', "x={}; eval x",
    ),
    "in a line with [[": (
        "[[ {} -gt 5 ]]", "y={}; [[ y -eq 5 ]]",
    ),
    "in a line whose . may read it": (
        ". {}",
    ),
    "in a line whose sh may read it": (
        "echo {} | sh", "cat {} | sh -s a", "echo {} | xargs -I% env sh %",
    ),
    "beside a #": (
        "true > #{}",
    ),
    "after <(": (
        "echo a <(true) {}",
    ),
    "after o": (
        "cp a ~ro{}", "x=~ro{}",
    ),
    "directly before (": (
        "{}() { echo; }",
    ),
    "after >": (
        ">! x eval {}", "true; >>! x eval {}",
    ),
    "beside a }": (
        "{ true } always { eval {} }", "if (false) { echo a } else { eval {} }",
    ),
    "in a line with a modifier of zsh": (
        "x=a/b/c; echo $x:F:{}:h", 'y={}; x=a/b/c; echo "$x:F:y:h"',
    ),
    "after =": (
        "x=={}",
    ),
    "after sh -c": (
        "sh -c {}", 'x={}; sh -xc "$x"',
    ),
}  # fmt: skip
"""Lines by their first place where quoting does not protect a value."""
SAFE = [
    'echo a"b"{}\'c\' "d" {}',
    'echo "$(echo {})"',
    "echo $(echo {}; (echo {})) {}",
    "( (ulimit -v; wait -n) | echo {})",
    "x={}; echo \"$x\" '(' {}",
    "a 'b' \"\\\" c\" $(d) # don't\necho {}",
    'echo $# $$ x#{} \\" {}',
    "echo ${x:-y} ${y%.*} ${#x} {} > out",
    'while [ "$i" != aa ]; do i="$i"a; echo {}; done',
    'd=$(mktemp -d); cp {} "$d"; (cd "$d" && ls) > out; rm -r "$d"; exit $?',
    'printf "it\'s %s\\n" "$x" > {}; echo {}',
    "echo $(echo a)#b {}; cat < {} >> out 2>&1 | echo {}",
    "[ {} = b ] || [ $? -gt 5 ] || test -f {}",
    "until test -f {}; do if ! true; then break; fi; [ -n {} ] && break 2; done",
    "SECONDS=0; env COLUMNS={} HOME={} true; FOO={} true; echo $SECONDS",
    'export PATH="$PATH":{}; set -euo pipefail; [ {} = a.gz ]; export y={}',
    'while read -r x y; do echo "$x"; done < {}; echo let {} 2>&1 {}',
    "./{} a && ~/bin/{} b && '/opt/a b/c' {}",
    "a \\\n {} &&\\\n b {}; x=~/{}; ~/bin/{}",
    'git -m "for "{} -m "x; "{}; "$HOME"/bin/x {} > {}.log 2>&1; echo $(expr {} + 1) $(echo {} | tr a b)',
    'echo $x:/{} "$x: $y" LINES {}; { ls {}; } > o; [ {} = "*" ] && [ {} = a ]; printf "%s?" {}; ls *',
    "cd a && python3.{} -m x {}; x-{} {} | gcc-{}-x {} && {}.sh a; x.{} b; true || a/{}/b",
    'env -i -u HOME COLUMNS={} x="$y" a-b {} && env a/{} {}; x={}; env -- "$x" {}; env -- "$CC" {}',
    "sh -c 'x \"$1\"' sh {}; echo {} | sh ./x {} | bash -x y/z.sh | grep -c bash | nice bash -euo pipefail -c 'y'",
    "ls {} | xargs -d '\\n' -n 1 sh -c 'ls -- \"$1\"' - | sort; sh x < /dev/null; . ./x",
    "sh < {}; sh {}; . ./x; cp {} bin/sh; pkill -u {} bash",
    "cp {}{,.bak}; for i in {1..3}; do echo {}; done; find . -exec ls {} +; for x in {}; do echo {}; done",
]

COMPUTED = [
    "x={}; echo $((x))", "x=y; y={}; echo $((x))", "cd {}; echo $((DIRSTACK))", "echo $((1 + 2)) {}",
    "echo {} | while read x; do echo $((x)); done", "[[ {} -gt 5 ]]", "echo $([[ -v {} ]])", "y={}; [[ y -eq 5 ]]",
    "let {}", "true && builtin let x={}+1", "declare -i x={}", "declare -a x={}", "typeset {}", "typeset -i x; x={}",
    "[ -v {} ]", "x={}; [ $x ]", "[ 5 -gt {} ]", "[ {} {} {} ]", 'x={}; [ "${?:+$x}" -gt 1 ]', "touch -- {}; [ * ]",
    "a=b test -v {}", "printf -v {} x", "printf %d {}", "printf {-v,z[{}],x}", "touch -- {}; printf *",
    "printf '\\u0025d' {}", "read {} < /dev/null", "read -a x < y; declare x={}", "unset {}", "a[{}]=1",
    "x={}; trap -- 'let x' EXIT", 'y={}; trap \'echo $((\'"y))" EXIT', "trap 'echo $((x))' EXIT; x={}",
    "RANDOM={}; true", "y={}; OPTIND=y; true", "export COLUMNS={}; true", "read SECONDS < {}; true",
    "for RANDOM in {}; do true; done; true", "BASH_ENV={} bash -c true; true", "PS4={}; set -x; true",
    "PROMPT4={}; set -x; true", "declare BASH_ALIASES={}; true", "echo {} | IFS= read -r RANDOM",
    "x=1 export RANDOM={}", "command export RANDOM={}", "SHLVL={}", "FUNCNEST={}", "LOGCHECK={}", "x={}; $x",
    "z[1 + {}]=1", "z[a[{}]]=1", "time z[{}]=1", "FOO=1 z[1 {}]=2 true", "{eval,} {}", "{eval,/x} {}",
    '"ev\\\nal" {}', "- eval {}", "exec -a x eval {}", "$x eval {}", "$CC -c {}", "x={}; ${?:+$x}", "x={}; ${!:-$x}",
    "x={}; ${#:+$x} a", "cd . && {} {}", "e{} {}", ".{} {}", "tr{} {} EXIT", "x=1 {} {}", "if {} {}; then echo; fi",
    "true; {} {}", "true | {} {}", "true &\n{} {}", "echo $({} {})", "({} {})",
    "! {} {}", "command {} {}", "exec {} {}", "time {} {}", "time e{} {}", "> f {} {}", "> {} {} {}", "x={} y{} {}",
    "{}- eval {}", "true; {}{}- eval {}", "true; :{} {}", "true; [{} {}", "set -- 1 {}; y=2; echo $((${!y}))",
    "set -o globsubst; echo $(echo {})", "x={}; eval echo $x", "exit {}", "export x=$y; {} a", "export {}=1",
    "{ :; } always { eval {}; }", "setopt globsubst; x={}; echo $x", "wait {}", "env {} {}", "env x=1 {} a",
    "env -i {}", "env {}=x y", "env -S{}", "env -S {}", "env x=$y a {}", 'x={}; env "$x"', "env env {}",
    "echo {} | sh", "echo {} | sudo -u x busybox sh", "echo {} | xargs -I% sh -c %",
    "echo {} | xargs -rI % sh -c 'x %'", "echo {} | sh {}", 'x={}; sh -xc "$x"', 'echo {} | sh -c "$(cat)"',
    "echo {} | tee x | /bin/bash -s a", "echo {} | ssh x bash --rcfile y", "nice bash -euo pipefail -c {} x",
    "echo {} | (cd /; { dash; })", "x={}; echo $x | while true; do zsh -eu -o pipefail; done",
    "echo {} | cat $(ksh93 -x -)", "echo {} | . /dev/stdin", "echo {} | source /proc/self/fd/0",
]  # fmt: skip
"""Lines that a shell may compute or run, whatever the quotes: each is rejected, or no value runs in it."""
ORDINARY = [
    "[ {} -gt 5 ] && echo {}", "if test {} -eq 1; then echo {}; fi", "exit {}", "printf %d {}", "shift {}",
]  # fmt: skip
"""Lines that GNU parallel's users write. Only zsh, ksh and mksh compute what is no number there."""


def template(line: str, value: str) -> Any:
    """Return the t-string with this value in all places; before Python 3.14, a stand-in with the same attributes."""
    *texts, last = line.split("{}")
    if sys.version_info >= (3, 14):
        from string.templatelib import Interpolation

        parts = (
            part for text in texts for part in (text, Interpolation(value, "value"))
        )
        return Template(*parts, last)
    stand_in: Any = Template()
    stand_in.strings = (*texts, last)
    place = SimpleNamespace(
        value=value, expression="value", conversion=None, format_spec=""
    )
    stand_in.interpolations = (place,) * len(texts)
    return stand_in


@pytest.mark.parametrize(
    ("line", "place"),
    [(line, place) for place, lines in UNSAFE.items() for line in lines],
)
def test_a_place_that_is_not_known_to_be_safe_is_rejected(
    line: str, place: str
) -> None:
    """A place where quoting may not protect a value is rejected by batches, t-strings and `values=`."""
    with pytest.raises(ValueError, match="could run as code") as batch:
        CommandTemplate([line])
    assert f"an argument {place} could run as code" in str(batch.value)
    if "{}" not in line:
        return
    for make_job in (
        lambda: CommandJob(template(line, HOSTILE[0]), shell=True),
        lambda: SshJob("node", template(line, HOSTILE[0])),
        lambda: SshJob(
            "node", line.replace("{}", "{value}"), values={"value": HOSTILE[0]}
        ),
    ):
        with pytest.raises(
            ValueError, match="the quotes around each value do not protect it"
        ) as error:
            make_job()
        assert f"'{{value}}' is {place}" in str(error.value)


@pytest.mark.ci
@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_a_shell_runs_no_value_of_a_line_that_is_accepted_for_it(
    tmp_path: Path, shell: str
) -> None:
    filled = list[str]()
    for line in [*COMPUTED, *ORDINARY]:
        with contextlib.suppress(ValueError):
            accepted = CommandTemplate([line], shell=shell)
            filled += {accepted.fill([value], 1, 1) for value in HOSTILE}
    assert filled
    assert shells_that_run_a_value(tmp_path, *filled, shells=[shell]) == []


def test_a_number_is_computed_only_by_shells_that_do_not_evaluate_it() -> None:
    """`[` of mksh, and `exit` and `printf` of zsh, evaluate a text in place of a number; a node has any shell."""
    for line in ORDINARY:
        for shell in ("/bin/bash", "/bin/dash", "/bin/busybox"):
            CommandTemplate([line], shell=shell)
        for shell in ("/bin/zsh", "/bin/mksh", "/bin/ksh93", ""):
            with pytest.raises(ValueError, match=r"could run as code"):
                CommandTemplate([line], shell=shell)
    for line in ("i=$((1 + 2)); echo $i {}", "i=1; while [ $i != 5 ]; do i=$((i + 1)); done; echo {}",
                 "set -- {}; echo $1", 'trap "echo done" EXIT; echo {}', "cd a && {} {}", "true | {} {}",
                 'cd {} || exit "$?"'):  # fmt: skip
        for shell in ("/bin/bash", "/bin/zsh", ""):
            CommandTemplate([line.replace("$i != 5", '"$i" != 5')], shell=shell)


@pytest.mark.parametrize("line", SAFE)
def test_no_part_of_a_hostile_value_runs(tmp_path: Path, line: str) -> None:
    filled = {CommandTemplate([line]).fill([value], 1, 1) for value in HOSTILE}
    joined = {
        str(join_line(line_parts(template(line, value), "job"))) for value in HOSTILE
    }
    assert shells_that_run_a_value(tmp_path, *filled, *joined - filled) == []


@pytest.mark.parametrize(
    "count",
    [20, pytest.param(2000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])],
)
def test_random_lines_run_no_value_and_change_none(count: int) -> None:
    accepted, faults = try_lines(count, seed=count)
    assert accepted > count // 6
    assert not faults


def test_a_value_without_special_characters_may_be_in_quotes_and_a_number_anywhere() -> (
    None
):
    lines = [
        'echo "{x}"',
        "awk '{print \"{x}\"}'",
        "echo `echo {x}` # {x}",
        "cat <<EOF\n{x}\nEOF",
        'echo "{node}" {x}',
    ]
    for line in lines:
        SshJob("node", line, values={"x": "a/b-c.d"})
    for value in (5, "5", 2.5):
        SshJob("node", "echo $(( {x} + 1 )); [ {x} -gt 3 ]", values={"x": value})
    for value in ("a b", "$(x)", "", CommandJob(["date"])):
        with pytest.raises(ValueError, match=r"'\{x\}' is inside double quotes"):
            SshJob("node", 'echo "{x}"', values={"x": value})
    with pytest.raises(ValueError, match=r"is inside \$\(\("):
        SshJob("node", "echo {y} $(( {x} + 1 ))", values={"x": "y", "y": "$(z)"})


def test_a_plain_value_is_rejected_where_it_would_change() -> None:
    """`5>out` is a descriptor, and `$x` and a letter are another variable."""
    for line in ("echo {x}>out", "echo $y{x}", 'echo "$y{x}"'):
        with pytest.raises(
            ValueError, match="the quotes around each value do not protect it"
        ):
            SshJob("node", line, values={"x": 5})


def test_a_value_in_a_comment_is_rejected_or_stays_in_it(tmp_path: Path) -> None:
    line = CommandTemplate(["true # it's {}\necho {}"]).fill(["\ntouch pwned\n"], 1, 1)
    assert shells_that_run_a_value(tmp_path, line) == []
    with pytest.raises(ValueError, match=r"'\{value\}' is in a comment"):
        CommandJob(template("true # {}", "a b"), shell=True)


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_the_builtins_of_each_shell_are_known(shell: str) -> None:
    listings = {
        "bash": "compgen -b; compgen -k", "zsh": "print -l ${(k)builtins} ${(k)reswords}",
        "mksh": "builtin; alias | sed 's/=.*//'", "ksh93": "builtin | grep -v /",
    }  # fmt: skip
    name = Path(shell).name
    if name not in listings:
        pytest.skip("it does not list its builtins")
    listed = subprocess.run(
        [shell, "-c", listings[name]], capture_output=True, text=True, check=False
    ).stdout.split()
    harmless = {
        *"!{}-",
        "]]",
        "cat",
        "login",
        "mknod",
        "nohup",
        "realpath",
        "rename",
        "sleep",
    }
    assert [word for word in listed if word not in BUILTINS | harmless] == []


def test_several_arguments_are_not_where_one_word_must_be() -> None:
    for line in (
        "x={} true",
        "true; x=1 y={}",
        "export x={}",
        "exec > {}",
        "true > {}.x",
        "env x={} true",
    ):
        CommandTemplate([line])
        with pytest.raises(ValueError, match=r"where it may be several words"):
            CommandTemplate([line], has_several=True)
    for line in (
        "{}",
        "{} x",
        "x={1} ls {} > {2}",
        "for x in {}; do ls; done; printf '%s\\n' {}; echo a{}b",
        "x={#}; ./{}",
    ):
        CommandTemplate([line], has_several=True)
