"""Replacement strings and quoting: from a template and arguments to a command line."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow.batch._quoting import Shell, quote
from trioflow.batch._template import LineTemplate, base_name, directory_name, remove_extension

ARGUMENTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
PATHS = st.lists(st.sampled_from(["a", "bc", ".", "..", "/", "//", ".gz", "x y", ""])).map("".join)
BYTES = st.binary().map(lambda data: os.fsdecode(data.replace(b"\0", b"")))


def fill(line: str, *arguments: str, sequence: int = 7, slot: int = 3) -> str:
    return LineTemplate([line]).fill(arguments, sequence, slot)


@pytest.mark.parametrize(
    ("place", "found"),
    [("{}", "d.e/b.c"), ("{.}", "d.e/b"), ("{/}", "b.c"), ("{//}", "d.e"), ("{/.}", "b"), ("{#}", "7"), ("{%}", "3")],
)
def test_each_replacement_string_is_the_part_of_gnu_parallel(place: str, found: str) -> None:
    """GNU parallel fills in the same part of the argument."""
    assert fill(f"echo {place}", "d.e/b.c") == f"echo {found}"


def test_numbers_choose_the_source() -> None:
    """Numbers count from the first, 1, or from the last, -1; a missing source gives nothing."""
    assert fill("echo {2} {1.} {-1/} {-2//} [{3}] [{-3}]", "x/a.b", "y/c") == "echo y/c x/a c x [] []"


def test_without_a_number_all_sources_are_meant() -> None:
    """The arguments of all sources are filled in with blanks between them."""
    assert fill("echo p{.}q", "a.b", "c d.e") == "echo pa 'c d'q"


def test_without_a_replacement_string_arguments_come_last() -> None:
    """A sequence number, or braces around anything else, do not count as one."""
    assert [fill("echo", "a", "b"), fill("echo {#}", "a"), fill("echo {x} {+} {3//.}", "a")] == [
        "echo a b", "echo 7", "echo {x} {+} {3//.} a"
    ]  # fmt: skip


def test_in_the_first_word_arguments_are_the_command() -> None:
    """In the first word they may be a part of the name, and are not quoted. The same holds without a command."""
    assert [fill("{} x; {1}", "a; b"), fill("x{} {}", "a b"), LineTemplate([]).fill(["a; b"], 1, 1)] == [
        "a; b x; a; b", "xa b a b", "a; b"
    ]  # fmt: skip
    assert [fill("x {}", "a b"), fill("x\ty{}", "a b"), fill(" {}", "a b")] == ["x 'a b'", "x\ty'a b'", " 'a b'"]


def test_the_value_of_a_variable_before_the_command_is_quoted() -> None:
    """All other arguments are quoted as well, since they are not the command."""
    assert [fill("a={} x", "a; b"), fill("a={#} x {}", "a b"), fill("a=x{} {}", "a b"), fill("{}=x {}", "a b")] == [
        "a='a; b' x", "a=7 x 'a b'", "a=x'a b' 'a b'", "a b=x a b"
    ]  # fmt: skip


def test_what_was_filled_in_is_not_filled_in_again() -> None:
    """Braces in an argument are part of the argument."""
    assert fill("echo {} {#}", "{#} {}") == "echo '{#} {}' 7"


def test_expressions_of_perl_are_refused() -> None:
    """Perl expressions are distinguished from other braces, and the error refers to the tool that supports them."""
    with pytest.raises(ValueError, match=r"\{= \$_\+\+ =\}: Perl expressions work in GNU parallel only"):
        LineTemplate(["echo", "{= $_++ =}"])


@given(PATHS)
def test_the_directory_is_that_of_dirname(path: str) -> None:
    """The oracle is os.path, which the code does not use, for paths that neither are a root nor end in a slash."""
    trimmed = path.rstrip("/")
    expected = "/" if path and not trimmed else (os.path.dirname(trimmed).rstrip("/") or "/" * trimmed.startswith("/"))
    assert directory_name(path) == (expected or ".")


@given(PATHS)
def test_a_path_is_its_directory_and_its_base_name(path: str) -> None:
    """The base name follows the last slash."""
    assert path.endswith(base_name(path))
    assert "/" not in base_name(path)


@given(PATHS)
def test_only_the_last_part_loses_its_extension(path: str) -> None:
    """A dot in a directory's name does not count."""
    stem = remove_extension(path)
    assert path.startswith(stem)
    assert path[len(stem) :].count(".") == int("." in base_name(path))
    assert "/" not in path[len(stem) :]


@given(ARGUMENTS | BYTES | PATHS)
def test_a_quoted_argument_is_one_word_for_a_shell(argument: str) -> None:
    """A shell reads back the same text, whatever its characters."""
    assert shlex.split(f"x {quote(argument)}") == ["x", argument]


