"""`trioflow batch` and GNU parallel compared, and its options, as users of GNU parallel know them."""

import base64
import json
import os
import random
import re
import time
from pathlib import Path
import pytest
from trioflow._hints import PARALLEL_OPTION_HINTS
from ..cli.command_line import trioflow
from ..places import PATIENCE, ROOT
from .process import batch, columns, gnu, refusal, running

pytestmark = pytest.mark.usefixtures("plain_shell")

# ruff: noqa: SIM905 - lists of so many quoted strings are hard to read
PLACES = "{} {.} {/} {//} {/.} {#} {1} {2} {1.} {2/} {1//} {2/.} {-1} {-2.} {0/} {3} {01}".split()
WORDS = ["", *"echo -n a;b $x { } {}{} {x} {+} {{}} {1//.} # | =".split(), "{ }"]
PARTS = [
    " ",
    "  ",
    "\t",
    *"a bc . .. / // .gz ' '' \" \\ $x ` * ~ é ☉ {} {1} {#} ; & - + _ = : % ! ^ \udcff".split(),
]
MIXED = [
    "printf abc; printf d >&2",
    "exit 7",
    "kill -9 $$",
    "kill -TERM $$",
    "exit 300",
    "no-such-program",
    "exit -1",
]


def texts(source: random.Random, number: int) -> list[str]:
    """Generate arguments that are hard to quote, or look like paths."""
    return [
        "",
        ".",
        "..",
        "/",
        "//",
        *(
            "".join(source.choices(PARTS, k=source.randint(1, 5)))
            for _ in range(number)
        ),
    ]


def test_command_lines_of_a_dry_run_are_those_of_gnu_parallel() -> None:
    """A dry run with all replacement strings, and arguments of all kinds, prints what GNU parallel prints."""
    source = random.Random(0)
    words = ["run", *(f"{source.choice(WORDS)}{place}" for place in PLACES)]
    command = [
        "--dry-run",
        "-j1",
        "-k",
        "--",
        *words,
        ":::",
        *texts(source, 20),
        ":::+",
        *texts(source, 20),
    ]
    ours, theirs = trioflow("batch", *command), gnu(*command)
    assert (ours.stdout_bytes, ours.exit_code) == (theirs.stdout, theirs.returncode)
    assert ours.stdout_bytes


COMBINED = [
    "a=1 b=1 echo 'x y'c x1", "a=1 b=1 echo 'a;b'd x1", "a=1 b='' echo 'x y'c y1", "a=1 b='' echo 'a;b'd y1",
    "a=1 b=1 echo 'x y'c x''", "a=1 b=1 echo 'a;b'd x''", "a=1 b='' echo 'x y'c y''", "a=1 b='' echo 'a;b'd y''",
]  # fmt: skip


def test_combinations_of_sources_are_those_of_gnu_parallel() -> None:
    """Products of sources, linked sources and files are combined as by version 20221122 of GNU parallel."""
    Path("one").write_bytes(b"1\n\n")
    Path("two").write_text("x\ny\n")
    words = [
        "a={%}",
        "b={3}",
        "echo",
        "{4}{5} {2}{1}",
        "::::",
        "one",
        "two",
        "::::+",
        "one",
    ]
    ours = trioflow(
        "batch",
        "--dry-run",
        "-j1",
        "-k",
        "--",
        *words,
        ":::",
        "x y",
        "a;b",
        ":::+",
        "c",
        "d",
        "e",
    )
    assert ours.stdout.splitlines() == COMBINED


def test_job_log_is_that_of_gnu_parallel() -> None:
    """For exit codes, signals and missing programs, the job log equals GNU parallel's, except for the times."""
    ours = trioflow("batch", "-j1", "--joblog", "ours", ":::", *MIXED)
    theirs = gnu("-j1", "--joblog", "theirs", ":::", *MIXED)
    assert (ours.exit_code, ours.stdout_bytes) == (theirs.returncode, theirs.stdout)
    assert columns(Path("ours")) == columns(Path("theirs"))


