"""What the benchmarks compare, where something goes wrong in it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing

from kafka import KafkaAdminClient

from stream.kafka.client import kafka_python_config
from stream.settings import KafkaSettings
from stream.topics import LABELS
from tests.conftest import clean_environment, kafka_environment


def test_a_worker_that_crashes_ends_the_run_with_its_reason(embedded_topics: KafkaSettings) -> None:
    labels = LABELS.full_name(embedded_topics.topic_prefix)
    with closing(KafkaAdminClient(**kafka_python_config(embedded_topics))) as admin:
        admin.delete_topics([labels])
    # A process of its own: the run sets the interpreter up for itself.
    done = subprocess.run(
        [sys.executable, "-m", "stream.bench.contestants", "worker", "10"],
        env=clean_environment(
            kafka_environment(embedded_topics) | {"TIDEGATE_MODELS__PRESET": "null"}
        ),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode != 0
    assert f"no such topic: `{labels}`" in done.stderr
