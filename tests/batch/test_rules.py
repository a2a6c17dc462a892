"""The pure parts of a batch: numbers, rules, exit codes and job log; sources of arguments; templates and quoting."""

import io
import itertools
import math
import os
import resource
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import _command_options
from trioflow.batch import BatchError, _sources
from trioflow.batch._command_job import CommandOutcome
from trioflow.batch._options import HaltRule
from trioflow.batch._output import Backlog, tag_lines
from trioflow.batch._record_files import JoblogFormat, RecordFile
from trioflow.batch._reporter import CommandTally
from trioflow.batch._sources import (
    LineFilling,
    LineSource,
    ReadingRules,
    SourceProduct,
    parse_sources,
)
from trioflow.batch._template import (
    CommandTemplate,
    Shell,
    base_name,
    directory_name,
    remove_extension,
)
from trioflow.jobs.command._shell_places import quote
from ..jobs.command.hostile_values import HOSTILE, shells_that_run_a_value

CODES = st.lists(st.sampled_from([0, 0, 1, 7, 255]), min_size=1, max_size=30)
LOGGED = st.builds(
    CommandOutcome,
    st.integers(1), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.just(None), st.sampled_from([None, OSError()]), st.integers(0, 10**10).map(float),
    st.integers(0, 10**6).map(float), received_bytes=st.integers(0),
)  # fmt: skip


DURATIONS = [
    ("2", 2),
    ("0.5", 0.5),
    (".5s", 0.5),
    ("1m", 60),
    ("1d2h3m4.5s", 93784.5),
    ("1H", 3600),
]


def test_durations_may_combine_units() -> None:
    """A duration may combine seconds, minutes, hours and days, as in GNU parallel."""
    for text, seconds in DURATIONS:
        assert _command_options.parse_seconds(text) == seconds


def test_an_invalid_duration_is_rejected() -> None:
    for text in ["", "x", "-1", "1 m", "200%", "1e3", "inf", "nan", "."]:
        with pytest.raises(ValueError, match="is not a duration: give seconds"):
            _command_options.parse_seconds(text)


SLOTS = [("3", 3), ("150%", 6), ("100%", 4), ("1%", 1), ("+2", 6), ("-1", 3), ("-9", 1)]


def test_number_of_slots_may_be_a_percentage_or_a_difference() -> None:
    """Percentages and differences for `-j` are relative to the number of CPUs; there is at least one slot."""
    for text, slots in SLOTS:
        assert _command_options.parse_slots(text, cpus=4) == slots


def test_number_of_slots_without_a_limit_depends_on_the_limit_of_open_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `-j 0`, as many commands run at once as the process's limit of open files allows."""
    monkeypatch.setattr(
        resource, "getrlimit", lambda which: (340, 340) if which == 7 else (-1, -1)
    )
    assert resource.RLIMIT_NOFILE == 7
    assert _command_options.parse_slots("0") == 50


def test_an_invalid_number_of_slots_is_rejected() -> None:
    for text in ["", "x", "1.5", "+5%", "4k", "²"]:
        with pytest.raises(ValueError, match="is not a number of jobs"):
            _command_options.parse_slots(text)


INVALID_RULES = [
    "",
    "now",
    "now,fail",
    "now,fail=0",
    "now,fail=x",
    "later,fail=1",
    "now,bar=1",
    "3",
    "-1",
    "30%",
]


def test_an_invalid_halt_rule_is_rejected() -> None:
    for text in INVALID_RULES:
        with pytest.raises(
            ValueError, match="is not a rule: write never, or WHEN,WHY=N"
        ):
            HaltRule.parse(text)


@given(CODES, st.sampled_from(["fail", "success", "done"]), st.integers(1, 9))
def test_halt_rule_is_met_from_the_nth_counted_command_on(
    codes: list[int], what: str, number: int
) -> None:
    """A rule such as `soon,fail=3` is met from the third failure on, whatever other commands end in between."""
    tally = CommandTally(HaltRule.parse(f"soon,{what}={number}"))
    counted = [
        code for code in codes if what == "done" or bool(code) == (what == "fail")
    ]
    assert sum(tally.add(code) for code in codes) >= max(0, len(counted) - number + 1)
    assert (tally.decisive_exit_code is None) == (len(counted) < number)
    if len(counted) >= number:
        assert tally.decisive_exit_code == counted[number - 1]


