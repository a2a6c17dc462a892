"""mypy and pyright on the programs of the documentation, and pyright on the examples: `python -m tests.docs_types`.

The Python blocks of a page make one module, in which lines keep their numbers; on a page with sessions each block is a
program that a reader saves. Sessions with `>>>` and assertions at the top are there for the tests: no program has them.
What a page redefines from block to block, and what is not installed or has no types, is no fault of a program."""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from .places import ROOT, SESSIONS

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)

EXPLAINED = {
    "examples/mock_api.py": ("server: Server",),  # as the docs of `http.server` have it
    "docs/how-to/try_again.md": ("{numbr} uploaded",),  # the bug that the page mends
    "examples/own_kind.py": (
        "self.last_result =",
    ),  # an attribute in place of a property
}
"""Of each file, parts of the lines on which type checkers rightly report something. Each of them has to do so."""

MYPY = """\
[mypy]
check_untyped_defs = true
allow_redefinition_new = true
local_partial_types = true
disable_error_code = no-redef, var-annotated, has-type, import-untyped, import-not-found
explicit_package_bases = true
"""
PYRIGHT = {
    "pythonVersion": "3.11", "reportRedeclaration": False, "reportMissingImports": False,
    "reportMissingModuleSource": False, "reportPrivateImportUsage": False, "reportUnusedExpression": False,
}  # fmt: skip
OTHER_LIBRARIES = [
    f"docs/coming-from/{name}.md" for name in ("apssh", "asynciojobs", "pyexpool")
]
"""Pages on which one name is the class of another library first, of which only pyright finds types, and then ours."""


def programs(page: Path) -> Iterator[str]:
    """Yield the programs of a page, with empty lines in place of all else."""
    text = page.read_text(encoding="utf-8")
    lines: list[str] = []
    for block in BLOCK.finditer(text):
        start = text[: block.start(1)].count("\n")
        lines += [""] * (start - len(lines))
        if not block[1].startswith(">>>"):
            lines += block[1].splitlines()
            for statement in ast.parse(block[1]).body:
                if isinstance(statement, ast.Assert):
                    end = statement.end_lineno or statement.lineno
                    lines[start + statement.lineno - 1 : start + end] = [""] * (
                        end - statement.lineno + 1
                    )
        if str(page.relative_to(ROOT)) in SESSIONS:
            yield "\n".join(lines)
            lines = []
    yield "\n".join(lines)


def write_programs(folder: Path) -> None:
    for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))):
        for number, program in enumerate(programs(page)):
            file = folder / page.relative_to(ROOT).with_suffix(f".{number}.py")
            file = file.with_name(re.sub(r"\W", "_", file.stem) + ".py")
            if program.strip():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(program + "\n", encoding="utf-8")


def faults(output: str, folder: Path, unused: set[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines with an error that is not explained, with their lines of the page.

    Args:
        output: that of a type checker.
        folder: where it ran.
        unused: the explanations, by page, without those that explain an error.

    """
    for path, number, rest in re.findall(
        r"^ *(\S+?\.py):(\d+)(.* error\b.*)$", output, re.MULTILINE
    ):
        file = folder / path
        line = file.read_text(encoding="utf-8").splitlines()[int(number) - 1]
        name = str(file.relative_to(folder))
        page = re.sub(r"_\d+\.py$", ".md", name)
        explained = {(page, part) for part in EXPLAINED.get(page, ()) if part in line}
        unused -= explained
        if not explained:
            yield f"{page}:{number}{rest}\n    {line.strip()}"


def main() -> int:
    """Check all programs; return 0 if none has a fault that is not explained."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write_programs(folder)
        (folder / "examples").symlink_to(ROOT / "examples")
        (folder / "mypy.ini").write_text(MYPY + f"mypy_path = {ROOT / 'typings'}\n")
        others = [f"{page[:-3].replace('-', '?')}_*.py" for page in OTHER_LIBRARIES]
        settings = PYRIGHT | {
            "include": ["README_0.py", "docs", "examples"],
            "exclude": others,
        }
        settings["stubPath"] = str(ROOT / "typings")
        (folder / "pyrightconfig.json").write_text(json.dumps(settings))
        cache = Path(os.environ.get("MYPY_CACHE_DIR", ROOT / ".mypy_cache"))
        commands = (
            ["mypy", f"--cache-dir={cache / 'docs'}", "README_0.py", "docs"],
            ["pyright", "--pythonpath", sys.executable],
        )
        found: list[str] = []
        unused = {(page, part) for page, parts in EXPLAINED.items() for part in parts}
        for command in commands:
            done = subprocess.run(
                [sys.executable, "-m", *command],
                cwd=folder,
                capture_output=True,
                text=True,
            )
            found += faults(done.stdout.replace(f"{folder}/", ""), folder, unused)
            if done.returncode not in (0, 1):
                found.append(done.stdout + done.stderr)
    found += [f"{page}: no line with {part!r} has an error" for page, part in unused]
    print(*found, f"{len(found)} faults in the programs of the documentation", sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
