"""The program on the page about CI, with a compile step that fails."""

from __future__ import annotations

import re
import shlex
import socket
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ..cli.command_line import run
from ..places import DOCS


def test_a_failed_compile_step_stops_the_steps_that_require_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed compile step, link and tests are skipped, lint goes on, and exit code and JUnit show this."""
    (program,) = re.findall(r"```python\n(# ci\.py\n.*?)```", (DOCS / "how-to/ci.md").read_text("utf-8"), re.DOTALL)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.chdir(tmp_path)
    for name, text in {"ci.py": program, "main.c": "int main(void) { return 0; }", "table.c": "int x = ;"}.items():
        Path(name).write_text(text, encoding="utf-8")
    Path("table.o").touch()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listen = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(60)"
    database = shlex.join([sys.executable, "-c", listen])
    done = run("ci.py", "--set", f"database={database}", "--set", f"port={port}", "--junit", "junit.xml")
    cases = ElementTree.parse("junit.xml").iter("testcase")
    outcomes = {case.get("name"): [one.tag for one in case if not one.tag.startswith("system")] for case in cases}
    assert done.exit_code == 3
    assert outcomes["table.o"] == outcomes["lint"] == ["failure"]
    assert outcomes["link"] == outcomes["tests"] == ["skipped"]
