"""The workflows of CI: what a foreign action or package could do with their permissions."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
import pytest
from packaging.requirements import Requirement
from .places import ROOT, patiently


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_keep_no_credentials(workflow: Path) -> None:
    """A tag of an action can be moved to other code, and the token of a checkout could be read by what runs later."""
    text = workflow.read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    assert [
        name for name, comment in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name) or "# v" not in comment
    ] == []
    assert len(re.findall("actions/checkout@", text)) == text.count("persist-credentials: false")


def release_jobs() -> dict[str, str]:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    jobs = re.split(r"^  (\w+):$", text.partition("\njobs:\n")[2], flags=re.MULTILINE)
    return dict(zip(jobs[1::2], jobs[2::2], strict=True))


def test_the_job_that_may_publish_runs_no_code_of_ours() -> None:
    """The job with the permission to publish downloads what the job `build` has built, and neither builds nor tests."""
    jobs = release_jobs()
    assert [name for name, job in jobs.items() if "id-token: write" in job] == ["publish"]
    assert not re.search(r"\brun:|actions/checkout|setup-python|contents:", jobs["publish"])
    assert jobs["publish"].count("uses:") == 2
    assert "needs: [build, test]" in jobs["publish"]
    assert "artifact-ids: ${{ needs.build.outputs.artifact }}" in jobs["publish"]


def test_what_is_published_was_in_no_job_with_foreign_packages() -> None:
    """One job alone uploads, before packages of the tests run, and installs nothing but tools with known hashes."""
    jobs = release_jobs()
    assert {name: re.findall(r"run: (.*)", job) for name, job in jobs.items()} == {
        "build": [".ci/release build"],
        "test": [".ci/release test"],
        "publish": [],
    }
    assert [name for name, job in jobs.items() if "upload-artifact@" in job] == ["build"]
    assert "needs:" not in jobs["build"]
    script = (ROOT / ".ci" / "release").read_text(encoding="utf-8")
    bodies = dict(re.findall(r"^(\w+)\(\) \{\n(.*?)^\}$", script, re.MULTILINE | re.DOTALL))
    called, todo = dict[str, str](), ["built"]
    while todo:
        name = todo.pop()
        called[name] = bodies[name]
        todo += [other for other in bodies if re.search(rf"\b{other}\b", bodies[name]) and other not in called]
    assert {"built", "build", "is_ready"} <= called.keys()
    assert not {"tested", "installs", "passes_the_tests"} & called.keys()
    installs = [line for body in called.values() for line in body.splitlines() if re.search(r"\binstall ", line)]
    assert [line for line in installs if "--require-hashes --only-binary :all:" not in line] == [
        line for line in installs if "[[ $1 == tools ]] || " in line
    ]
    assert "python -m build --no-isolation" in called["build"]


def test_each_tool_of_a_release_has_a_version_and_hashes() -> None:
    """The tools with known hashes are those that pyproject.toml asks for, and what these need."""
    text = (ROOT / ".ci" / "release-tools.txt").read_text(encoding="utf-8")
    tools = re.findall(
        r"^([a-z][\w-]*)==([\w.]+)[^\n]*\\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", text, re.MULTILINE
    )
    assert len(tools) == len(re.findall(r"^[^#\s]", text, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = map(Requirement, [*project["dependency-groups"]["release"], *project["build-system"]["requires"]])
    versions = dict(tools)
    assert all(requirement.specifier.contains(versions[requirement.name]) for requirement in wanted)


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


@patiently(0.2, 5, 60)
def test_a_stage_of_ci_that_hangs_is_killed_and_named(unit: float) -> None:
    command = ["bash", ".ci/run", "report", "bash", "-c", "echo under way; sleep 1000"]
    environment = {**os.environ, "CI_STAGE_SECONDS": str(unit)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    begins, under_way, end = done.stdout.splitlines()
    assert done.returncode
    assert re.match(rf"##### bash .*: begins at \d\d:\d\d:\d\d, and may take {unit} s", begins)
    assert under_way == "under way"
    assert f"HANGS: killed after {unit} s" in end
