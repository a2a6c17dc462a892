"""Exceptions of all kinds for worker processes, which import them from here."""

import dataclasses
import threading
import weakref
from typing import Any


class Awkward(Exception):
    """Can be pickled, but not back, and has something that cannot be pickled at all."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}", threading.Lock)
        self.sum = a + b
        self.lock = threading.Lock()

    def __str__(self) -> str:
        return str(self.args[0])


class Greeting(ValueError):
    """Changes when it is pickled and loaded: its `__init__` is called with the text that it has made."""

    def __init__(self, name: str) -> None:
        super().__init__(f"hello {name}")


class Missing(OSError):
    """Takes other arguments than OSError, and is one with a number and a name."""

    def __init__(self, path: str) -> None:
        super().__init__(2, "not there", path)
        self.path = path


class Own(Exception):
    """Defines how it is pickled."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__("own")
        self.both = a, b

    def __reduce__(self) -> Any:
        return Own, self.both


class Compiled(ValueError):
    """Has attributes where `BaseException.__reduce__` does not see them, like a class that was compiled by mypyc. Its
    `__init__` restores them from its arguments."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(code, what)
        vars(self)["code"] = code

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return HIDDEN.setdefault(self, {})

    def __getattr__(self, name: str) -> Any:
        try:
            return vars(self)[name]
        except KeyError:
            raise AttributeError(name) from None


class CompiledAwkward(Compiled):
    def __init__(self, code: int) -> None:
        super().__init__(code, f"has code {code}")


HIDDEN: weakref.WeakKeyDictionary[Compiled, dict[str, Any]] = (
    weakref.WeakKeyDictionary()
)
"""The attributes of each `Compiled`."""


class Unwilling(Exception):
    def __reduce__(self) -> Any:
        raise LookupError


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted(Exception):
    code: int
    what: str = "slotted"

    def __str__(self) -> str:
        return f"{self.what} {self.code}"


class Mute:
    """Can neither be shown nor pickled."""

    def __repr__(self) -> str:
        raise LookupError

    def __reduce__(self) -> Any:
        raise LookupError


class Group(ExceptionGroup[Exception]):
    """A group with a type and an attribute of its own."""


def exceptions() -> dict[str, Exception]:
    group = Group(
        "some", [Awkward(1, 2), ExceptionGroup("inner", [Greeting("Ada"), local()])]
    )
    group.number = 5  # type: ignore[attr-defined]
    return {
        "Group": group,
        "Awkward": Awkward(1, 2),
        "Greeting": Greeting("Ada"),
        "Missing": Missing("/no/file"),
        "Own": Own(3, 4),
        "Compiled": Compiled(7, "what"),
        "CompiledAwkward": CompiledAwkward(7),
        "Unwilling": Unwilling("no"),
        "Frozen": Frozen(7),
        "Slotted": Slotted(7),
        "mute argument": ValueError(Mute()),
        "mute": mute(),
        "FileNotFoundError": FileNotFoundError(2, "none", "a", None, "b"),
        "ModuleNotFoundError": ModuleNotFoundError("none", name="x", path="y"),
        "UnicodeDecodeError": UnicodeDecodeError("utf-8", b"ab", 1, 2, "bad"),
        "local": local(),
    }


def local() -> Exception:
    """Return an exception whose type cannot be found by name."""

    class Local(Exception):
        pass

    return Local("of here")


def mute() -> Exception:
    """Return an exception whose type cannot be found by name, and that has no text."""

    class Local(Exception):
        def __str__(self) -> str:
            raise LookupError

    return Local()


def fail_with(name: str) -> None:
    raise exceptions()[name]
