"""Tests in several processes: what `tests/processes.py` promises."""

import re
import pytest
from .pythons import run_pytest

pytest_plugins = ["pytester"]

PLUGIN = ("-p", "tests.processes", "-p", "no:timeout", "--processes", "2")
FILES = {
    "test_ends": """
import os, pytest
@pytest.mark.parametrize("number", range(4))
def test_row(number):
    if number == 1:
        os._exit(3)
""",
    "test_stays": """
import os, pathlib, pytest
@pytest.fixture(scope="module")
def own():
    yield os.getpid()
    pathlib.Path("closed").open("a").write("closed\\n")
@pytest.mark.parametrize("number", range(3))
def test_row(number, own, tmp_path):
    assert own == os.getpid() != COLLECTED
    print("said by", number)
    assert number != 2
COLLECTED = os.getpid()
""",
}


@pytest.fixture
def tree(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(**FILES)
    return pytester


def test_a_process_that_ends_in_a_test_fails_this_test_alone(
    tree: pytest.Pytester,
) -> None:
    """The rest of its file runs in another process. The tests of a file that stays run in one, with one fixture, and a
    failure shows what its test has printed, and nothing of others."""
    done = run_pytest(tree, *PLUGIN)
    done.assert_outcomes(passed=5, failed=2)
    text = done.stdout.str()
    assert "the process of this test has ended in the middle of it, with 3" in text
    assert re.findall("said by .", text) == ["said by 2"]
    assert (tree.path / "closed").read_text() == "closed\n"


def test_after_x_no_other_unit_begins(tree: pytest.Pytester) -> None:
    """With `-x`, the first failure ends all processes, and their fixtures are closed."""
    tree.makepyfile(
        test_ends="import time\ndef test_one(): time.sleep(600)",
        test_more="def test_two(): pass",
    )
    done = run_pytest(
        tree, *PLUGIN, "-x", "test_ends.py", "test_stays.py", "test_more.py"
    )
    done.assert_outcomes(passed=2, failed=1)
    assert (tree.path / "closed").read_text() == "closed\n"
