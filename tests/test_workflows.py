"""The workflows of CI: what a foreign action or package could do with their permissions."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from .places import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_keep_no_credentials(workflow: Path) -> None:
    """A tag of an action can be moved to other code, and the token of a checkout could be read by what runs later."""
    text = workflow.read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    assert [
        name for name, comment in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name) or "# v" not in comment
    ] == []
    assert len(re.findall("actions/checkout@", text)) == text.count("persist-credentials: false")


def test_the_job_that_may_publish_runs_no_code_of_ours() -> None:
    """The job with the permission to publish downloads what another job has tested, and neither builds nor tests."""
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    jobs = re.split(r"^  (?=\w+:$)", text.partition("\njobs:\n")[2], flags=re.MULTILINE)
    (publishing,) = [job for job in jobs if "id-token: write" in job]
    assert not re.search(r"\brun:|actions/checkout|setup-python|contents:", publishing)
    assert publishing.count("uses:") == 2


def test_the_project_on_a_package_index_tells_where_to_report(tmp_path: Path) -> None:
    """A release adds the address of its repository to the metadata: of the changelog, and of how to report."""
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    functions = (ROOT / ".ci" / "release").read_text(encoding="utf-8").partition("\nmain\n")[0]
    functions = functions.partition("main() {")[2].partition("\n}\n")[2]
    script = f"{functions}\ngit() {{ echo git@example.org:a/b.git; }}\nversion=1.2\nwith_urls pyproject.toml"
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True)
    urls = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert urls["Repository"] == "https://example.org/a/b"
    assert urls["Security"] == "https://example.org/a/b/blob/v1.2/SECURITY.md"
