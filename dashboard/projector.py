"""The projector: topics in, read model out, in a process of its own.

Invariant: the read model's own offsets say what has been read, nothing else does. There is no
consumer group to rebalance or expire: the projector takes every partition and goes on from the
offsets that were written in the same transaction as the rows.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import structlog

from dashboard.broker_watch import BrokerWatch, Sample
from dashboard.errors import ReadModelAwayError
from dashboard.ownership import handed_over
from dashboard.reading import READ_TOPICS, read_records
from dashboard.store import Batch, Store
from dashboard.worker_beats import LAG, RoleLag, lag_detail
from stream.errors import TidegateError
from stream.interpreter import tune_interpreter
from stream.kafka.client import kafka_python_config, reason_of
from stream.logs import set_up_logs
from stream.settings import Settings, load_settings

_MAX_POLL_RECORDS: Final = 5_000
_POLL_TIMEOUT_MS: Final = 250
#: With less than this at hand and no more to come, waiting a moment makes one transaction of many.
_FULL_BATCH: Final = 500
_GATHER_S: Final = 0.1
BEAT_S: Final = 1.0
#: A broker that takes requests and answers none (stopped, or behind a network that swallows
#: packets) makes no error for long. Asked every two seconds, it is taken for away when it has
#: answered nobody for this long: with a beat and a page's look that is said within ten seconds.
SILENT_S: Final = 6.0
_TIDY_S: Final = 20.0
_AWAY_S: Final = 1.0
_FETCH_BYTES: Final = 4 * 1024 * 1024

log = structlog.get_logger("tidegate.projector")


class Projector:
    """Reads labels and dead letters into a store until it is told to stop."""

    def __init__(self, settings: Settings, store: Store) -> None:
        prefix = settings.kafka.topic_prefix
        self._kafka = settings.kafka
        self._store = store
        self._topics = {topic.full_name(prefix): topic for topic in READ_TOPICS}
        self._watch = BrokerWatch(settings)
        self._consumer: Any = None
        # One batch is written while the next is fetched and decoded: SQLite needs no interpreter.
        self._writer = ThreadPoolExecutor(1, "writer")
        self._writing: Future[None] | None = None
        self._assigned: dict[str, tuple[int, ...]] = {}
        self._topic_ids: dict[str, str] = {}
        self._seen: Sample | None = None
        #: When the broker last answered, on the clock that is not set back.
        self._heard = time.monotonic()
        self._rate = _Rate()
        self._next_beat = 0.0
        self._next_tidy = 0.0
        self._error: str | None = None
        self._committed = -1
        self._progress_ms = 0
        self._read_in_all = 0
        self._let_go = False
        #: Told after every poll how many records were read, and how many are not yet.
        self.progress: Callable[[int, int | None], None] | None = None

    def run(self, stop: threading.Event) -> None:
        """Read until `stop` is set.

        Raises:
            ReadModelError: it cannot be written.
        """
        self._watch.start()
        try:
            while not stop.is_set():
                self._look(self._watch.latest)
                read = self._read() if self._assigned else 0
                self._beat()
                self._read_in_all += read
                if self.progress is not None:
                    self.progress(self._read_in_all, self._behind() if self._assigned else None)
                elif self._let_go:
                    log.info("a rebuilt read model takes this one's place")
                    return
                if read < _FULL_BATCH and not self._behind():
                    stop.wait(_GATHER_S)
        finally:
            self._watch.close()
            self._close()
            self._settle()
            self._writer.shutdown()
            self._store.beat("projector", "stopped", _now_ms(), {"kafka": self._kafka.bootstrap})

    def _look(self, sample: Sample | None) -> None:
        """Take in what the watch saw: backlog, new partitions, a topic made anew."""
        if sample is None or sample is self._seen:
            return
        self._settle()
        self._seen = sample
        self._heard = time.monotonic()
        broker: dict[str, Any] = {"kafka": self._kafka.bootstrap}
        if sample.error is not None:
            self._store.beat("broker", "away", sample.at_ms, broker | {"error": sample.error})
            return
        topics = {name: sample.topics[name] for name in self._topics if name in sample.topics}
        broker |= {"cluster": sample.cluster_id, "brokers": list(sample.brokers)}
        self._store.beat("broker", "ready" if topics else "no-topics", sample.at_ms, broker)
        committed = sum(p.committed or 0 for p in sample.backlog)
        if committed != self._committed:
            self._committed, self._progress_ms = committed, sample.at_ms
        workers = {
            "group": self._kafka.group,
            "members": sample.group_members,
            "progress_ms": self._progress_ms,
        }
        self._store.beat("workers", sample.group_state or "none", sample.at_ms, workers)
        self._store.sample_backlog(sample.backlog, sample.at_ms)
        self._store.beat(LAG, "sampled", sample.at_ms, lag_detail(self._role_lags(sample)))
        changed = False
        for name, topic in topics.items():
            known = self._store.topic_id(name)
            if known is not None and topic.topic_id and known != topic.topic_id:
                self._recreated(name)
                changed = True
            if topic.topic_id and known != topic.topic_id:
                self._store.remember_topic(name, topic.topic_id)
        partitions = {name: topic.partitions for name, topic in topics.items()}
        if partitions and (changed or partitions != self._assigned):
            self._assign(partitions)

    def _role_lags(self, sample: Sample) -> list[RoleLag]:
        """How far each role after labelling is, against the ends that our own consumer sees."""
        from kafka import TopicPartition

        lags = []
        for role, committed in sample.roles.items():
            read = {topic for topic, _ in committed}
            for topic in read & self._assigned.keys():
                for number in self._assigned[topic]:
                    end = self._consumer.highwater(TopicPartition(topic, number))
                    at = committed.get((topic, number))
                    if end is None or (at is None and not end):
                        continue
                    lag = RoleLag(
                        role=role, topic=topic, partition=number, committed=at, end=end,
                        waiting=None if at is None else max(end - at, 0),
                    )  # fmt: skip
                    lags.append(lag)
        return lags

    def _recreated(self, topic: str) -> None:
        message = f"`{topic}` was deleted and made anew: reading it from its beginning"
        log.warning("topic recreated", topic=topic)
        self._store.forget_offsets(topic)
        self._store.notice("topic-recreated", message, _now_ms())

    def _assign(self, partitions: dict[str, tuple[int, ...]]) -> None:
        from kafka import KafkaConsumer, TopicPartition
        from kafka.errors import KafkaError

        try:
            if self._consumer is None:
                self._consumer = KafkaConsumer(
                    **kafka_python_config(self._kafka) | {"bootstrap_timeout_ms": 5000},
                    enable_auto_commit=False,
                    auto_offset_reset="none",
                    max_poll_records=_MAX_POLL_RECORDS,
                    max_partition_fetch_bytes=_FETCH_BYTES,
                    fetch_max_wait_ms=_POLL_TIMEOUT_MS,
                    # In pure Python the checksum costs more than reading, decoding and writing.
                    check_crcs=False,
                )
            assigned = [TopicPartition(t, n) for t, numbers in partitions.items() for n in numbers]
            self._consumer.assign(assigned)
            first = self._consumer.beginning_offsets(assigned)
            for topic in partitions:
                held = self._store.offsets(topic)
                for partition in assigned:
                    if partition.topic == topic:
                        self._consumer.seek(
                            partition, held.get(partition.partition, first[partition])
                        )
        except KafkaError as exc:
            self._failed(exc)
            return
        self._assigned = partitions
        self._error = None
        log.info("reading", topics={topic: len(n) for topic, n in partitions.items()})

    def _read(self) -> int:
        """One poll, one transaction; the number of records."""
        from kafka.errors import KafkaError, OffsetOutOfRangeError

        try:
            polled = self._consumer.poll(timeout_ms=_POLL_TIMEOUT_MS)
        except OffsetOutOfRangeError as exc:
            self._out_of_range(exc.args[0])
            return 0
        except KafkaError as exc:
            self._failed(exc)
            return 0
        self._error = None
        if not polled:
            self._settle()
            return 0
        self._heard = time.monotonic()
        batch = self._batch(polled)
        self._settle()
        self._writing = self._writer.submit(self._store.apply, batch)
        read = sum(len(records) for records in polled.values())
        self._rate.add(read)
        return read

    def _settle(self) -> None:
        """Wait for the batch that is being written: the store is used by one thread at a time.

        Raises:
            ReadModelError: it could not be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _batch(self, polled: dict[Any, Sequence[Any]]) -> Batch:
        batch = Batch()
        for partition, records in polled.items():
            read_records(batch, self._topics[partition.topic], records)
            batch.offsets[partition.topic, partition.partition] = records[-1].offset + 1
        return batch

    def _out_of_range(self, offsets: dict[Any, int]) -> None:
        """The broker no longer has what we want next, or has never had it."""
        from kafka.errors import KafkaError

        self._settle()
        try:
            first = self._consumer.beginning_offsets(list(offsets))
        except KafkaError as exc:
            self._failed(exc)
            return
        for partition, wanted in offsets.items():
            place = f"{partition.topic}[{partition.partition}]"
            if wanted < first[partition]:
                self._store.notice(
                    "records-expired",
                    f"{first[partition] - wanted} records of {place} were deleted by the topic's"
                    " retention before the projector read them",
                    _now_ms(),
                )
                self._consumer.seek(partition, first[partition])
                continue
            self._recreated(partition.topic)
            for other in self._consumer.assignment():
                if other.topic == partition.topic:
                    self._consumer.seek(other, first.get(other, 0))
            break

    def _failed(self, exc: Exception) -> None:
        """The client is in doubt: close it, and begin anew when the broker is back."""
        self._error = reason_of(exc)
        log.warning("broker away", reason=self._error)
        self._close()
        self._seen = None

    def _close(self) -> None:
        self._assigned = {}
        if self._consumer is not None:
            with contextlib.suppress(Exception):  # it is being thrown away, whatever it says
                self._consumer.close(autocommit=False)
            self._consumer = None

    def _beat(self) -> None:
        now = time.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + BEAT_S
        self._settle()
        away = self._error or (self._seen.error if self._seen else None) or self._silence(now)
        if away is not None:
            state = "broker-away"
        elif self._assigned:
            state = "reading"
        else:
            state = "waiting-for-topics" if self._seen else "starting"
        self._store.beat(
            "projector",
            state,
            _now_ms(),
            {
                "kafka": self._kafka.bootstrap,
                "error": away,
                "records_per_s": self._rate.per_s(now),
                "behind": self._behind(),
                "pid": os.getpid(),
            },
        )
        self._let_go = self._store.handed_over()
        if now >= self._next_tidy:
            self._next_tidy = now + _TIDY_S
            self._store.tidy(_now_ms())

    def _silence(self, now: float) -> str | None:
        """What to say of a broker that was there and answers neither us nor the watch."""
        silent_s = now - self._heard
        # What the watch has seen meanwhile is an answer, if we were the slow ones.
        if self._seen is None or silent_s < SILENT_S or self._watch.latest is not self._seen:
            return None
        return f"no answer for {silent_s:.0f} s"

    def _behind(self) -> int | None:
        """Records on the topics that are not in the read model yet; None: not known."""
        if self._consumer is None:
            return None
        behind = 0
        for partition in self._consumer.assignment():
            end = self._consumer.highwater(partition)
            if end is None:
                return None
            behind += max(end - self._consumer.position(partition), 0)
        return behind


