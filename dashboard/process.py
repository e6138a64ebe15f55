"""How the dashboard's two processes are started, known to be ready, and stopped.

`tidegate dashboard` and `tidegate demo` start them as children with the settings in their
environment; the children end by themselves when the process that started them is gone.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import ipaddress
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stream.errors import ConfigError, MissingExtraError, TidegateError
from stream.settings import CONFIG_VARIABLE, ENV_PREFIX, Settings

_HEALTH: Final = "/_stcore/health"
_READY_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Command:
    """A child process: what to run, and in which environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str]

    def start(self) -> subprocess.Popen[bytes]:
        """Start it; what it has to say comes on our standard error."""
        return subprocess.Popen(  # noqa: S603 - our own modules, no shell
            self.argv,
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


def projector_command(settings: Settings) -> Command:
    """The projector with these settings."""
    return Command(
        (sys.executable, "-m", "dashboard.projector", "--with-parent"), environment(settings)
    )


def dashboard_command(settings: Settings, port: int, host: str = "127.0.0.1") -> Command:
    """The Streamlit server with these settings; the theme lies beside the app."""
    flags = {
        "server.address": host,
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        "browser.gatherUsageStats": "false",
        "global.developmentMode": "false",
        "logger.level": "warning",
    }
    argv = (sys.executable, "-m", "dashboard.serve", *(f"--{k}={v}" for k, v in flags.items()))
    return Command(argv, environment(settings))


def environment(settings: Settings, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that gives a child the same settings, wherever ours came from."""
    environ = os.environ if environ is None else environ
    child = {
        name: value
        for name, value in environ.items()
        if not name.startswith(ENV_PREFIX) or name == CONFIG_VARIABLE
    }
    # What is written out below stands for the file too.
    child.pop(CONFIG_VARIABLE, None)
    for section, values in settings:
        for name, value in values:
            if value is None:
                continue
            shown = value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
            child[f"{ENV_PREFIX}{section}__{name}".upper()] = shown
    database = settings.dashboard.database
    if isinstance(database, Path):
        child[f"{ENV_PREFIX}DASHBOARD__DATABASE"] = str(database.absolute())
    return child


def require_extra() -> None:
    """Make sure that what the dashboard needs is installed.

    Raises:
        MissingExtraError: it is not.
    """
    missing = [
        name for name in ("streamlit", "altair", "pandas") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise MissingExtraError(
            f"the dashboard is not installed: no `{missing[0]}`",
            hint="pip install 'tidegate[dashboard]'",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def free_port(host: str, wanted: int) -> int:
    """The port to listen on: the wanted one, or a free one for 0.

    Raises:
        ConfigError: another program has it, or the address is not ours.
    """
    try:
        family = socket.getaddrinfo(host, wanted, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, wanted))
            port: int = probe.getsockname()[1]
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        raise ConfigError(
            f"the dashboard cannot listen on {host}:{wanted}: {reason}",
            hint="`--port 0` takes a free port" if wanted else "check `--host`",
        ) from exc
    return port


def is_ready(host: str, port: int) -> bool:
    """Whether the dashboard answers; cheap enough to ask ten times a second."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound here
    connection = http.client.HTTPConnection(reachable, port, timeout=2)
    try:
        connection.request("GET", _HEALTH)
        response = connection.getresponse()
        return response.status == http.client.OK and response.read() == b"ok"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until_ready(
    process: subprocess.Popen[bytes],
    host: str,
    port: int,
    stop: threading.Event,
    timeout_s: float = _READY_TIMEOUT_S,
) -> None:
    """Return when the dashboard answers, or `stop` is set.

    Raises:
        TidegateError: it ended, or did not answer in time.
    """
    deadline = time.monotonic() + timeout_s
    while not is_ready(host, port):
        code = process.poll()
        if stop.wait(0.1):
            return
        if code is not None:
            raise TidegateError(f"the dashboard ended at once, with code {code}")
        if time.monotonic() > deadline:
            raise TidegateError(f"the dashboard did not answer within {timeout_s:.0f} s")


def stop(process: subprocess.Popen[bytes], timeout_s: float = _STOP_TIMEOUT_S) -> None:
    """End a child: asked first, then killed."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(*commands: Command) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The children, started in order and stopped in reverse, whatever happens."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            started.append(command.start())  # noqa: PERF401 - what is started must be on the list
        yield started
    finally:
        for process in reversed(started):
            stop(process)
