"""t-strings as command lines (Python 3.14). They are compiled here, because older Pythons cannot parse them."""

import sys
from pathlib import Path
from typing import Any
import pytest
from trioflow import CommandJob, LocalNode, Pool, Scheduler, SshJob, granted
from ...bodies import run
from .commands import PIPE

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="t-strings are new in Python 3.14"
)
QUOTE = "'; echo pwned; '"


def template(text: str, **values: Any) -> Any:
    return eval(f"t{text!r}", values)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("a b", b"a b"), (QUOTE, QUOTE.encode()), ("$(echo pwned)`x`*", b"$(echo pwned)`x`*"), ("", b""), (3, b"3"),
        ("\n# {value}", b"\n# {value}"), (Path("/x y"), b"/x y"), (b"\xff", b"\xff"),
    ],
)  # fmt: skip
def test_the_shell_gets_each_value_of_a_t_string_as_one_word(
    value: Any, word: bytes
) -> None:
    """A value of a t-string reaches the program as it is, whatever it contains, also beside text."""
    line = template("printf '<%s>' {value} x={value} | cat", value=value)
    job = CommandJob(line, shell=True, stdout=PIPE)
    remote = SshJob(LocalNode(), line, values={"value": "y"}, stdout=PIPE)
    run("asyncio", job, remote)
    assert job.result().stdout == remote.result().stdout == b"<%b><x=%b>" % (word, word)


def test_a_value_of_a_t_string_may_be_a_job_or_a_placeholder_or_have_a_format(
    backend: Any,
) -> None:
    """A job in a t-string is a requirement whose result is quoted, as are granted resources and formatted values."""
    first = CommandJob(["printf", QUOTE], stdout=PIPE, label="first")
    values = {"first": first, "gpu": granted("gpu"), "pi": 3.14159}
    job = CommandJob(
        template("printf '%s ' {first} {gpu} {pi:.2f} {pi!s:>2.1}", **values),
        shell=True,
        stdout=PIPE,
        needs={"gpu": 1},
    )
    assert Scheduler(first, job, pool=Pool(gpu=["a b"])).run(backend=backend) is True
    assert job.result().text == f"{QUOTE} a b 3.14  3 "
    assert job.command_line() == job.label == "printf '%s ' <first> {gpu} 3.14 ' 3'"
    assert job.command == (
        "printf '%s ' ",
        first,
        " ",
        values["gpu"],
        " ",
        "3.14",
        " ",
        " 3",
        "",
    )


@pytest.mark.parametrize(
    "text", ["a 'b' \"\\\" c\" $(d) # don't\necho ", "a b#'c' ", r"a \' "]
)
def test_complete_quotations_and_comments_may_precede_a_value(text: str) -> None:
    assert (
        CommandJob(template(text + "{x}", x="b c"), shell=True).command_line()
        == text + "'b c'"
    )


def test_other_wrong_t_strings_are_rejected() -> None:
    job = CommandJob(["true"])
    with pytest.raises(ValueError, match="the command is empty"):
        CommandJob(template(" "), shell=True)
    with pytest.raises(ValueError, match="the command is empty"):
        SshJob("node", template(""))
    with pytest.raises(TypeError, match="or a string with shell=True"):
        CommandJob(template("ls {x}", x=1))
    with pytest.raises(TypeError, match="has no value yet: remove its conversion"):
        CommandJob(template("ls {job!r}", job=job), shell=True)
