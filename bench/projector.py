"""Labels a second from a filled topic into the read model: `python bench/projector.py [--kafka HOST:PORT]`.

`--postgres` starts a PostgreSQL of its own from Debian's packages, as it is but for the port, and
`--database URL` takes another; the read model is a schema there, dropped at the end.

Prints one JSON object. `labels_per_s` is by the clock, `labels_per_cpu_s` by the projector's own CPU
time, which says more where other programs want the same cores. `--min-rate` exits with 3 below it.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
from kafka import KafkaProducer

from dashboard.process import projector_command, stop
from dashboard.reader import open_reader
from dashboard.swap import remove
from stream.database_url import PostgresUrl, ReadModelAt, parse_database
from stream.kafka.admin import open_admin
from stream.kafka.client import kafka_python_config
from stream.kafka.embedded import EmbeddedBroker
from stream.settings import DashboardSettings, KafkaSettings, Settings
from stream.topics import LABELS
from tests.dashboard.label_feed import stream_of
from tests.postgres import Postgres


def main() -> int:
    """Fill the topic, run the projector over it, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--kafka", help="a broker; default: the embedded one")
    parser.add_argument(
        "--posts-per-s", type=float, default=500.0, help="how fast the posts had been posted"
    )
    parser.add_argument("--min-rate", type=float, default=0.0)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--postgres", action="store_true", help="into a PostgreSQL of its own")
    where.add_argument("--database", help="into this PostgreSQL; default: an SQLite file")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-bench-")))
        bootstrap = options.kafka or stack.enter_context(EmbeddedBroker()).bootstrap
        kafka = KafkaSettings.model_validate(
            {"bootstrap": bootstrap, "topic_prefix": f"bench-{secrets.token_hex(4)}."}
        )
        path = place(options.database, folder, stack, postgres=options.postgres)
        settings = Settings(
            kafka=kafka, dashboard=DashboardSettings.model_validate({"database": path})
        )
        with open_admin(kafka) as admin:
            admin.create_missing()
        size = fill(kafka, options.labels, options.posts_per_s)
        process = projector_command(settings).start()
        stack.callback(stop, process)
        reached: list[tuple[float, float, int]] = []
        while not reached or reached[-1][2] < options.labels:
            time.sleep(0.05)
            with open_reader(path) as reader:
                read = 0 if reader is None else reader.counters().get("labels", 0)
            cpu = psutil.Process(process.pid).cpu_times()
            if read and (not reached or read > reached[-1][2]):
                reached.append((time.monotonic(), cpu.user + cpu.system, read))
        (first_at, first_cpu, first), (last_at, last_cpu, last) = reached[0], reached[-1]
        rate = (last - first) / (last_at - first_at)
        result = {
            "labels": options.labels,
            "bytes_per_label": size,
            "posts_per_s": options.posts_per_s,
            "labels_per_s": round(rate),
            "labels_per_cpu_s": round((last - first) / (last_cpu - first_cpu)),
            "read_model_mib": round(size_of(path) / 2**20, 1),
            "database": "SQLite" if isinstance(path, Path) else "PostgreSQL",
            "broker": "embedded" if options.kafka is None else options.kafka,
        }
    sys.stdout.write(json.dumps(result) + "\n")
    return 3 if rate < options.min_rate else 0


def place(database: str | None, folder: Path, stack: ExitStack, *, postgres: bool) -> ReadModelAt:
    """Where the read model goes; taken away at the end."""
    if postgres:
        at: ReadModelAt = stack.enter_context(Postgres(folder, as_shipped=True)).fresh()
    else:
        at = parse_database(database or str(folder / "read-model.db"))
        if isinstance(at, PostgresUrl):
            at = at.with_schema(f"bench_{secrets.token_hex(4)}")
    stack.callback(remove, at)
    return at


def size_of(at: ReadModelAt) -> int:
    """Bytes on disk."""
    with open_reader(at) as reader:
        assert reader is not None
        return reader.size()[1]


def fill(kafka: KafkaSettings, labels: int, posts_per_s: float) -> int:
    """Produce the labels; the mean size of one in bytes."""
    total = 0
    start_ms = (int(time.time()) - 3600) * 1000
    with closing(
        KafkaProducer(**kafka_python_config(kafka), linger_ms=50, batch_size=512 * 1024)
    ) as producer:
        topic = LABELS.full_name(kafka.topic_prefix)
        for made in stream_of(labels, start_ms=start_ms, posts_per_s=posts_per_s):
            value = made.value
            total += len(value)
            producer.send(topic, value, partition=made.partition)
        producer.flush()
    return total // labels


if __name__ == "__main__":
    sys.exit(main())