@given(CODES, st.integers(1, 100))
def test_percentage_in_a_halt_rule_is_of_all_commands(
    codes: list[int], percent: int
) -> None:
    """`soon,fail=20%`, say, is met when 20 % of all commands have failed; their percentage is the exit code."""
    tally = CommandTally(HaltRule.parse(f"soon,fail={percent}%"), total=40)
    met = [tally.add(code) for code in codes]
    failed = sum(map(bool, codes))
    assert met[-1] == (failed / 40 >= percent / 100)
    assert tally.exit_code == math.ceil(100 * failed / 40)


@given(CODES)
def test_exit_code_without_a_halt_rule_counts_failures(codes: list[int]) -> None:
    tally = CommandTally()
    assert not any(tally.add(code) for code in codes * 10)
    assert tally.exit_code == min(10 * sum(map(bool, codes)), 101)


EXIT_CODES = [
    ("now,fail=1", [0, 5, 6], 5), ("now,fail=1", [0, 0], 0), ("soon,fail=2", [0, 5, 6], 2),
    ("now,success=1", [5, 0], 0), ("now,success=3", [5, 0, 0], 1), ("now,done=2", [5, 0], 1),
    ("soon,success=50%", [5, 0, 0], 0), ("soon,success=90%", [5, 0, 0], 34),
]  # fmt: skip


def test_halt_rule_determines_the_exit_code() -> None:
    """Under `fail=1`, the exit code is that of the failure; a met `success` rule gives 0; others count failures."""
    for rule, codes, exit_code in EXIT_CODES:
        tally = CommandTally(HaltRule.parse(rule), total=len(codes))
        for code in codes:
            tally.add(code)
        assert tally.exit_code == exit_code


@given(LOGGED)
def test_command_is_one_line_of_the_job_log(row: CommandOutcome) -> None:
    """In the job log, any command is a line of nine columns, and line ends in the command become NULs."""
    *columns, command = (
        b"".join(JoblogFormat().encode_outcome(row, ())).decode().split("\t", 8)
    )
    assert (len(columns), command) == (8, row.command.replace("\n", "\0") + "\n")


def test_job_log_is_replaced_or_appended_to(tmp_path: Path) -> None:
    """A last line of the job log that a crash cut off is removed, since it may look like a shorter command."""
    path = tmp_path / "log"
    for append, command in ((True, "a"), (True, "b"), (False, "c")):
        write(path, append, command)
        if command == "b":
            assert [line.split("\t")[-1] for line in path.read_text().splitlines()] == [
                "Command",
                "a",
                "b",
            ]
    path.write_text(path.read_text() + "2\t:\t1")
    write(path, True, "d")
    assert [line.split("\t")[-1] for line in path.read_text().splitlines()] == [
        "Command",
        "c",
        "d",
    ]
    path.write_text("notes without a newline")
    for append in (True, False):
        with pytest.raises(
            BatchError,
            match="no batch has written this file, so it stays as it is: give another file",
        ):
            write(path, append, "e")
    assert path.read_text() == "notes without a newline"


def write(path: Path, append: bool, command: str) -> None:
    log = RecordFile(str(path), JoblogFormat(), append=append)
    log.add(CommandOutcome(1, command, None, None, 0, 0), (), 1)
    log.close()


def test_a_job_log_that_cannot_be_written_stops_the_batch_at_its_start() -> None:
    for path in ["/dev/full", "/no/such/log", "/"]:
        with pytest.raises(BatchError, match=f"cannot write the job log '{path}': "):
            RecordFile(path, JoblogFormat()).begin()


