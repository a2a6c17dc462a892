"""The page on coming from apssh: its two programs do the same, and its table has each class."""

import fcntl
import getpass
import inspect
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
import pytest
import trioflow
from ...places import DOCS, ROOT
from ...pythons import python
from .servers import HOME, Site

PAGE = (DOCS / "coming-from" / "apssh.md").read_text(encoding="utf-8")
BEFORE = (ROOT / "tests" / "compat" / "programs" / "probe_by_apssh.py").read_text(
    encoding="utf-8"
)
(AFTER,) = re.findall(
    r"^```python\n(from argparse.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
)


@pytest.fixture
def locked_home() -> Iterator[None]:
    """Lock the user's home, which is that of all nodes: apssh has a folder in it, with fixed names."""
    with (
        Path(tempfile.gettempdir()) / f"trioflow-tests-{getpass.getuser()}.lock"
    ).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        there_before = (HOME / ".apssh-remote").exists()
        yield
        if not there_before:
            shutil.rmtree(HOME / ".apssh-remote", ignore_errors=True)


@pytest.mark.parametrize("program", [BEFORE, AFTER], ids=["apssh", "trioflow"])
@pytest.mark.usefixtures("locked_home")
def test_the_apssh_and_trioflow_programs_of_the_page_do_the_same(
    site: Site, tmp_path: Path, program: str
) -> None:
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    (tmp_path / "traffic.txt").write_text("sent\nlost\nsent\nlost\n")
    (tmp_path / "functions.sh").write_text('hello() { echo "hello $1"; }\n')
    (tmp_path / "prepare.sh").write_text(
        '#!/bin/bash\nsource "$(dirname "$BASH_SOURCE")/functions.sh"\nhello "$1"\n'
    )
    (tmp_path / "results").mkdir()
    server = site.serve(2)
    words = [
        server.address,
        "--user",
        getpass.getuser(),
        "--port",
        str(server.port),
        "--key",
        str(site.identity),
    ]
    known = ["--known-hosts", str(tmp_path / "known")] if program is AFTER else []
    done = python("program.py", *words, *known, cwd=tmp_path, text=True)
    server.stop()
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "complete: True"), (
        done.stderr
    )
    assert re.search(
        r"^\d\d-\d\d-\d\d:\S*127\.0\.0\.2:hello 127\.0\.0\.2$",
        done.stdout,
        re.MULTILINE,
    )
    assert (
        (tmp_path / "results" / "127.0.0.2.txt").read_text()
        == (tmp_path / "summary.txt").read_text()
        == "2\n"
    )
    assert not (HOME / "probe-127.0.0.2").exists()


def test_the_table_of_the_page_has_a_row_for_each_class_of_apssh() -> None:
    import apssh  # not in each process that collects the tests: asyncssh calls a compiler to look for libraries

    table = PAGE.partition("## Class by class")[2].partition("| option or function |")[
        0
    ]
    rows = [
        row.split(" | ", 1) for row in re.findall(r"^\| (`.*) \|$", table, re.MULTILINE)
    ]
    shown = {re.findall(r"\w+", row)[0] for row, _ in rows}
    classes = {
        name
        for name, value in vars(apssh).items()
        if inspect.isclass(value) and name[0] != "_"
    }
    assert shown == classes
    ours = set(re.findall(r"`(\w+)\(", "".join(told for _, told in rows)))
    assert {name for name in ours if not hasattr(trioflow, name)} == set()