def test_results_are_those_of_gnu_parallel() -> None:
    command = ["printf '%s\\n' {1} {2}; echo e >&2", ":::", "a/b", "c\\d", ":::", "x y"]
    ours, theirs = (
        trioflow("batch", "--results", "ours", *command),
        gnu("--results", "theirs", *command),
    )
    assert (
        (ours.stdout_bytes, ours.stderr_bytes)
        == (theirs.stdout, theirs.stderr)
        == (b"", b"")
    )
    found = [
        {
            str(path.relative_to(root)): path.read_bytes()
            for path in Path(root).rglob("*")
            if path.is_file()
        }
        for root in ("ours", "theirs")
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 6


# --- options: how arguments are read, how output is printed, and rejected ones
THEIRS = {
    ("--colsep", ",", "echo", "{2}-{1}", "{}", "::::", "table"): (
        "echo b-a a b\necho 2-1.x/2 1.x/2 2\necho -3 3\necho 4-'' '' 4 5 ''\n"
    ),
    (
        "-N2",
        "echo",
        "{1}/{2}/{3}",
        "{}",
        ":::",
        "1",
        "2",
        "3",
    ): "echo 1/2/ 1 2\necho 3// 3\n",
    ("-N0", "echo", "x{1}", "{#}", ":::", "a", "b"): "echo x 1\necho x 2\n",
    ("--tag", "echo", "{1}", ":::", "a b", ":::", "c"): "a b c\techo 'a b'\n",
    ("-X", "-j3", "echo", "{}", "dir/{/.}.txt", "{#}", ":::", *"abcdefg", "x y/z.gz"): (
        "echo a b c dir/a.txt dir/b.txt dir/c.txt 1\necho d e f dir/d.txt dir/e.txt dir/f.txt 2\n"
        "echo g 'x y/z.gz' dir/g.txt dir/z.txt 3\n"
    ),
    ("-m", "-j2", "echo", ":::", "1", "2", "3", ":::", "a"): "echo 1 a 2 a\necho 3 a\n",
}
"""What version 20221122 of GNU parallel prints for dry runs."""


def test_arguments_are_read_as_by_gnu_parallel() -> None:
    """With the options about arguments, a dry run prints the same command lines as GNU parallel."""
    Path("table").write_text("a,b\n1.x/2, 2 \n3\n,4,5,\n")
    for words, theirs in THEIRS.items():
        ours = batch("--dry-run", "-j1", "-k", *words)
        assert (ours.stdout, ours.exit_code) == (theirs, 0)


def test_several_arguments_are_not_where_one_word_must_be() -> None:
    for options in ([], ["-N2"], ["-X"], ["--colsep", ","]):
        sources = ["a", "b"] if options else ["a", ":::", "b"]
        assert "write {1}, {2}, ... in place of {}" in refusal(
            *options, "x={} true", ":::", *sources
        )
    assert batch("--dry-run", "x={} true", ":::", "a").stdout == "x=a true\n"


def test_outputs_are_printed_as_by_gnu_parallel() -> None:
    """Outputs with tags and `--line-buffer` equal those of GNU parallel, byte for byte."""
    words = ["-k", "--line-buffer", "--tag"]
    command = [
        "printf 'a'{}'\\n\\nb'; printf 'c\\nd'; echo e{} >&2",
        ":::",
        "1",
        "2",
        "3",
    ]
    ours, theirs = batch(*words, *command), gnu(*words, *command)
    assert (ours.stdout_bytes, ours.stderr_bytes) == (theirs.stdout, theirs.stderr)


def test_line_buffer_option_prints_lines_while_their_command_runs() -> None:
    """The next one's early lines come as soon as it is its turn, and not with its next line."""
    line = "if [ {} = 1 ]; then echo first; read x < go; else echo second; echo > go; read x < end; echo third; fi"
    for name in ("go", "end"):
        os.mkfifo(name)
    with running("-k", "-j2", "--line-buffer", line, ":::", "1", "2") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        assert process.stdout.readline() == b"second\n"
        Path("end").write_text("\n")
        assert process.stdout.read() == b"third\n"
        assert process.wait() == 0


@pytest.mark.parametrize("options", [[], ["--line-buffer"]])
def test_what_the_last_try_has_written_counts_as_received(options: list[str]) -> None:
    """With `--line-buffer`, the job log once counted the bytes of all tries; GNU parallel's has those of the last."""
    words = [*options, "--retries", "2", "--joblog"]
    line = ["echo try; exit {}", ":::", "1"]
    assert batch(*words, "log", *line).stdout == "try\n" * (2 if options else 1)
    gnu(*words, "gnu", *line)
    counts = [
        [row.split("\t")[5] for row in Path(name).read_text().splitlines()]
        for name in ("log", "gnu")
    ]
    assert counts == [["Receive", "4"]] * 2


def test_line_buffer_option_prints_a_very_long_line_in_one_piece() -> None:
    """With `--line-buffer`, a line of 300 KB has one tag, and all its bytes count as received."""
    done = batch(
        "--line-buffer",
        "--tag",
        "--joblog",
        "log",
        "head -c 300000 /dev/zero | tr '\\0' {}",
        ":::",
        "x",
    )
    assert done.stdout == "x\t" + 300000 * "x"
    assert columns(Path("log"))[1].split("\t")[3] == "300000"


def test_results_option_writes_a_line_of_json_for_each_command() -> None:
    """In `--results FILE.jsonl`, each line has a command, its outcome, its usage, and its output, byte for byte."""
    done = batch(
        "-j1", "--results", "r.jsonl", "printf '\\303\\251'{2}; printf '\\377' >&2; exit {1}", ":::", "0", "3", ":::",
        "é",
    )  # fmt: skip
    assert (done.exit_code, done.stdout) == (1, "")
    first, second = (
        json.loads(line) for line in Path("r.jsonl").read_text().splitlines()
    )
    assert (first["seq"], first["arguments"]) == (1, ["0", "é"])
    assert (second["exit_code"], second["signal"], second["host"]) == (3, 0, ":")
    assert second["command"] == "printf '\\303\\251''é'; printf '\\377' >&2; exit 3"
    assert first["stdout"] == "éé"
    assert base64.b64decode(first["stderr_base64"]) == b"\xff"
    assert (
        first["max_rss"] is None or first["max_rss"] > 0
    )  # a short command may end before it is measured
    assert min(first["seconds"], first["user_time"], first["system_time"]) >= 0
    assert all(
        len(str(first[name])) <= len("99.999999")
        for name in ("seconds", "user_time", "system_time")
    )
    assert set(first) == set(second)


def test_results_say_nothing_of_the_usage_of_a_shell_that_was_ended_before_its_program() -> (
    None
):
    """A shell that `--timeout` ends has not waited for its program, which used the CPU: the cells are empty. The usage
    of a program that needs no shell is known, because trioflow itself waits for it."""
    batch(
        "-j2",
        "--timeout",
        "1",
        "--results",
        "r.jsonl",
        ":::",
        "sleep 9",
        "true; sleep 9; true",
    )
    alone, in_shell = sorted(
        (json.loads(line) for line in Path("r.jsonl").read_text().splitlines()),
        key=lambda row: row["seq"],
    )
    names = ("user_time", "system_time", "max_rss", "max_rss_bound")
    assert [in_shell[name] for name in names] == [None] * 4
    assert alone["user_time"] is not None


def test_results_option_accepts_a_template_of_names() -> None:
    """A template for `--results` names a directory if it ends in a slash, otherwise the prefix of three files."""
    for results in ("d_{}/", "n_{#}"):
        batch("--results", results, "echo", "{}", ":::", "x", "y")
    found = {
        str(path): path.read_text() for path in Path().rglob("*") if path.is_file()
    }
    assert found == {
        "d_x/seq": "1", "d_x/stdout": "x\n", "d_x/stderr": "", "d_y/seq": "2", "d_y/stdout": "y\n", "d_y/stderr": "",
        "n_1.seq": "1", "n_1": "x\n", "n_1.err": "", "n_2.seq": "2", "n_2": "y\n", "n_2.err": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("results", "arguments", "path"),
    [
        ("{/.}.txt", ["a/main.c", "b/main.c"], "main.txt"), ("out/{/.}/", ["a/main.c", "b/main.c"], "out/main/stdout"),
        ("saved", ["x", "y", "x"], "saved/1/x/stdout"), ("{}", ["x", "x.err"], "x.err"),
        ("./{}", ["x", "./x"], "././x"), ("one{%}", ["x", "y"], "one1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("from_stdin", [False, True])
def test_two_commands_never_share_result_file(
    results: str, arguments: list[str], path: str, from_stdin: bool
) -> None:
    """Equal names in `--results` are refused before anything starts, with both commands and the cure."""
    words = ["-j1", "--results", results, "touch begun{#}; echo"]
    if from_stdin:
        Path("list").write_text("\n".join(arguments))
        words += ["::::", "list"]
    else:
        words += [":::", *arguments]
    first, second = (1, len(arguments))
    assert (
        f"commands {first} ({arguments[0]}) and {second} ({arguments[-1]}) would both write their results in {path!r}: "
        "put {#}, the number of the command, into the name of --results"
    ) in refusal(*words)
    assert not list(Path().glob("begun*"))


def test_arguments_that_arrive_late_share_no_file_of_results() -> None:
    with running("-j1", "--results", "{/.}.txt", "echo {} | tee -a begun") as process:
        assert process.stdin is not None
        process.stdin.write(b"a/x\n")
        process.stdin.flush()
        while not Path("begun").exists():
            time.sleep(0.01)
        out, error = process.communicate(b"b/x\n", timeout=PATIENCE)
    assert (
        process.returncode,
        Path("begun").read_text(),
        Path("x.txt").read_text(),
    ) == (255, "a/x\n", "a/x\n")
    assert b"commands 1 (a/x) and 2 (b/x) would both write" in b" ".join(
        (out + (error or b"")).split()
    )


UNSUPPORTED = [
    (["--pipe", "wc"], "No such option"),
    (["--keep-ord", "echo"], "--keep-order"),  # did you mean
    (["-timeout", "3", "echo"], "No such option '-t': do you mean --timeout?"),
    (["-keep-order", "echo"], "No such option '-e': do you mean --keep-order?"),
    (["-jobs=3", "echo"], "N%, +N, -N of the CPUs; do you mean --jobs?"),
    (["--eta", "echo"], "No such option '--eta': --bar shows the progress"),
    (
        ["-u", "echo"],
        "No such option '-u': --line-buffer prints each line as it is written",
    ),
    (["--colsep", "|", "echo"], "such as ,; write a literal | as '\\|'"),
    (
        ["echo", "{0#}"],
        "{0#}: zero-padded numbers work in GNU parallel only; let a shell pad",
    ),
    (["echo", "{00%}"], "$(printf %03d {%})"),
    (
        ["--line-buffer", "--results", "x", "echo"],
        "--results keeps outputs, but --line-buffer only forwards them",
    ),
    (
        ["-X", "-N2", "echo"],
        "-X gives a command as many arguments as a line holds, and -N gives it N",
    ),
    (
        ["-X", "echo", "a{}-{/}", ":::", "b"],
        "with -X, a word may have one replacement string: make two words of it",
    ),
    (["--colsep", "(", "echo"], "'(' is not a regular expression"),
    (
        ["--colsep", "x*", "echo"],
        "'x*' is a regular expression that matches the empty string",
    ),
    (["--results", "{= 1 =}", "echo"], "Perl expressions work in GNU parallel only"),
    (
        ["--results", "/dev/full/x.jsonl", "echo", ":::", "a"],
        "cannot write the results in '/dev/full/x.jsonl'",
    ),
    (
        ["--results", "/dev/null/x{}", "echo", ":::", "a"],
        "cannot write the results in '/dev/null/xa'",
    ),
]


def test_unsupported_options_of_gnu_parallel_are_rejected_with_a_remedy() -> None:
    """Options of GNU parallel that trioflow lacks, and invalid values, give exit code 255 and advice."""
    for words, message in UNSUPPORTED:
        assert message in refusal(*words)


ELSEWHERE = ["--delay", "--load", "--nice", "--reads", "--writes", "--tagstring", "-v", "-d", "--header", "--link",
           "-q", "-I", "-E", "-r", "--bg", "--color", "--env", "--latest-line", "--max-procs", "--nonall", "--onall",
           "--pipe", "--pipe-part", "--plus", "--process-slot-var", "--return", "--rpl", "--semaphore", "--shuf",
           "--transferfile", "--trim", "--wait", "--workdir"]  # fmt: skip


def test_the_page_on_parallel_and_the_error_say_what_to_do_instead_of_an_option() -> (
    None
):
    for option in ELSEWHERE:
        hint = PARALLEL_OPTION_HINTS[option]
        assert f"No such option '{option}': {hint}" in " ".join(
            batch(option, "x", "echo").stderr.split()
        )
        page = (ROOT / "docs" / "coming-from" / "parallel.md").read_text(
            encoding="utf-8"
        )
        assert re.search(
            rf"(?<!\S)`?{option}`?(?!\S)",
            page.partition("## GNU parallel's options")[2],
        )


def test_options_after_the_command_belong_to_the_command() -> None:
    assert (
        batch("--tag", "echo", "--tag", "--bar", ":::", "a").stdout
        == "a\t--tag --bar a\n"
    )
    assert batch("--", "echo", "--tty", ":::", "a").stdout == "--tty a\n"


def test_line_buffer_option_prints_output_of_nodes() -> None:
    """`--line-buffer` prints both output streams of a node, for which the local machine stands in."""
    done = batch("-S", ":", "-j1", "--line-buffer", "echo {}; echo e >&2", ":::", "a")
    assert (done.stdout, done.stderr) == ("a\n", "e\n")