@given(
    st.lists(st.binary(max_size=30), max_size=8),
    st.integers(0, 60),
    st.randoms(use_true_random=False),
)
def test_waiting_outputs_are_kept_in_any_order(
    outputs: list[bytes], in_memory: int, random: object
) -> None:
    backlog = Backlog(in_memory)
    for _ in range(2):
        places = [(backlog.store(io.BytesIO(output)), output) for output in outputs]
        random.shuffle(places)  # type: ignore[attr-defined]
        assert all(b"".join(backlog.take(place)) == output for place, output in places)


@given(st.lists(st.sampled_from([b"a", b"\n", b"b\nc", b"\n\n", b"d\n"])))
def test_each_line_is_tagged_once(pieces: list[bytes]) -> None:
    """Each line of output gets one tag, into whatever pieces the output is cut; nothing else changes."""
    lines = b"".join(pieces).splitlines(keepends=True)
    assert b"".join(tag_lines(pieces, b"t\t")) == b"".join(
        b"t\t" + line for line in lines
    )


# --- replacement strings and quoting: from a template and arguments to a command line

ARGUMENTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
PATHS = st.lists(
    st.sampled_from(["a", "bc", ".", "..", "/", "//", ".gz", "x y", ""])
).map("".join)
BYTES = st.binary().map(lambda data: os.fsdecode(data.replace(b"\0", b"")))


def fill(line: str, *arguments: str) -> str:
    return CommandTemplate([line]).fill(arguments, 7, 3)


PARTS = [
    ("{}", "d.e/b.c"),
    ("{.}", "d.e/b"),
    ("{/}", "b.c"),
    ("{//}", "d.e"),
    ("{/.}", "b"),
    ("{#}", "7"),
    ("{%}", "3"),
]


def test_replacement_string_is_filled_in_as_by_gnu_parallel() -> None:
    """Each replacement string stands for a part of the argument, the number of the command, or its slot."""
    for place, found in PARTS:
        assert fill(f"echo {place}", "d.e/b.c") == f"echo {found}"


def test_number_in_a_replacement_string_selects_the_source() -> None:
    """Sources count from the first, 1, or from the last, -1; the replacement string of a missing one is empty."""
    assert (
        fill("echo {2} {1.} {-1/} {-2//} [{3}] [{-3}]", "x/a.b", "y/c")
        == "echo y/c x/a c x [] []"
    )


def test_replacement_string_without_a_number_is_filled_in_with_all_sources() -> None:
    assert fill("echo p{.}q", "a.b", "c d.e") == "echo pa 'c d'q"


def test_without_a_replacement_string_arguments_come_last() -> None:
    """Arguments come last if the line has no replacement string for them; `{#}` and `{x}` are none."""
    assert [fill("echo", "a", "b"), fill("echo {#}", "a"), fill("echo {x} {+} {3//.}", "a")] == [
        "echo a b", "echo 7", "echo {x} {+} {3//.} a"
    ]  # fmt: skip


def test_arguments_that_are_the_first_word_are_not_quoted() -> None:
    """Arguments are the command where the first word is nothing else; in `./{}`, they once were code, too."""
    assert [fill("{} x; ./{1}", "a; b"), fill("{1}{2} {}", "a b", "c"), CommandTemplate([]).fill(["a; b"], 1, 1)] == [
        "a; b x; ./a; b", "a bc a b c", "a; b"
    ]  # fmt: skip
    assert [fill("./{} {}", "a; b"), fill("bin/{}", "a b"), fill("{}.sh", "a b"), fill("x{}{#}", "a b")] == [
        "./'a; b' 'a; b'", "bin/'a b'", "'a b'.sh", "x'a b'7"
    ]  # fmt: skip
    assert [fill("x {}", "a b"), fill("x\ty{}", "a b"), fill(" ./{}", "a b")] == [
        "x 'a b'",
        "x\ty'a b'",
        " ./'a b'",
    ]


