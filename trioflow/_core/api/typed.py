# pyright: reportUnusedImport=false
"""The types of functions and of their arguments, with which a kind of job declares its calls to type checkers."""

from ..job._argument_types import (
    A,
    B,
    C,
    Given,
    GivenJob,
    PlainFunction1,
    PlainFunction2,
    PlainFunction3,
    TakesIterable,
)
