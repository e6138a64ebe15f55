"""The supervisor's ways with units that come while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from kafka import KafkaConsumer

from stream.hooks.watch import TargetsWatch
from stream.settings import HookSettings, KafkaSettings, Settings
from stream.supervisor import Crew
from tests.apache_kafka import free_ports

TARGETS = """
targets:
  log:
    type: command
    command: ["/bin/cat"]
"""


def test_a_new_target_waits_for_a_broker_that_is_away_and_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KafkaConsumer.DEFAULT_CONFIG, "bootstrap_timeout_ms", 200)
    path = tmp_path / "hooks.yaml"
    path.write_text(TARGETS, "utf-8")
    settings = Settings(
        kafka=KafkaSettings(bootstrap=f"127.0.0.1:{free_ports(1)[0]}"),  # type: ignore[call-arg]
        hooks=HookSettings(path=path),  # type: ignore[call-arg]
    )
    watch = TargetsWatch(settings.hooks)
    crew = Crew(settings, {"hooks": watch})
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            crew.adapt("hooks", watch)
    assert crew.children == []
    # Once: the next try is seconds away.
    assert [(e["event"], e["role"], e["units"]) for e in logs] == [
        ("not started", "hooks", ["log"])
    ]