def test_the_value_of_a_variable_before_the_command_is_quoted() -> None:
    """In `a={} x`, the argument is quoted, since it is a value and not the command."""
    assert [fill("a={} x", "a; b"), fill("a={#} x {}", "a b"), fill("a=x{} ./{}", "a b")] == [
        "a='a; b' x", "a=7 x 'a b'", "a=x'a b' ./'a b'"
    ]  # fmt: skip


def test_numbers_in_the_first_word_leave_arguments_quoted() -> None:
    """`{#}` and `{%}` in the first word once turned quoting off, so a file name could be code."""
    assert [fill("./tool{#} {}", "a; b"), fill("x{%} {}", "$(a)"), fill(">{} x", "a; b"), fill("x<{}", "a; b")] == [
        "./tool7 'a; b'", "x3 '$(a)'", ">'a; b' x", "x<'a; b'"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "./{}",
        "bin/{} x",
        "{}.sh",
        "a {} > {#}.out",
        "echo '{#} $(echo {%})' \"{%}\" {.}",
    ],
)
def test_no_part_of_a_hostile_argument_runs(tmp_path: Path, line: str) -> None:
    """A line with replacement strings of a batch runs no part of an argument, in any shell that is installed."""
    assert (
        shells_that_run_a_value(
            tmp_path, *(fill(line, argument) for argument in HOSTILE)
        )
        == []
    )


def test_a_file_after_a_redirection_is_not_a_host() -> None:
    """Bash and ksh connect to `/dev/tcp/HOST/PORT` after `<` and `>`; with `/./dev` it is the file of this name."""
    host = "/dev/tcp/127.0.0.1/80"
    assert fill("cat <{} {}", host) == f"cat </.{host} '{host}'"
    assert (
        CommandTemplate(["a > {1}{2}", "2>>", "x{1}"]).fill(["/de", "v/tcp/x/1"], 1, 1)
        == "a > /./dev/tcp/x/1 2>> x/./de"
    )
    assert fill("a > {}", "/data") == "a > /data"


def test_quotes_are_plain_text_where_no_shell_reads_them() -> None:
    assert CommandTemplate(['"{}"'], is_command=False).fill(["a b"], 1, 1) == '"a b"'


def test_replacement_strings_in_arguments_are_not_replaced() -> None:
    assert fill("echo {} {#}", "{#} {}") == "echo '{#} {}' 7"


def test_perl_expressions_are_rejected() -> None:
    with pytest.raises(
        ValueError, match=r"\{= \$_\+\+ =\}: Perl expressions work in GNU parallel only"
    ):
        CommandTemplate(["echo", "{= $_++ =}"])


@given(PATHS)
def test_directory_of_a_path_is_that_of_dirname(path: str) -> None:
    trimmed = path.rstrip("/")
    expected = (
        "/"
        if path and not trimmed
        else (os.path.dirname(trimmed).rstrip("/") or "/" * trimmed.startswith("/"))
    )
    assert directory_name(path) == (expected or ".")


@given(PATHS)
def test_base_name_is_the_end_of_the_path_without_a_slash(path: str) -> None:
    assert path.endswith(base_name(path))
    assert "/" not in base_name(path)


@given(PATHS)
def test_only_the_last_part_of_a_path_loses_its_extension(path: str) -> None:
    stem = remove_extension(path)
    assert path.startswith(stem)
    assert path[len(stem) :].count(".") == int("." in base_name(path))
    assert "/" not in path[len(stem) :]


@given(ARGUMENTS | BYTES | PATHS)
def test_a_quoted_argument_is_one_word_for_a_shell(argument: str) -> None:
    """A shell reads a quoted argument back as one word with the same text, whatever its characters."""
    assert shlex.split(f"x {quote(argument)}") == ["x", argument]


@given(st.lists(ARGUMENTS | BYTES, min_size=1))
def test_template_passes_on_arguments_of_any_kind_unchanged(
    arguments: list[str],
) -> None:
    """Arguments of any kind reach a program unchanged; since they are quoted, no shell is needed."""
    shell = Shell({"PARALLEL_SHELL": "/bin/sh"})
    assert shell.command(CommandTemplate(["/bin/echo"]).fill(arguments, 1, 1)) == [
        "/bin/echo",
        *arguments,
    ]


