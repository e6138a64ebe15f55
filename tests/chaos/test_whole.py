"""The short form of `python -m tests.chaos.whole`: all processes of a worker killed at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.apache_kafka import ApacheKafka
from tests.chaos.whole import is_right, trial
from tests.conftest import topics_on


@pytest.mark.kafka
@pytest.mark.timeout(600)  # each life is a start of five processes, and cores may be few
async def test_a_kill_of_the_whole_worker_loses_and_doubles_nothing(
    apache_kafka: ApacheKafka, tmp_path: Path
) -> None:
    account = await trial(topics_on(apache_kafka), tmp_path, kills=2)
    assert is_right(account), json.dumps(account, indent=1)
    assert account["killed_processes"] == 14
    assert account["alerts"] > 0