@given(st.lists(ARGUMENTS | BYTES, min_size=1))
def test_arguments_of_any_kind_arrive(arguments: list[str]) -> None:
    """A template passes on any argument unchanged, with or without a shell."""
    shell = Shell({"PARALLEL_SHELL": "/bin/sh"})
    command = shell.command(LineTemplate(["/bin/echo"]).fill(arguments, 1, 1))
    assert command == ["/bin/echo", *arguments]


def test_a_real_shell_agrees() -> None:
    """The test sends all one-byte characters, and some longer ones, through the quotes of each installed shell."""
    arguments = [*(os.fsdecode(bytes([byte])) for byte in range(1, 256)), "", "'", "''", "a'b", "é☉", "\n\n", "\\'"]
    line = LineTemplate([r"printf '%s\0'"]).fill(arguments, 1, 1)
    command = Shell({"PARALLEL_SHELL": "/bin/sh"}).command(line)
    assert command[:2] == ["/bin/sh", "-c"]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert output == b"".join(os.fsencode(argument) + b"\0" for argument in arguments)


@pytest.mark.parametrize(
    "line",
    ["a | b", "a; b", "a > b", "a $b", "a *", "a ~", "a {1,2}", "a # b", "A=1 env", "cd /", "exit 3", "no-such a",
     'a "b"', "a `b`", "a &", "(a)", "! a", "a\nb", "a =ls", ""],
)  # fmt: skip
def test_a_line_with_shell_syntax_goes_through_a_shell(line: str) -> None:
    """A missing program goes through it, too, so that the shell reports it."""
    shell = Shell({"PARALLEL_SHELL": "/bin/sh"})
    assert shell.command(line) == ["/bin/sh", "-c", line]


SAME = [
    "true",
    "true a --help",
    "echo",
    "echo a b",
    "echo a -n",
    "echo 'a  b' c",
    "printf 'a\\n'",
    "printf '%s|' a 'b c' d",
    "printf '%s-%s\\t' a",
    "printf ''",
    "test -e /",
    "test -d x",
    "test -n ''",
    "test -z ''",
    "test 3 -gt 2",
    "test -3 -eq -3",
]
OTHER = [
    "true --help", "true --version", "echo -n a", "echo --help", "echo 'a\\tb'", "printf -v x", "printf '%d' 3",
    "printf '%s' ", "printf a b", "printf '%q' a", "printf 'a\\x41'", "printf --help", "test a -gt 2", "test -t 1",
    "test", "test x",
    "test 99999999999 -gt 1", "test -f a b", "test -r x", "false", "pwd",
]  # fmt: skip


@pytest.mark.parametrize("line", SAME)
def test_a_builtin_goes_without_a_shell_where_that_is_the_same(line: str) -> None:
    """The output, exit code and errors equal those of every installed shell."""
    command = Shell({"PARALLEL_SHELL": "/bin/sh"}).command(line)
    own = subprocess.run(command, capture_output=True, check=False)
    assert command == shlex.split(line)
    for path in filter(os.path.exists, ("/bin/sh", "/bin/bash", "/bin/dash", "/bin/zsh", "/bin/ksh")):
        other = subprocess.run([path, "-c", line], capture_output=True, check=False)
        assert (own.returncode, own.stdout, own.stderr) == (other.returncode, other.stdout, other.stderr), path


@pytest.mark.parametrize("line", OTHER)
def test_a_builtin_goes_through_a_shell_where_it_might_differ(line: str) -> None:
    """The shell's version is used wherever the two could behave differently."""
    assert Shell({"PARALLEL_SHELL": "/bin/sh"}).command(line) == ["/bin/sh", "-c", line]


def test_a_plain_line_goes_without() -> None:
    """A line without shell syntax becomes the words of a program."""
    assert Shell({}).command("cat -n --number=x 'a b' a/b.c,d:e@f%g+h") == [
        "cat", "-n", "--number=x", "a b", "a/b.c,d:e@f%g+h"
    ]  # fmt: skip


def test_an_exported_function_goes_through_a_shell() -> None:
    """The function takes precedence over a program of that name."""
    shell = Shell({"PARALLEL_SHELL": "/bin/bash", "BASH_FUNC_cat%%": "() { echo mine; }"})
    assert shell.command("cat a") == ["/bin/bash", "-c", "cat a"]


def test_which_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is PARALLEL_SHELL, the shell that started trioflow, SHELL, /bin/sh; only shells with the same quoting
    count.
    """
    monkeypatch.setattr("trioflow.batch._quoting._parent_program", lambda: "/usr/bin/python3")
    assert Shell({"PARALLEL_SHELL": "/x/fish", "SHELL": "/bin/bash"}).path == "/x/fish"
    assert [Shell({"SHELL": path}).path for path in ("/bin/bash", "/bin/cat", "/no/bash")] == [
        "/bin/bash", "/bin/sh", "/bin/sh"
    ]  # fmt: skip
    monkeypatch.setattr("trioflow.batch._quoting._parent_program", lambda: "/bin/sh")
    assert Shell({"SHELL": "/bin/bash"}).path == "/bin/sh"
