"""Build the site from the Markdown of this folder: `python -m docs`, or `python -m docs --open` to look at it.

Warnings are errors, internal links are checked, and nothing is fetched: what is known of other projects' names is in
`inventories/`. It needs the dependency group `docs`: `pip install -e . --group docs`.
"""

import argparse
import runpy
import subprocess
import sys
import urllib.request
import webbrowser
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
SITE = ROOT / "build" / "site"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m docs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--open",
        action="store_true",
        help="show the site in a browser when it is built",
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="read all pages again, not only those that have changed",
    )
    parser.add_argument(
        "--to", type=Path, default=SITE, metavar="FOLDER", help="default: build/site"
    )
    others = parser.add_mutually_exclusive_group()
    others.add_argument(
        "--external",
        action="store_true",
        help="check the links to other sites instead (it asks them)",
    )
    others.add_argument(
        "--inventories",
        action="store_true",
        help="fetch what is known of other projects' names again",
    )
    options = parser.parse_args()
    if options.inventories:
        return fetch_inventories()
    failed = sphinx(
        "linkcheck" if options.external else "html", options.to, fresh=options.fresh
    )
    if options.open and not failed:
        webbrowser.open((options.to / "index.html").as_uri())
    return failed


def sphinx(builder: str, to: Path, *, fresh: bool) -> int:
    """Call Sphinx with warnings as errors, and return its exit code."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-n",
        "-W",
        "--keep-going",
        "-b",
        builder,
    ]
    command += [
        "-d",
        str(to.with_name(f"{to.name}-doctrees")),
        *(["-E", "-a"] if fresh else []),
    ]
    failed = subprocess.run([*command, str(DOCS), str(to)], check=False).returncode
    if not failed and builder == "html":
        print(f"The site is in {to / 'index.html'}")
    return failed


def fetch_inventories() -> int:
    """Fetch the inventory of each project that `conf.py` names."""
    for address, file in runpy.run_path(str(DOCS / "conf.py"))[
        "intersphinx_mapping"
    ].values():
        with urllib.request.urlopen(f"{address}/objects.inv", timeout=60) as answer:
            Path(file).write_bytes(answer.read())
        print(f"{file} is that of {address}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
