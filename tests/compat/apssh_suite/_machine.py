"""Make a machine with an sshd at port 22 and two users that may log in, and run a command on it.

It is called as root in a network, a mount and a process namespace of its own: DIRECTORY COMMAND..."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

SSHD = "/usr/sbin/sshd"


def main(directory: Path, *command: str) -> int:
    """Run the command, and return its exit code."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    home = directory / "home"
    keys = home / ".ssh"
    keys.mkdir(parents=True)
    directory.chmod(0o755)
    (directory / "other").mkdir()
    for name, secret in (("id_rsa", ""), ("id-pass", "secret"), ("host", "")):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "rsa", "-N", secret, "-f", keys / name],
            check=True,
        )
    make_users({"root": home, "apsshuser": directory / "other"}, directory)
    os.chown(directory / "other", UID, UID)
    (directory / "authorized").write_bytes((keys / "id_rsa.pub").read_bytes())
    (directory / "apssh" / "tests" / "dummy-10").write_text("x" * 1024)
    Path("/run/sshd").mkdir(exist_ok=True)
    config = directory / "sshd_config"
    config.write_text(
        f"Port 22\nHostKey {keys}/host\nAuthorizedKeysFile {directory}/authorized\nPidFile none\nStrictModes no\n"
        "UsePAM no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\nMaxStartups 100\nX11Forwarding yes\n"
    )
    with subprocess.Popen(
        [SSHD, "-D", "-f", config, "-E", directory / "log"]
    ) as server:
        try:
            until_it_answers(time.monotonic() + 120)
            environment = {**os.environ, "HOME": str(home)}
            return subprocess.run(
                command, env=environment, stdin=subprocess.DEVNULL, check=False
            ).returncode
        finally:
            server.terminate()


UID = 4242


def make_users(homes: dict[str, Path], directory: Path) -> None:
    """Create the missing users, and give all of them homes."""
    lines = [
        line.split(":")
        for line in Path("/etc/passwd").read_text(encoding="utf-8").splitlines()
    ]
    lines += [
        [name, "x", str(UID), str(UID), "", "", "/bin/sh"]
        for name in homes
        if name not in [one[0] for one in lines]
    ]
    for line in lines:
        line[5] = str(homes.get(line[0], line[5]))
    users = directory / "passwd"
    users.write_text("".join(":".join(line) + "\n" for line in lines), encoding="utf-8")
    subprocess.run(["mount", "--bind", users, "/etc/passwd"], check=True)


def until_it_answers(end: float) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", 22), 1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
