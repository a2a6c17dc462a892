"""Tests that pass plainly and fail in a job, each with the reason why that is right."""

import sys
from typing import Final

CTRL_C: Final = (
    "the task of a job counts as protected from Ctrl-C, because its worker is: the handler of the run raises it in a "
    "job only while the code of the job is being executed, and otherwise the run ends cleanly"
)
TASKS: Final = "it counts the tasks of the loop: a run has its own, one more than a test without a scheduler"
OPEN: Final = "it leaves a cancel scope open: as a job it fails, because the next job would be in that scope"

EXPLAINED: Final[dict[str, dict[str, str]]] = {
    "trio": {
        "test_cancelled::test_reason_delayed_ki": CTRL_C,
        "test_repl::test_KI_interrupts": CTRL_C,
        "test_run::test_current_statistics": TASKS,
    },
    "anyio": {
        "test_taskgroups::test_cancelscope_wrong_exit_order[asyncio]": OPEN,
        "test_taskgroups::test_cancelscope_wrong_exit_order[asyncio+uvloop]": OPEN,
    },
}
"""By suite and name of the test."""
if sys.version_info >= (3, 12):
    EXPLAINED["anyio"]["test_taskgroups::test_cancelscope_wrong_exit_order[asyncio+eager]"] = OPEN
