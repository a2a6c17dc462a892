# pyright: reportUnusedImport=false
"""The engine's interface for `trioflow.testing.explore`, which intercepts the calls of jobs and interrupts runs."""

from ..base._user_code import PACKAGE_PREFIX, describe_line
from ..job._interception import intercept_calls
from ..job._job_queries import has_hard_timeout, runs_outside_loop
from ..scheduler._base_scheduler import interrupt
