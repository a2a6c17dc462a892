"""What trioflow uses of graphviz 0.20 and later, which has no types of its own."""

from typing import Literal, Self

class CalledProcessError(Exception):
    returncode: int
    stderr: bytes | None

class ExecutableNotFound(RuntimeError): ...

class Digraph:
    source: str
    body: list[str]
    graph_attr: dict[str, str]
    def __init__(
        self,
        *,
        graph_attr: dict[str, str] | None = None,
        node_attr: dict[str, str] | None = None,
        edge_attr: dict[str, str] | None = None,
    ) -> None: ...
    def node(self, name: str, label: str | None = None, **attrs: str) -> None: ...
    def edge(
        self, tail_name: str, head_name: str, label: str | None = None, **attrs: str
    ) -> None: ...
    def attr(self, kw: Literal["graph", "node", "edge"], **attrs: str) -> None: ...
    def copy(self) -> Self: ...
    def pipe(self, *, format: str, quiet: bool = False) -> bytes: ...

class Source:
    source: str
    def __init__(self, source: str) -> None: ...
    def pipe(self, *, format: str, quiet: bool = False) -> bytes: ...

def render(engine: str, format: str, filepath: str, *, outfile: str) -> str: ...
