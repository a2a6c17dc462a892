# pyright: reportUnusedImport=false
"""The engine's interface for `trioflow.testing.explore`, which intercepts the calls of jobs and interrupts runs."""

from ..base._user_code import PACKAGE_PREFIX, describe_line
from ..job._facts import has_hard_timeout, run_scope, runs_outside_loop
from ..job._interception import intercept_calls
from ..scheduler._base_scheduler import interrupt
