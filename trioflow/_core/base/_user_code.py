"""The user's code, as opposed to trioflow and other libraries: exceptions, lines in tracebacks, and functions.

The parts of an exception are read as Python itself reads them, even if its class overrides the attributes: a
user-defined class may have an attribute of its own named like a part, such as `args`, and reading it may raise.
`inspect` is imported in the functions, because its import takes 5 ms.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from ..._hints import WRONG_BACKEND_REMEDY
from ._text_forms import clause

if TYPE_CHECKING:
    import inspect

PACKAGE_NAME: Final = __name__.partition(".")[0]
_base: Final[Any] = BaseException
_group: Final[Any] = BaseExceptionGroup

get_args: Final[Callable[[BaseException], tuple[Any, ...]]] = _base.args.__get__
get_cause: Final[Callable[[BaseException], BaseException | None]] = (
    _base.__cause__.__get__
)
get_context: Final[Callable[[BaseException], BaseException | None]] = (
    _base.__context__.__get__
)
get_traceback: Final[Callable[[BaseException], TracebackType | None]] = (
    _base.__traceback__.__get__
)
set_traceback: Final[Callable[[BaseException, TracebackType | None], None]] = (
    _base.__traceback__.__set__
)
get_group_message: Final[Callable[[BaseExceptionGroup[Any]], str]] = (
    _group.message.__get__
)
_get_members: Final[Callable[[BaseException], tuple[BaseException, ...]]] = (
    _group.exceptions.__get__
)


def get_group_members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions in a group, or an empty tuple if `error` is not a group."""
    if BaseExceptionGroup in type(error).__mro__:
        return _get_members(error)
    return ()


def leaf_exceptions(error: BaseException) -> list[BaseException]:
    """Return the exceptions in a group that are not groups, at any depth, in order, or `[error]` if it is no group."""
    todo = [error]
    leaves: list[BaseException] = []
    while todo:
        current = todo.pop()
        if members := get_group_members(current):
            todo += reversed(members)
        else:
            leaves.append(current)
    return leaves


def is_from_package(definition: Any) -> bool:
    """Return whether a class or function is defined in trioflow. A package with a similar name does not count."""
    return str(definition.__module__).partition(".")[0] == PACKAGE_NAME


class WrongBackendNote(str):
    """A note on the exception of a job that needs the other backend. Short texts begin with its remedy."""

    remedy: str

    def __new__(cls, name: str, backend: str) -> WrongBackendNote:
        remedy = WRONG_BACKEND_REMEDY.get().format(backend)
        note = super().__new__(
            cls, f"{name!r}: this job awaits something from {backend}: {remedy}"
        )
        note.remedy = remedy
        return note


def wrong_backend_remedy(error: BaseException) -> str:
    """Return how to run the job that raised an exception, if it needs the other backend, otherwise ""."""
    try:
        for note in getattr(error, "__notes__", ()):
            if isinstance(note, WrongBackendNote):
                return note.remedy
    except Exception:
        # From the code of the exception's class.
        return ""
    return ""


def shown_exception(error: BaseException) -> tuple[BaseException, str, str]:
    """Return the exception that a short text shows, and the texts to add before and after its message.

    For a group of exceptions of a single type, at any depth, this is the first of them, because the group says only
    their number. Otherwise it is the exception itself. The remedy comes first, because long texts are cut at the end.
    """
    leaves = leaf_exceptions(error)
    remedy = wrong_backend_remedy(error)
    before = clause("{} (", remedy)
    after = clause(")", remedy)
    if len(set(map(type, leaves))) > 1:
        return error, before, after
    if len(leaves) > 1:
        after = f" (one of {len(leaves)}){after}"
    return leaves[0], before, after


def with_traceback(
    error: BaseException, traceback: TracebackType | None
) -> BaseException:
    set_traceback(error, traceback)
    return error


STARTED_AT: Final = time.time()
"""The time of the import of trioflow. The program may not have loaded the contents of a file that was saved later."""
reload_count = 0
"""How many times mended code was taken. A process that imported the program before the last time has old code."""
replaced_lines: Final[dict[CodeType, list[str]]] = {}
"""For code that mended code was taken in place of, and that may still run, the lines of its text."""
PACKAGE_PREFIX: Final = (
    f"{os.path.dirname(os.path.dirname(os.path.dirname(__file__)))}{os.sep}"
)
"""The prefix of the file names of trioflow's own modules."""


