"""PostgreSQL for tests: a server of its own from Debian's packages, on a free port of this machine.

It refuses to run as root, so root starts it as the user `postgres` or `nobody`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from stream.database_url import PostgresUrl

PASSWORD = "p@ss/word?#%"
_START_S = 60.0


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL; None: there is none."""
    on_path = shutil.which("postgres")
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3])
    )
    if on_path:
        found.append(Path(on_path).resolve())
    return found[-1].parent if found else None


def missing() -> str | None:
    """Why no server can be started here; None: one can."""
    return None if binaries() else "no PostgreSQL: apt-get install postgresql"


def _unprivileged() -> dict[str, Any]:
    """How a process is started as somebody who is not root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return {}


def _ends_with_us() -> list[str]:
    """What to start a server with, so that it ends when the tests do, however they end."""
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", "INT"] if program else []


class Postgres:
    """One server; it spares itself the disk, and would lose all in a power cut.

    Args:
        folder: is given to the user it runs as, who must be able to get there.
        as_shipped: as after an installation: for what is measured.
    """

    def __init__(self, folder: Path, *, as_shipped: bool = False) -> None:
        self._as_shipped = as_shipped
        self._bin = binaries()
        self._data = folder / "data"
        self._log = folder / "server.log"
        self._who = _unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        if self._who:
            os.chown(folder, self._who["user"], self._who["group"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def url(self, name: str = "postgres", **parts: Any) -> PostgresUrl:
        """A database of the server as its superuser."""
        at = PostgresUrl("127.0.0.1", self.port, name, "tidegate", SecretStr(PASSWORD))
        return replace(at, **parts)

    def fresh(self) -> PostgresUrl:
        """A place that nobody has used: a schema with a name of its own."""
        return self.url(schema=f"t{secrets.token_hex(6)}")

    def __enter__(self) -> Self:
        assert self._bin is not None
        secret = self._data.with_name("password")
        secret.write_text(PASSWORD)
        if self._who:
            os.chown(secret, self._who["user"], self._who["group"])
        subprocess.run(
            [
                self._bin / "initdb",
                *("--pgdata", self._data),
                "--username=tidegate",
                "--auth=password",  # the quickest that asks for one
                f"--pwfile={secret}",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._data.parent,
            **self._who,
        )
        self.start()
        return self

    def start(self) -> None:
        """Start it, and wait until it answers."""
        import psycopg

        assert self._bin is not None
        settings: dict[str, str | int] = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
        }
        if not self._as_shipped:
            settings |= {
                "fsync": "off",
                "full_page_writes": "off",
                "synchronous_commit": "off",
                "max_connections": 60,
                "shared_buffers": "64MB",
            }
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_ends_with_us(), self._bin / "postgres", "-D", self._data, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._data.parent,
                **self._who,
            )
        deadline = time.monotonic() + _START_S
        while True:
            try:
                psycopg.connect(self.url().get_secret_value(), connect_timeout=5).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(self._log.read_text("utf-8", "replace")) from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End it at once, and everybody's connections."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)  # "fast": nobody is waited for
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.stop()
