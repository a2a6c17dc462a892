"""Places of a shell's line where quoting protects a value, and those where it does not: in batches and in t-strings."""

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import pytest
from trioflow import CommandJob, SshJob
from trioflow.batch._template import CommandTemplate
from trioflow.jobs.command._argv import Template, join_line, line_parts
from trioflow.jobs.command._shell_places import BUILTINS, EVALUATED
from .hostile_lines import try_lines
from .hostile_values import HOSTILE, SHELLS, shells_that_run_a_value

UNSAFE = {
    "inside double quotes": ('ls "{}"', '"{}" a', 'echo "$(echo "{}")"', 'echo $"{}"'),
    "inside single quotes": (
        "echo '{}'", "sh -c 'x {}'", "echo $'{}'", "printf '%s' $'it\\'s {} here'", "echo '", "$'\\x65val' {}",
        "read $'\\x79x' <<< {}; echo $((yx))",
    ),
    "in a line with backquotes": ("echo `echo {}`", 'echo "`echo {}`"', "echo `date` {}"),
    "inside $(( ... ))": (
        "echo $(({}+1))", "x={}; echo $((x))", "x=y; y={}; echo $((x))", "echo {} | { echo $(( $(cat) )); }",
        "echo {} > f1.txt; echo $(( $(cat f*) ))", "cd {}; echo $((DIRSTACK))", "echo $((1 + 2)) {}",
        "echo {} | while read x; do echo $((x)); done",
    ),
    "inside (( ... ))": ("((x = {} > 1)); echo", "for ((i = 0; i < {}; i++)); do echo; done", "((echo a) | echo {})"),
    "inside $[ ... ]": ("echo $[{}]",),
    "inside ${ ... }": ("x=abc; echo ${x:{}}", "echo ${x:-{}}", "y={}; echo ${x:-*(e:$y:)}"),
    "after \\": (
        "echo \\{}", "(\\\n(a[{}]=1))", "echo $(\\\n(a[{}]))", "cat <\\\n<E\n{}\nE", "ev\\\nal {}", "echo $x\\\n{}",
        "echo >\\\n& {}",
    ),
    "after $": ("echo ${}",),
    "in a line with a here-document": ("cat <<EOF\n{}\nEOF", 'read y"x" <<< {}; echo $((yx))'),
    "after [[": ("[[ {} -gt 5 ]]", "echo $([[ -v {} ]])", "y={}; [[ y -eq 5 ]]"),
    "after (": (
        "if ! [[ (1 -eq 1 && {} -gt 5) ]]; then echo; fi", "f() { local -xi x={}; }; f", "declare -ia x=({})",
        "declare -a z=({})", "f() { echo {}; }; f", "f() { local -a x={}; }; f", "x=(); declare x={}", "< *(e:{}:) cat",
        "> *(e:{}:)",
    ),
    "after )": ("case a in a) [[ 5 -gt {} ]];; esac", "case {} in a) echo;; esac"),
    "after let": ("let {}",),
    "after builtin": ("true && builtin let x={}+1",),
    "after declare": ("declare -i x={}", "declare -a x={}"),
    "after typeset": ("typeset {}", "typeset -i x; x={}"),
    "after [": (
        "[ -v {} ]", "x={}; [ $x ]", "[ 5 -gt {} ]", "[ {} {} {} ]", 'x={}; [ "${?:+$x}" -gt 1 ]', "touch -- {}; [ * ]",
    ),
    "after test": ("a=b test -v {}",),
    "after printf": (
        "printf -v {} x", "printf %d {}", "printf {-v,z[{}],x}", "touch -- {}; printf *", "printf '\\u0025d' {}",
    ),
    "after read": ("read {} < /dev/null", "read -a x < y; declare x={}"),
    "after unset": ("unset {}",),
    "in a line with a subscript": ("a[{}]=1", "echo $x[{}]", 'y={}; echo "$x[y]"'),
    "after >&": ("make >& {}.log",),
    "after &>": ("make &> {}",),
    "directly before >": ("exec {fd}>{}", "sort {}>out", "true {a[{}]}>f"),
    "after the name of a variable": ("echo $x{}",),
    "after ~": ("cp a ~{}",),
    "after trap": ("x={}; trap -- 'let x' EXIT", 'y={}; trap \'echo $((\'"y))" EXIT', "trap 'echo $((x))' EXIT; x={}"),
    "in a line that sets a variable which shells evaluate": (
        "RANDOM={}; true", "y={}; OPTIND=y; true", "export COLUMNS={}; true", "read SECONDS < {}; true",
        "for RANDOM in {}; do true; done; true", "BASH_ENV={} bash -c true; true", "PS4={}; set -x; true",
        "PROMPT4={}; set -x; true", "declare BASH_ALIASES={}; true", "echo {} | IFS= read -r RANDOM",
        "x=1 export RANDOM={}", "command export RANDOM={}", "SHLVL={}", "FUNCNEST={}", "LOGCHECK={}",
    ),
    "in a line whose command is not known": (
        "x={}; $x", "z[1 + {}]=1", "z[a[{}]]=1", "time z[{}]=1", "FOO=1 z[1 {}]=2 true", "{eval,} {}", "{eval,/x} {}",
        '"ev\\\nal" {}', "- eval {}", "exec -a x eval {}", "$x eval {}", "${x}eval {}", "e${x}val {}", "$CC -c {}",
        "x={}; ${?:+$x}", "x={}; ${!:-$x}", "x={}; ${#:+$x} a", "cd . && {} {}", "e{} {}", ".{} {}", "tr{} {} EXIT",
        "x=1 {} {}", "if {} {}; then echo; fi", "while true; do {} {}; done", "true; {} {}", "true | {} {}",
        "true &\n{} {}", "echo $({} {})", "({} {})", "! {} {}", "command {} {}", "exec {} {}", "time {} {}",
        "time e{} {}", "> f {} {}", "> {} {} {}", "x={} y{} {}", "{}- eval {}", "true; {}{}- eval {}", "true; :{} {}",
        "true; [{} {}",
    ),
    "after set": ("set -- 1 {}; y=2; echo $((${!y}))", "set -o globsubst; echo $(echo {})"),
    "after eval": ("x=1 >f eval {}", "x={}; eval echo $x"),
    "beside a #": ("true > #{}",),
    "after exit": ("exit {}",),
    "after export": ("export x=$y; {} a", "export {}=1"),
    "after <(": ("echo a <(true) {}",),
    "after always": ("{ :; } always { eval {}; }",),
    "after o": ("cp a ~ro{}", "x=~ro{}"),
    "after setopt": ("setopt globsubst; x={}; echo $x",),
    "after wait": ("wait {}",),
    "directly before (": ("{}() { echo; }",),
    "after >": (">! x eval {}", "true; >>! x eval {}"),
    "beside a }": ("{ true } always { eval {} }", "if (false) { echo a } else { eval {} }"),
    "in a line with a modifier of zsh": ("x=a/b/c; echo $x:F:{}:h", 'y={}; x=a/b/c; echo "$x:F:y:h"'),
    "after =": ("x=={}",),
    "after env": (
        "env {} {}", "env x=1 {} a", "env -i {}", "env {}=x y", "env -S{}", "env -S {}", "env x=$y a {}",
        'x={}; env "$x"', "env env {}",
    ),
    "in a line whose sh may read it": (
        "echo {} | sh", "echo {} | sudo -u x busybox sh", "echo {} | xargs -I% sh -c %",
        "echo {} | xargs -rI % sh -c 'x %'", "echo {} | sh {}", "sh -c {}", 'x={}; sh -xc "$x"',
        'echo {} | sh -c "$(cat)"',
    ),
    "in a line whose bash may read it": (
        "echo {} | tee x | /bin/bash -s a", "echo {} | ssh x bash --rcfile y", "nice bash -euo pipefail -c {} x",
    ),
    "in a line whose dash may read it": ("echo {} | (cd /; { dash; })",),
    "in a line whose zsh may read it": ("x={}; echo $x | while true; do zsh -eu -o pipefail; done",),
    "in a line whose ksh93 may read it": ("echo {} | cat $(ksh93 -x -)",),
    "in a line whose . may read it": ("echo {} | . /dev/stdin",),
    "in a line whose source may read it": ("echo {} | source /proc/self/fd/0",),
}  # fmt: skip
"""Lines by their first place that is not known to be safe."""
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
    'export PATH="$PATH":{}; set -euo pipefail; [[ {} == *.gz ]]; export y={}',
    'while read -r x y; do echo "$x"; done < {}; echo let {} 2>&1 {}',
    "./{} a && ~/bin/{} b && '/opt/a b/c' {}",
    "a \\\n {} &&\\\n b {}; x=~/{}; ~/bin/{}",
    'git -m "for "{} -m "x; "{}; "$HOME"/bin/x {} > {}.log 2>&1; echo $(expr {} + 1) $(echo {} | tr a b)',
    'echo $x:/{} "$x: $y" LINES {}; { ls {}; } > o; [ {} = "*" ] && [[ {} = a* ]]; printf "%s?" {}; ls *',
    "cd a && python3.{} -m x {}; x-{} {} | gcc-{}-x {} && {}.sh a; x.{} b; true || a/{}/b",
    'env -i -u HOME COLUMNS={} x="$y" a-b {} && env a/{} {}; x={}; env -- "$x" {}; env -- "$CC" {}',
    "sh -c 'x \"$1\"' sh {}; echo {} | sh ./x {} | bash -x y/z.sh | grep -c bash | nice bash -euo pipefail -c 'y'",
    "ls {} | xargs -d '\\n' -n 1 sh -c 'ls -- \"$1\"' - | sort; sh x < /dev/null; . ./x",
    "cat x | sh -s - {}; sh < {}; sh {}; . {}; cp {} bin/sh; pkill -u {} bash",
    "cp {}{,.bak}; for i in {1..3}; do echo {}; done; find . -exec ls {} +; for x in {}; do echo {}; done",
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