def test_quoted_arguments_pass_through_a_real_shell_unchanged() -> None:
    """Every byte except NUL, and some longer arguments, pass unchanged through /bin/sh."""
    arguments = [
        *(os.fsdecode(bytes([byte])) for byte in range(1, 256)),
        "",
        "'",
        "''",
        "a'b",
        "é☉",
        "\n\n",
        "\\'",
    ]
    line = CommandTemplate([r"printf '%s\0'"]).fill(arguments, 1, 1)
    command = Shell({"PARALLEL_SHELL": "/bin/sh"}).command(line)
    assert command[:2] == ["/bin/sh", "-c"]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert output == b"".join(os.fsencode(argument) + b"\0" for argument in arguments)


SHELL_SYNTAX = [
    "a | b", "a; b", "a > b", "a $b", "a *", "a ~", "a {1,2}", "a # b", "A=1 env", "cd /", "exit 3", "no-such a",
    'a "b"', "a `b`", "a &", "(a)", "! a", "a\nb", "a =ls", "",
]  # fmt: skip


def test_line_with_shell_syntax_runs_in_a_shell() -> None:
    for line in SHELL_SYNTAX:
        assert Shell({"PARALLEL_SHELL": "/bin/sh"}).command(line) == [
            "/bin/sh",
            "-c",
            line,
        ]


def test_builtin_runs_in_a_shell() -> None:
    """A program with the name of a builtin takes other options, or prints something else, so the builtin is run."""
    for line in (
        "true",
        "echo a b",
        "echo -n a",
        "printf '%d' 3",
        "test 3 -gt 2",
        "false",
        "pwd",
    ):
        assert Shell({"PARALLEL_SHELL": "/bin/sh"}).command(line) == [
            "/bin/sh",
            "-c",
            line,
        ]


def test_line_without_shell_syntax_runs_without_a_shell() -> None:
    assert Shell({}).command("cat -n --number=x 'a b' a/b.c,d:e@f%g+h") == [
        "cat", "-n", "--number=x", "a b", "a/b.c,d:e@f%g+h"
    ]  # fmt: skip


def test_exported_function_runs_in_a_shell() -> None:
    """An exported function runs in a shell, because it takes precedence over a program of the same name."""
    shell = Shell(
        {"PARALLEL_SHELL": "/bin/bash", "BASH_FUNC_cat%%": "() { echo mine; }"}
    )
    assert shell.command("cat a") == ["/bin/bash", "-c", "cat a"]


