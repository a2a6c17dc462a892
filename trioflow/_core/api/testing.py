# pyright: reportUnusedImport=false
"""What an exploration does to a run: it makes the calls of jobs its own, and interrupts the run."""

from ..base._user_code import OURS, line_at
from ..job._facts import ends_by_itself, ends_what_hangs, scope_of_run, works_elsewhere
from ..job._interception import steer
from ..scheduler._scheduler import interrupt