class _Rate:
    """Records a second over the last beats."""

    def __init__(self) -> None:
        self._count = 0
        self._since = time.monotonic()

    def add(self, records: int) -> None:
        self._count += records

    def per_s(self, now: float) -> float:
        elapsed = max(now - self._since, 1e-3)
        rate, self._count, self._since = self._count / elapsed, 0, now
        return round(rate, 1)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _stop_without_parent(stop: threading.Event) -> None:
    """Set `stop` when the process that started us is gone, however it went."""
    parent = os.getppid()

    def watch() -> None:
        while not stop.wait(1):
            if os.getppid() != parent:
                stop.set()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _project(settings: Settings, stop: threading.Event) -> None:
    """Wait for a rebuild to be in its place, then be the projector."""
    own = settings.dashboard
    while handed_over(own.database) and not stop.wait(0.1):
        pass
    with Store(
        own.database,
        retention_posts=own.retention_posts,
        retention_days=own.retention_days,
        retention_audit=own.retention_audit,
    ) as store:
        Projector(settings, store).run(stop)


def main(argv: Sequence[str]) -> int:
    """`python -m dashboard.projector [--with-parent]`; settings come from the environment."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if "--with-parent" in argv:
        _stop_without_parent(stop)
    try:
        settings = load_settings()
        set_up_logs(settings.log)
        tune_interpreter()
        logging.getLogger("kafka").setLevel(logging.CRITICAL)  # the watch reports what matters
        while not stop.is_set():
            try:
                _project(settings, stop)
            except ReadModelAwayError as error:
                log.warning("read model away", reason=error.message)
                stop.wait(_AWAY_S)
            else:
                break
    except TidegateError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