@pytest.mark.parametrize(("line", "place"), [(line, place) for place, lines in UNSAFE.items() for line in lines])
def test_a_place_that_is_not_known_to_be_safe_is_rejected(line: str, place: str) -> None:
    """A place where quoting may not protect a value is rejected by batches, t-strings and `values=`."""
    with pytest.raises(ValueError, match="could run as code") as batch:
        CommandTemplate([line])
    assert f"an argument {place} could run as code" in str(batch.value)
    if "{}" not in line:
        return
    for make_job in (
        lambda: CommandJob(template(line, HOSTILE[0]), shell=True),
        lambda: SshJob("node", template(line, HOSTILE[0])),
        lambda: SshJob("node", line.replace("{}", "{value}"), values={"value": HOSTILE[0]}),
    ):
        with pytest.raises(ValueError, match="the quotes around each value do not protect it") as error:
            make_job()
        assert f"'{{value}}' is {place}" in str(error.value)


@pytest.mark.parametrize("line", SAFE)
def test_no_part_of_a_hostile_value_runs(tmp_path: Path, line: str) -> None:
    filled = {CommandTemplate([line]).fill([value], 1, 1) for value in HOSTILE}
    joined = {str(join_line(line_parts(template(line, value), "job"))) for value in HOSTILE}
    assert shells_that_run_a_value(tmp_path, *filled, *joined - filled) == []


