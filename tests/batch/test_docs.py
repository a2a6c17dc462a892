"""The examples on the pages about batches, parallel and xargs have the output shown there."""

import gzip
import lzma
import os
import re
import subprocess
import sys
from pathlib import Path
import pytest
from trioflow.cli.batch._batch_command import command
from ..places import PATIENCE, ROOT
from ..pythons import make_program

PAGE = (ROOT / "docs" / "command" / "batch.md").read_text(encoding="utf-8")
PARALLEL_PAGE = (ROOT / "docs" / "coming-from" / "parallel.md").read_text(
    encoding="utf-8"
)
BLOCKS = re.findall(
    r"^```console\n(.*?)^```$", PAGE + PARALLEL_PAGE, re.DOTALL | re.MULTILINE
)
FEW = 3
UNTIL_BOTH_RUN = 'echo >> run; until test "$(wc -l < run)" = 2; do sleep 0.01; done'


def shell(directory: Path, script: str) -> str:
    """Run a script as a user who has installed trioflow, with a temporary home directory."""
    programs = directory / "bin"
    programs.mkdir()
    make_program(programs / "trioflow", "-m", "trioflow")
    (programs / "python3").symlink_to(sys.executable)
    environment = {
        **os.environ,
        "HOME": str(directory),
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    environment.pop("PARALLEL_SHELL", None)
    done = subprocess.run(
        ["/bin/sh", "-c", script], cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return done.stdout


def normalized(text: str) -> str:
    """Replace in a text what differs each time: durations, and names of files, which depend on their sizes."""
    text = re.sub(
        r"(commands? failed, )[\d.]+ m?s$", r"\1how long", text, flags=re.MULTILINE
    )
    text = re.sub(r"\d{10}\.\d{3}\t +\d+\.\d{3}", "when\thow long", text)
    return re.sub(r"\b\w+\.py\b", "file.py", text)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_examples_in_the_docs_of_batch_have_the_output_shown(
    tmp_path: Path, number: int
) -> None:
    """The examples in the docs of batches print what is shown; a few files stand in for a few hundred."""
    block = (
        BLOCKS[number]
        .replace("-n 150", f"-n {FEW}")
        .replace("sleep 0.2", UNTIL_BOTH_RUN)
    )
    lines = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    assert lines
    printed = shell(
        tmp_path, "\n".join(f"{line}\necho ----" for line, _ in lines)
    ).split("----\n")
    assert [normalized(output) for output in printed] == [
        *(normalized(output) for _, output in lines),
        "",
    ]
    for packed in (tmp_path / "packed").glob("*"):
        tool = gzip if packed.suffix == ".gzip" else lzma
        assert (
            tool.decompress(packed.read_bytes())
            == (Path(os.__file__).parent / packed.stem).read_bytes()
        )


def test_options_in_the_docs_of_batch_are_those_of_help() -> None:
    """The page about batches has every option of `trioflow batch` except a few aliases, and no other."""
    table = PAGE.partition("## Options")[2].partition("\nA line without")[0]
    told = set(re.findall(r"(?<=[`, ])--?[CEFNSXa-z0][a-z-]*", table))
    known = {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    } - {"words"}
    assert {name for name in known if name not in told} <= {
        "-P",
        "--arg-file",
        "--null",
    }
    assert told <= known


def test_one_target_of_the_makefile_runs_as_the_table_says(tmp_path: Path) -> None:
    """The table once named a job by its file, which the program has not, and promised what it requires."""
    (program,) = re.findall(
        r"^```python\n(.*?)^```$", PARALLEL_PAGE, re.DOTALL | re.MULTILINE
    )
    line = re.search(r"`make words.txt` \| `(trioflow run FILE .*?)`", PARALLEL_PAGE)
    assert line is not None
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("one word\n")
    (tmp_path / "all.txt").write_text("as it was\n")
    (tmp_path / "made.py").write_text(program)
    said = shell(tmp_path, line[1].replace("FILE", "made.py --no-monitor"))
    assert "1 job succeeded" in said
    assert (tmp_path / "words.txt").read_text().strip() == "3"
    assert (tmp_path / "all.txt").read_text() == "as it was\n"
