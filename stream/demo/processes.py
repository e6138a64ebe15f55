"""The processes of the demo: which there are, with which settings, and how they are ended.

The invariant: `stop` leaves none of them running, whatever happened before.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Final

from stream.demo.child import Child
from stream.kafka.admin import open_admin
from stream.kafka.embedded import EmbeddedBroker
from stream.roles import available
from stream.settings import ENV_PREFIX, Settings, load_settings

#: What the worker may take to finish the posts in its hands, and the page to say goodbye.
_STOP_TIMEOUT_S: Final = 8.0
#: The same for a role whose broker is ours: when we are killed it is gone, too, and takes nothing.
_POSTS_TIMEOUT_S: Final = 5.0


class Processes:
    """Broker, worker and dashboard, with a folder of their own for logs and the read model.

    Args:
        kafka: a broker of the user's; None starts the embedded one.
        port: of the page; None takes the setting, or a free one where that is taken.
    """

    def __init__(self, kafka: str | None, port: int | None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tidegate-demo-"))
        self.broker: EmbeddedBroker | None = None
        self.worker: Child | None = None
        self.outcomes: Child | None = None
        self.dashboard: Child | None = None
        self.page: str | None = None
        #: Variables that the roles after labelling get beside the others.
        self.outcomes_environ: dict[str, str] = {}
        self.settings: Settings = load_settings({"kafka.bootstrap": kafka})
        self._embedded = kafka is None
        self._wanted_port = port
        self._port = 0

    def start_broker(self) -> None:
        """Start or find the broker, and create the topics that are missing.

        Raises:
            MissingExtraError: the embedded broker is not installed.
            BrokerError: the broker cannot be used.
        """
        if self._embedded:
            self.broker = EmbeddedBroker(log_file=self.folder / "broker.log").start()
            self.settings = load_settings(
                {
                    "kafka.bootstrap": self.broker.bootstrap,
                    "kafka.security_protocol": "PLAINTEXT",
                    "kafka.replication": 1,
                    # It lets a first member of a group wait for half of this.
                    "kafka.session_timeout_s": 6.0,
                    "worker.stop_timeout_s": _POSTS_TIMEOUT_S,
                }
            )
        with open_admin(self.settings.kafka) as admin:
            admin.create_missing()

    def start_worker(self) -> Child:
        """Start the role that labels; it is not ready when this returns."""
        self.worker = Child(
            "worker", ["worker", "--role", "label"], self._environ(), self.folder / "worker.log"
        )
        self.worker.start()
        return self.worker

    def start_outcomes(self) -> Child:
        """Start the roles that come after labelling; labelling has its cores first."""
        roles = [word for name in available() if name != "label" for word in ("--role", name)]
        self.outcomes = Child(
            "outcomes",
            ["worker", *roles],
            self._environ() | self.outcomes_environ,
            self.folder / "outcomes.log",
        )
        self.outcomes.start()
        return self.outcomes

    def start_dashboard(self) -> Child:
        """Start the page and its projector; `page` is its address.

        Raises:
            MissingExtraError: what it needs is not installed.
        """
        from dashboard.process import require_extra

        require_extra()
        dashboard = self.settings.dashboard
        port = self._wanted_port
        if port is None:
            port = dashboard.port if _is_free(dashboard.host, dashboard.port) else 0
        self._port = port = port or _free_port(dashboard.host)
        environ = self._environ() | {
            f"{ENV_PREFIX}DASHBOARD__PORT": str(port),
            f"{ENV_PREFIX}DASHBOARD__DATABASE": str(self.folder / "read-model.db"),
        }
        self.page = f"http://{dashboard.host}:{port}"
        self.dashboard = Child(
            "dashboard", ["dashboard", "--no-browser"], environ, self.folder / "dashboard.log"
        )
        self.dashboard.start()
        return self.dashboard

    def page_answers(self) -> bool:
        """Whether the page can be opened."""
        from dashboard.process import is_ready

        return is_ready(self.settings.dashboard.host, self._port)

    def stop(self, *, keep_logs: bool) -> None:
        """End everything; the folder goes too, unless its logs are still of use."""
        children = [
            child for child in (self.worker, self.outcomes, self.dashboard) if child is not None
        ]
        for child in children:
            child.ask_to_stop()
        for child in children:
            child.stop(_STOP_TIMEOUT_S)
        if self.broker is not None:
            self.broker.stop()
        if not keep_logs:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _environ(self) -> dict[str, str]:
        """Ours, and what we decided: the children read the same file and variables as we do."""
        kafka = self.settings.kafka
        return {
            **os.environ,
            f"{ENV_PREFIX}KAFKA__BOOTSTRAP": kafka.bootstrap,
            f"{ENV_PREFIX}KAFKA__SECURITY_PROTOCOL": kafka.security_protocol,
            f"{ENV_PREFIX}KAFKA__SESSION_TIMEOUT_S": str(kafka.session_timeout_s),
            f"{ENV_PREFIX}WORKER__STOP_TIMEOUT_S": str(self.settings.worker.stop_timeout_s),
            # The log is read by a program: it waits for the event that says "ready".
            f"{ENV_PREFIX}LOG__FORMAT": "json",
            "PYTHONUNBUFFERED": "1",
        }


def _is_free(host: str, port: int) -> bool:
    try:
        with socket.create_server((host, port)):
            return True
    except OSError:
        return False


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