@functools.cache
def library_prefixes() -> tuple[str, ...]:
    """Return the prefixes of the file names of code that is not the user's."""
    import sysconfig

    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    # An environment may include the packages of the user, or of the system.
    for path in sys.path:
        if os.path.basename(path) in ("site-packages", "dist-packages"):
            folders.append(path)
    return (PACKAGE_PREFIX, *(os.path.join(folder, "") for folder in folders), "<")


def describe_line(code: CodeType, number: int) -> str:
    """Return the text "file.py:12: code" for a line of code, or "file.py:12" if its source cannot be read."""
    # Imported late, with `tokenize`: only a job that was ended while it ran needs it.
    import linecache

    text = line_before_reload(code, number)
    if not text:
        text = linecache.getline(code.co_filename, number).strip()
    return f"{os.path.basename(code.co_filename)}:{number}" + clause(": {}", text)


def line_before_reload(code: CodeType, number: int) -> str:
    """Return a line of code that mended code was taken in place of, in the text that was loaded, otherwise ""."""
    lines = replaced_lines.get(code, [])
    return "".join(lines[number - 1 : number]).strip()


def entries(traceback: TracebackType | None) -> list[TracebackType]:
    """Return the entries of a traceback, the outermost first: a list, which costs each failure less."""
    found: list[TracebackType] = []
    while traceback is not None:
        found.append(traceback)
        traceback = traceback.tb_next
    return found


def linked(kept: Iterable[TracebackType]) -> TracebackType | None:
    """Return the traceback that has only these of its entries, the outermost first."""
    first = None
    for entry in reversed([*kept]):
        entry.tb_next = first
        first = entry
    return first


def own_entries(traceback: TracebackType | None) -> list[TracebackType]:
    """Return the entries of a traceback that are the user's own code.

    Code of the standard library and of installed packages is not the user's own, even if the user's code has called it.
    """
    return [
        each
        for each in entries(traceback)
        if not each.tb_frame.f_code.co_filename.startswith(library_prefixes())
    ]


def innermost_own(traceback: TracebackType | None) -> TracebackType | None:
    """Return the innermost entry of a traceback that is the user's own code, or None if there is none."""
    return [None, *own_entries(traceback)][-1]


def innermost_line(traceback: TracebackType | None) -> str | None:
    """Describe the user's innermost line by its function, file, number and code. Return None if there is none.

    The traceback of a job that awaits tasks of its own ends at the line that awaits them.
    """
    if (innermost := innermost_own(traceback)) is None:
        return None
    code = innermost.tb_frame.f_code
    place, _, text = describe_line(code, innermost.tb_lineno).partition(": ")
    return f"in {code.co_name} at {place}" + clause(" ({})", text)


# ---- functions

IS_COROUTINE: Final = 0x80
"""`inspect.CO_COROUTINE`: the flag of the code of an `async def`."""
IS_ITERABLE_COROUTINE: Final = 0x100
"""`inspect.CO_ITERABLE_COROUTINE`: the flag of a generator decorated with `types.coroutine`."""


def is_async(function: object) -> bool:
    """Return whether `function` is marked as async. A lambda that returns an awaitable, for example, is not."""
    if type(function) is FunctionType and not function.__dict__:
        return bool(function.__code__.co_flags & IS_COROUTINE)
    import inspect

    return inspect.iscoroutinefunction(function)


def is_async_generator(function: object) -> bool:
    import inspect

    return inspect.isasyncgenfunction(function)


def is_generator(function: object) -> bool:
    """Return whether calling `function` runs nothing, because it is a generator function, async or not."""
    import inspect

    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def is_surely_sync(function: object) -> bool:
    """Return whether `function` is a function or method that certainly returns no awaitable.

    A lambda may return an awaitable, but only its call shows that.
    """
    import inspect

    if not inspect.isroutine(function):
        return False
    plain = inspect.unwrap(function)
    is_lambda = isinstance(plain, FunctionType) and plain.__name__ == "<lambda>"
    return inspect.isroutine(plain) and not is_lambda and not is_async(plain)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return `inspect.signature(function)`.

    Raises:
        TypeError, ValueError: the function has no known signature.

    """
    import inspect

    return inspect.signature(function)


def find_by_name(module: Any, qualified_name: str) -> Any:
    """Return the object with a qualified name in an imported module, or None if there is none. No user code runs."""
    found: Any = sys.modules.get(module)
    for part in qualified_name.split("."):
        # Not getattr(), which could call a `__getattr__`.
        found = getattr(found, "__dict__", {}).get(part)
    return found
