# pyright: reportUnusedImport=false
"""The engine's interface for kinds of jobs; `trioflow.abc` re-exports it to users."""

from ..backend import load_backend, loop_running
from ..base._reprs import fit, is_among, name_in_errors, short_repr, shown_value
from ..base._units import join_names, plural
from ..job._arguments import reject_text
from ..job._function import FunctionJob, call_of, name_of
from ..job._job import BoxStyle
from ..job._job_options import JobOptions, callback, declare_run_resource, duration, file_path, flag, whole_number
from ..job._kind import JobKind, arguments_of, original_arguments_of
from ..job._labels import label_inside, printable
from ..job._option_descriptors import set_run_need
from ..run._current import propagate_env, propagated_env
from ..run._handle import RunHandle, run_of
from ..run._idle_timeouts import ThreadEvent, TimeLimit
from ..run._requirement_counts import users_of
