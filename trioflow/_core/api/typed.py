# pyright: reportUnusedImport=false
"""Types of functions and of their arguments, for the signatures of kinds of jobs."""

from ..job._argument_types import (
    A,
    B,
    C,
    IterableFunction,
    JobOf,
    PlainFunction1,
    PlainFunction2,
    PlainFunction3,
    ValueOrJob,
)
