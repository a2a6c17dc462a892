"""The workflows of CI: what a foreign action or package could do with their permissions."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
import types
from pathlib import Path
from typing import Any
import pytest
from packaging.requirements import Requirement
from .places import ROOT, patiently


@pytest.mark.parametrize(
    "workflow",
    sorted((ROOT / ".github" / "workflows").glob("*.yml")),
    ids=lambda path: path.name,
)
def test_actions_are_pinned_by_commit_and_keep_no_credentials(workflow: Path) -> None:
    """A tag of an action can be moved to other code, and the token of a checkout could be read by what runs later."""
    text = workflow.read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    assert [
        name
        for name, comment in used
        if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name) or "# v" not in comment
    ] == []
    assert len(re.findall("actions/checkout@", text)) == text.count(
        "persist-credentials: false"
    )


def release_jobs() -> dict[str, str]:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    jobs = re.split(r"^  (\w+):$", text.partition("\njobs:\n")[2], flags=re.MULTILINE)
    return dict(zip(jobs[1::2], jobs[2::2], strict=True))


def test_the_job_that_may_publish_runs_no_code_of_ours() -> None:
    """The job with the permission to publish downloads what the job `build` has built, and neither builds nor tests."""
    jobs = release_jobs()
    assert [name for name, job in jobs.items() if "id-token: write" in job] == [
        "publish"
    ]
    assert not re.search(
        r"\brun:|actions/checkout|setup-python|contents:", jobs["publish"]
    )
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
    assert [name for name, job in jobs.items() if "upload-artifact@" in job] == [
        "build"
    ]
    assert "needs:" not in jobs["build"]
    script = (ROOT / ".ci" / "release").read_text(encoding="utf-8")
    bodies = dict(
        re.findall(r"^(\w+)\(\) \{\n(.*?)^\}$", script, re.MULTILINE | re.DOTALL)
    )
    called, todo = dict[str, str](), ["built"]
    while todo:
        name = todo.pop()
        called[name] = bodies[name]
        todo += [
            other
            for other in bodies
            if re.search(rf"\b{other}\b", bodies[name]) and other not in called
        ]
    assert {"built", "build", "is_ready"} <= called.keys()
    assert not {"tested", "installs", "passes_the_tests"} & called.keys()
    installs = [
        line
        for body in called.values()
        for line in body.splitlines()
        if re.search(r"\binstall ", line)
    ]
    assert [
        line for line in installs if "--require-hashes --only-binary :all:" not in line
    ] == [line for line in installs if "[[ $1 == tools ]] || " in line]
    assert "python -m build --no-isolation" in called["build"]


def test_each_tool_of_a_release_has_a_version_and_hashes() -> None:
    """The tools with known hashes are those that pyproject.toml asks for, and what these need."""
    text = (ROOT / ".ci" / "release-tools.txt").read_text(encoding="utf-8")
    tools = re.findall(
        r"^([a-z][\w-]*)==([\w.]+)[^\n]*\\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+",
        text,
        re.MULTILINE,
    )
    assert len(tools) == len(re.findall(r"^[^#\s]", text, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = map(
        Requirement,
        [
            *project["dependency-groups"]["release"],
            *project["build-system"]["requires"],
        ],
    )
    versions = dict(tools)
    assert all(
        requirement.specifier.contains(versions[requirement.name])
        for requirement in wanted
    )


URLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "urls"
]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_page_on_a_package_index_leads_to_the_repository(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The links and pictures of the README are absolute there, whoever builds the package."""
    interface = "hatchling.metadata.plugin.interface"
    monkeypatch.setitem(
        sys.modules, interface, types.SimpleNamespace(MetadataHookInterface=object)
    )
    hook = runpy.run_path(str(ROOT / ".ci" / "pypi_readme.py"))["AbsoluteReadme"]()
    hook.root = str(ROOT)
    metadata: dict[str, Any] = {"urls": URLS, "version": "1.2"}
    hook.update(metadata)
    text = metadata["readme"]["text"]
    assert re.findall(r"""\]\((?!https://)|src(?:set)?="(?!https://)""", text) == []
    assert f"]({URLS['Repository']}/blob/v1.2/docs/stability.md)" in text
    assert f'src="{URLS["Repository"]}/raw/v1.2/docs/pictures/page.png"' in text
    assert text.count("](") == README.count("](")


def test_each_address_is_in_one_repository() -> None:
    """The release compares it with the one that is cloned."""
    assert all(address.startswith(URLS["Repository"]) for address in URLS.values())
    assert {"Changelog", "Documentation", "Security"} <= URLS.keys()
    assert f"$ git clone {URLS['Repository']} && " in README


@pytest.mark.parametrize("page", ["README.md", "docs/README.md"])
def test_the_first_command_of_a_page_needs_no_clone(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    (first, *_) = re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    assert first.endswith("pip install 'trioflow[cli]'")
    assert "clone" not in text.partition(first)[0]


@patiently(0.2, 5, 60)
def test_a_stage_of_ci_that_hangs_is_killed_and_named(
    unit: float, tmp_path: Path
) -> None:
    """What it has printed is told again at the end of all stages."""
    command = ["bash", ".ci/run", "report", "bash", "-c", "echo under way; sleep 1000"]
    failures = tmp_path / "failures"
    environment = {
        **os.environ,
        "CI_STAGE_SECONDS": str(unit),
        "CI_FAILURES": str(failures),
    }
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    begins, under_way, end = done.stdout.splitlines()
    assert done.returncode
    assert re.match(
        rf"##### bash .*: begins at \d\d:\d\d:\d\d, and may take {unit} s", begins
    )
    assert under_way == "under way"
    assert f"HANGS: killed after {unit} s" in end
    _, told, *printed = failures.read_text().splitlines()
    assert told.startswith("##### bash -c echo under way; sleep 1000 has failed")
    assert printed == ["under way"]
