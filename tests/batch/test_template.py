"""Replacement strings and quoting: from a template and arguments to a command line."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow.batch._template import CommandTemplate, Shell, base_name, directory_name, remove_extension
from trioflow.jobs.command._shell_places import quote
from ..jobs.command.hostile_values import HOSTILE, runs_nothing

ARGUMENTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
PATHS = st.lists(st.sampled_from(["a", "bc", ".", "..", "/", "//", ".gz", "x y", ""])).map("".join)
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
    assert fill("echo {2} {1.} {-1/} {-2//} [{3}] [{-3}]", "x/a.b", "y/c") == "echo y/c x/a c x [] []"


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
    assert [fill("x {}", "a b"), fill("x\ty{}", "a b"), fill(" ./{}", "a b")] == ["x 'a b'", "x\ty'a b'", " ./'a b'"]


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


@pytest.mark.parametrize("line", ["./{}", "bin/{} x", "{}.sh", "a {} > {#}.out", "echo '{#} $(echo {%})' \"{%}\" {.}"])
def test_no_part_of_a_hostile_argument_runs(tmp_path: Path, line: str) -> None:
    """A line with replacement strings of a batch runs no part of an argument, in any shell that is installed."""
    runs_nothing(tmp_path, *(fill(line, argument) for argument in HOSTILE))


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
    with pytest.raises(ValueError, match=r"\{= \$_\+\+ =\}: Perl expressions work in GNU parallel only"):
        CommandTemplate(["echo", "{= $_++ =}"])


@given(PATHS)
def test_directory_of_a_path_is_that_of_dirname(path: str) -> None:
    trimmed = path.rstrip("/")
    expected = "/" if path and not trimmed else (os.path.dirname(trimmed).rstrip("/") or "/" * trimmed.startswith("/"))
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
def test_template_passes_on_arguments_of_any_kind_unchanged(arguments: list[str]) -> None:
    """Arguments of any kind reach a program unchanged; since they are quoted, no shell is needed."""
    shell = Shell({"PARALLEL_SHELL": "/bin/sh"})
    assert shell.command(CommandTemplate(["/bin/echo"]).fill(arguments, 1, 1)) == ["/bin/echo", *arguments]


def test_quoted_arguments_pass_through_a_real_shell_unchanged() -> None:
    """Every byte except NUL, and some longer arguments, pass unchanged through /bin/sh."""
    arguments = [*(os.fsdecode(bytes([byte])) for byte in range(1, 256)), "", "'", "''", "a'b", "é☉", "\n\n", "\\'"]
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
        assert Shell({"PARALLEL_SHELL": "/bin/sh"}).command(line) == ["/bin/sh", "-c", line]


def test_builtin_runs_in_a_shell() -> None:
    """A program with the name of a builtin takes other options, or prints something else, so the builtin is run."""
    for line in ("true", "echo a b", "echo -n a", "printf '%d' 3", "test 3 -gt 2", "false", "pwd"):
        assert Shell({"PARALLEL_SHELL": "/bin/sh"}).command(line) == ["/bin/sh", "-c", line]


def test_line_without_shell_syntax_runs_without_a_shell() -> None:
    assert Shell({}).command("cat -n --number=x 'a b' a/b.c,d:e@f%g+h") == [
        "cat", "-n", "--number=x", "a b", "a/b.c,d:e@f%g+h"
    ]  # fmt: skip


def test_exported_function_runs_in_a_shell() -> None:
    """An exported function runs in a shell, because it takes precedence over a program of the same name."""
    shell = Shell({"PARALLEL_SHELL": "/bin/bash", "BASH_FUNC_cat%%": "() { echo mine; }"})
    assert shell.command("cat a") == ["/bin/bash", "-c", "cat a"]


def test_shell_is_chosen_by_the_environment_or_the_parent_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell is PARALLEL_SHELL, the one that started trioflow, SHELL if it quotes alike, or else /bin/sh."""
    monkeypatch.setattr("trioflow.batch._template._parent_program", lambda: "/usr/bin/python3")
    assert Shell({"PARALLEL_SHELL": "/x/zsh", "SHELL": "/bin/bash"}).path == "/x/zsh"
    with pytest.raises(ValueError, match="PARALLEL_SHELL is '/x/fish', which quotes otherwise"):
        Shell({"PARALLEL_SHELL": "/x/fish"})
    assert [Shell({"SHELL": path}).path for path in ("/bin/bash", "/bin/cat", "/no/bash")] == [
        "/bin/bash", "/bin/sh", "/bin/sh"
    ]  # fmt: skip
    monkeypatch.setattr("trioflow.batch._template._parent_program", lambda: "/bin/sh")
    assert Shell({"SHELL": "/bin/bash"}).path == "/bin/sh"
