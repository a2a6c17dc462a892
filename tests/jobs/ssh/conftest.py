"""The servers that tests share, and the mark of processes that tests leave on them."""

from collections.abc import Iterator
from typing import cast
import pytest
from ..posix.process_trees import Watched
from ..posix.process_trees import watched as watched
from .servers import LocalConnection, Server, Site, have_sshd

pytestmark = pytest.mark.skipif(
    not have_sshd(), reason="needs openssh-server and openssh-client"
)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A user's key, configuration and known hosts, and the servers of a session."""
    site = Site(tmp_path_factory.mktemp("ssh"))
    yield site
    site.close()


@pytest.fixture(scope="session")
def server(site: Site) -> Server:
    """A server with the usual settings."""
    return site.serve(2)


@pytest.fixture(params=["by ssh", "local"])
def place(request: pytest.FixtureRequest) -> Server | LocalConnection:
    """A place where the same commands behave the same: a server, or this machine without one."""
    return (
        LocalConnection()
        if request.param == "local"
        else cast(Server, request.getfixturevalue("server"))
    )


@pytest.fixture
def local() -> LocalConnection:
    """This machine, for what is above the way to a node: what a job runs, and what it does with the output."""
    return LocalConnection()


@pytest.fixture
def mark(watched: Watched) -> dict[str, str]:
    """An environment for commands on nodes, by which `watched` finds them."""
    return {"TRIOFLOW_TEST": watched.mark}
