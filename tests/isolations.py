"""Which isolation of the backends the tests are about: fast, or with `TRIOFLOW_ISOLATION=direct` the fallback."""

import os
from typing import Final
from trioflow._core import backend

ISOLATION: Final = os.environ.get("TRIOFLOW_ISOLATION") or "fast"

# Also for the programs that tests start: a private part that differs is then an error, and nothing takes its place.
os.environ["TRIOFLOW_ISOLATION"] = ISOLATION
backend.choose_isolation(ISOLATION)


def check() -> None:
    for name in backend.BACKEND_LIBRARIES:
        used = type(backend.get_backend(name).isolation).__name__
        assert used.lower() == f"{ISOLATION}{name}", (
            f"the tests are about {ISOLATION} isolation, and {used} is in use"
        )