@pytest.mark.parametrize("count", [20, pytest.param(2000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_random_lines_run_no_value_and_change_none(count: int) -> None:
    accepted, faults = try_lines(count, seed=count)
    assert accepted > count // 6
    assert not faults


READERS = [
    "", "exec", "env x=1", "sudo -u x", "nice -n 5", "xargs", "nohup", "timeout 5", "busybox", "ssh x",
    "time stdbuf -o0",
]  # fmt: skip
FED = [
    "echo {} | S", "x={}; echo $x | cat | S", "echo {} | (ls; S)", "echo {} | { S; }", "echo {} | if true; then S; fi",
    "ls $(echo {} | S)",
]  # fmt: skip
STDIN = ["", " -s", " -x -", " -s a", " /dev/stdin", " -eo pipefail", " -c", " -c {}", " +x /dev/fd/0"]


@pytest.mark.parametrize(
    "shell", ["sh", "bash", "/bin/dash", "zsh", "ksh", "mksh", "rbash", "tcsh", "fish", "/opt/x/ksh93"]
)
def test_no_pipe_takes_a_value_into_a_shell(shell: str) -> None:
    """Whatever calls a shell, and however a pipe leads there, the shell reads no value as its code."""
    for reader, fed, arguments in itertools.product(READERS, FED, STDIN):
        line = fed.replace("S", f"{reader} {shell}{arguments}".strip())
        with pytest.raises(ValueError, match="could run as code"):
            CommandTemplate([line])


def test_a_condition_of_several_parts_is_to_be_several_tests() -> None:
    """The remedy once was to make a value a word of its own, which it was."""
    for line in ("test {} != 3 -a -n {}", "[ {} = a -o {} = b ]"):
        with pytest.raises(ValueError, match="write && in place of -a"):
            CommandTemplate([line])


def test_a_text_in_which_find_puts_a_name_is_no_code_beside_a_value() -> None:
    with pytest.raises(ValueError, match="in a line whose sh may read it"):
        SshJob("node", "find {x} -exec sh -c 'rm {{}}' ';'", values={"x": "$(y)"})
    SshJob("node", "find {x} -exec sh -c 'rm \"$1\"' - {{}} ';'", values={"x": "$(y)"})
    SshJob("node", "sh -c 'find \"$1\" -exec rm {{}} +' - {x}", values={"x": "$(y)"})


def test_a_number_is_computed_only_by_shells_that_do_not_evaluate_it() -> None:
    """The `[` and `printf` of zsh, ksh and mksh evaluate a text in place of a number; a node may have any shell."""
    for line in ("[ {} -gt 5 ]", "printf %d {}", "exit {}"):
        for shell in ("/bin/bash", "/bin/dash", "/bin/busybox"):
            CommandTemplate([line], shell=shell)
        for shell in ("/bin/zsh", "/bin/mksh", "/bin/ksh93", ""):
            with pytest.raises(ValueError, match=r"could run as code"):
                CommandTemplate([line], shell=shell)
    with pytest.raises(ValueError, match="after printf"):  # the `%n` of bash sets the variable of this name
        CommandTemplate(["printf %n {}"], shell="/bin/bash")


def test_a_number_is_no_part_of_the_name_of_a_variable() -> None:
    for line in ("x{#}={}; echo $((x1))", "read x{#} < {}; echo $((x1))", "for x{#} in {}; do echo $((x1)); done"):
        with pytest.raises(ValueError, match=r"could run as code"):
            CommandTemplate([line])


def test_a_value_without_special_characters_may_be_in_quotes_and_a_number_anywhere() -> None:
    lines = ['echo "{x}"', "awk '{print \"{x}\"}'", "echo `echo {x}` # {x}", "cat <<EOF\n{x}\nEOF", 'echo "{node}" {x}']
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
        with pytest.raises(ValueError, match="the quotes around each value do not protect it"):
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
    listed = subprocess.run([shell, "-c", listings[name]], capture_output=True, text=True, check=False).stdout.split()
    harmless = {*"!{}-", "]]", "cat", "login", "mknod", "nohup", "realpath", "rename", "sleep"}
    assert [word for word in listed if word not in BUILTINS | harmless] == []


@pytest.mark.parametrize(
    ("shell", "listing"),
    [("bash", "declare -i; declare -a; declare -A"), ("mksh", "typeset -i"), ("zsh", "typeset -i")],
)
def test_the_variables_that_a_shell_computes_are_known(shell: str, listing: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip("it is not installed")
    listed = subprocess.run([shell, "-c", listing], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"^(?:declare -\w+ )?(\w+)", listed, re.MULTILINE)
    assert "PPID" in names
    assert [name for name in names if EVALUATED.fullmatch(name) is None] == []


def test_several_arguments_are_not_where_one_word_must_be() -> None:
    for line in (
        "x={} true",
        "true; x=1 y={}",
        "[ {} ]",
        "[[ {} ]]",
        "export x={}",
        "exec > {}",
        "true > {}.x",
        "printf x{}",
        "env x={} true",
    ):
        CommandTemplate([line])
        with pytest.raises(ValueError, match=r"where it may be several words"):
            CommandTemplate([line], has_several=True)
    with pytest.raises(ValueError, match=r"whose command is not known"):
        CommandTemplate(["true; {}/a"], has_several=True)
    for line in (
        "{}",
        "{} x",
        "x={1} ls {} > {2}",
        "for x in {}; do ls; done; printf '%s\\n' {}; echo a{}b",
        "x={#}; ./{}",
    ):
        CommandTemplate([line], has_several=True)