def test_shell_is_chosen_by_the_environment_or_the_parent_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The shell is PARALLEL_SHELL, the one that started trioflow, SHELL if it quotes alike, or else /bin/sh."""
    monkeypatch.setattr(
        "trioflow.batch._template._parent_program", lambda: "/usr/bin/python3"
    )
    assert Shell({"PARALLEL_SHELL": "/x/zsh", "SHELL": "/bin/bash"}).path == "/x/zsh"
    with pytest.raises(
        ValueError, match="PARALLEL_SHELL is '/x/fish', which quotes otherwise"
    ):
        Shell({"PARALLEL_SHELL": "/x/fish"})
    assert [Shell({"SHELL": path}).path for path in ("/bin/bash", "/bin/cat", "/no/bash")] == [
        "/bin/bash", "/bin/sh", "/bin/sh"
    ]  # fmt: skip
    monkeypatch.setattr("trioflow.batch._template._parent_program", lambda: "/bin/sh")
    assert Shell({"SHELL": "/bin/bash"}).path == "/bin/sh"


# --- sources of arguments: words, lines and their products, read on demand
def product(
    *words: str, files: tuple[str, ...] = (), **options: Any
) -> list[tuple[str, ...]]:
    _, groups = parse_sources(words, files, ReadingRules(**options))
    return [
        item
        for item in SourceProduct(groups, ReadingRules(**options)).iter_arguments(
            blocking=True
        )
        if item is not None
    ]


@pytest.fixture
def pipe() -> Iterator[tuple[str, int]]:
    """Return the path of a pipe, and the descriptor that writes to it."""
    read_end, write_end = os.pipe()
    yield f"/dev/fd/{read_end}", write_end
    os.close(read_end)


def test_words_before_the_first_separator_are_the_command() -> None:
    assert parse_sources(["a", "-b", ":::b", ":::", "c"])[0] == ["a", "-b", ":::b"]
    assert parse_sources([":::", "c"])[0] == []


def test_standard_input_is_the_source_if_no_other_is_given() -> None:
    assert parse_sources(["a"]) == (["a"], [[LineSource("-")]])


def test_a_separator_without_arguments_is_an_empty_source() -> None:
    assert [product(":::"), product(":::", "a", ":::"), product(":::", ":::", "a")] == [
        [],
        [],
        [],
    ]


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", ""]), max_size=4), min_size=1, max_size=4
    )
)
def test_several_sources_are_combined_into_their_product(
    sources: list[list[str]],
) -> None:
    words = [word for source in sources for word in (":::", *source)]
    assert product(*words) == list(itertools.product(*sources))


@given(
    st.lists(st.lists(st.sampled_from(["a", "b"]), max_size=4), min_size=3, max_size=3)
)
def test_linked_sources_are_combined_item_by_item(sources: list[list[str]]) -> None:
    """Linked sources make pairs, as many as the shorter one has items; further sources multiply the pairs."""
    first, second, third = sources
    pairs = list(zip(first, second, strict=False))
    expected = [(*pair, other) for pair in pairs for other in third]
    assert product(":::", *first, ":::+", *second, ":::", *third) == expected


def test_lines_of_files_are_arguments(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1\n2\n")
    two.write_text("a\nb")
    assert product(":::", "x", files=(str(one),)) == [("1", "x"), ("2", "x")]
    assert product("::::", str(one), str(two)) == [
        ("1", "a"),
        ("1", "b"),
        ("2", "a"),
        ("2", "b"),
    ]
    assert product("::::", str(one), "::::+", str(two)) == [("1", "a"), ("2", "b")]


@given(
    st.lists(st.binary().map(lambda data: data.replace(b"\n", b"")), max_size=5),
    st.integers(1, 9),
    st.booleans(),
)
def test_lines_of_a_source_arrive_unchanged(
    lines: list[bytes], piece: int, ended: bool
) -> None:
    """Lines of a source may contain any bytes, and may be split between reads; an empty line is an empty argument."""
    data = b"".join(line + b"\n" for line in lines)
    ended = ended or not (lines and lines[-1])
    read_end, write_end = os.pipe()
    os.write(write_end, data if ended else data[:-1])
    os.close(write_end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trioflow.batch._sources.READ_SIZE", piece)
        found = product(files=(f"/dev/fd/{read_end}",))
    os.close(read_end)
    assert [os.fsencode(line) for (line,) in found] == lines


def test_lines_of_a_source_may_end_in_nul(tmp_path: Path) -> None:
    """With `-0`, newlines belong to the arguments, and empty arguments count."""
    (tmp_path / "file").write_bytes(b"a\nb\0\0c")
    assert product(files=(str(tmp_path / "file"),), delimiter=b"\0") == [
        ("a\nb",),
        ("",),
        ("c",),
    ]


def test_first_source_is_read_on_demand(pipe: tuple[str, int]) -> None:
    path, write_end = pipe
    items = SourceProduct(parse_sources([":::", "x"], (path,))[1]).iter_arguments(
        blocking=False
    )
    assert next(items) is None
    os.write(write_end, b"one\ntw")
    assert [next(items), next(items)] == [("one", "x"), None]
    os.write(write_end, b"o\n")
    assert [next(items), next(items)] == [("two", "x"), None]
    os.close(write_end)
    assert list(items) == []


def test_the_number_of_arguments_is_known_unless_a_source_is_unread(
    tmp_path: Path,
) -> None:
    """The number of commands is unknown only as long as a pipe or a large file has not been read."""
    (tmp_path / "file").write_text("1\n2\n")
    (tmp_path / "large").write_text("1\n" * 600_000)
    assert SourceProduct([[["a", "b"]], [["c", "d", "e"]]]).total == 6
    known = SourceProduct([[LineSource(str(tmp_path / "file"))], [["c", "d", "e"]]])
    assert (known.total, len(list(known.iter_arguments(blocking=False)))) == (6, 6)
    assert SourceProduct([[LineSource(str(tmp_path / "large"))]]).total is None
    read_end, write_end = os.pipe()
    os.write(write_end, b"1\n2\n")
    os.close(write_end)
    unknown = SourceProduct([[LineSource(f"/dev/fd/{read_end}")]])
    os.close(read_end)
    assert (unknown.total, unknown.count_commands(), unknown.total) == (None, 2, 2)


@given(
    st.lists(st.text("ab ", min_size=1), max_size=30),
    st.integers(1, 30),
    st.integers(1, 4),
)
def test_lines_are_filled_in_order_up_to_their_size(
    items: list[str], max_size: int, slots: int
) -> None:
    """With -X, commands get all arguments in order, a line is as full as it can be, and the rest goes to all slots."""
    filling = LineFilling(lambda arguments: sum(map(len, arguments)), max_size, slots)
    found = [command or () for command in filling.divide((item,) for item in items)]
    sizes = [sum(map(len, command)) + len(command) for command in found]
    assert [text for command in found for text in command] == items
    assert all(
        len(command) == 1 or size <= max_size
        for command, size in zip(found, sizes, strict=True)
    )
    for size, following in zip(sizes[: -slots or None], found[1:], strict=False):
        assert size + len(following[0]) + 1 > max_size


def test_source_that_cannot_be_read_raises(tmp_path: Path) -> None:
    with pytest.raises(
        BatchError,
        match="cannot read the arguments from '/no/such': No such file or directory",
    ):
        product(files=("/no/such",))
    with pytest.raises(BatchError, match="Is a directory"):
        product(files=(str(tmp_path),))


def test_a_source_that_never_ends_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a device or a pipe, neither a line without an end nor an endless list that comes first is kept."""
    monkeypatch.setattr(_sources.posix, "MAX_STREAM_SIZE", 1 << 14)
    with pytest.raises(
        BatchError, match=r"'/dev/zero': .* without the end of a line; end each with"
    ):
        product(files=("/dev/zero",))
    for separator in ("::::", "::::+"):
        with pytest.raises(
            BatchError,
            match=r"'/dev/zero': .* before the first command starts; end each",
        ):
            product(":::", "a", separator, "/dev/zero", delimiter=b"\0")
    _, groups = parse_sources([], ("/dev/zero",), ReadingRules(delimiter=b"\0"))
    source = SourceProduct(groups)
    beyond = (1 << 14) + 1000
    assert (
        list(itertools.islice(source.iter_arguments(blocking=True), beyond))
        == [("",)] * beyond
    )
    source.close()


def test_a_long_line_takes_time_in_proportion_to_its_items() -> None:
    """A line that is filled with 300,000 items is there at once; adding them up in pairs would take minutes."""
    filling = LineFilling(lambda arguments: 2 * len(arguments), 900_000, 1)
    lines = list(filling.divide(("y",) for _ in range(450_000)))
    assert list(map(len, lines)) == [300_000, 150_000]


@pytest.mark.parametrize("items_per_command", [None, 1, 2, 3])
def test_as_many_commands_are_counted_as_are_made(
    items_per_command: int | None,
) -> None:
    """The last of them may get fewer items."""
    rules = ReadingRules(items_per_command=items_per_command)
    for count in range(8):
        words = ["echo", ":::", *map(str, range(count))]
        _, groups = parse_sources(words, rules=rules)
        product = SourceProduct(groups, rules)
        assert product.total == len([*product.iter_arguments(blocking=True)])
