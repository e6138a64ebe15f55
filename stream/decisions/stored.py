"""Labels, decisions and reviews as they are stored: in topics, or in files as JSONL, plain or gzip."""

from __future__ import annotations

import gzip
import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, cast

import msgspec

from stream.decisions.readback import TopicReader, find
from stream.errors import SourceError
from stream.kafka.admin import open_admin
from stream.kafka.ledger import Record
from stream.outcomes import Review, decode_review
from stream.settings import KafkaSettings
from stream.topics import REVIEWS, Topic


class RecordFile:
    """Records of a file, one a line.

    Args:
        path: JSONL; gzip where its name ends in `.gz`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._raw: IO[bytes] | None = None
        try:
            self.size = path.stat().st_size
        except OSError as exc:
            raise _unreadable(path, exc) from exc

    @property
    def read(self) -> int:
        """Bytes of the file that were read so far."""
        return 0 if self._raw is None or self._raw.closed else self._raw.tell()

    def values(self) -> Iterator[bytes]:
        """The lines that are not blank.

        Raises:
            SourceError: it cannot be read, or is damaged.
        """
        try:
            with self.path.open("rb") as raw:
                self._raw = raw
                packed = self.path.suffix == ".gz"
                lines = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if packed else raw
                for line in lines:
                    if line.strip():
                        yield line
        except (OSError, EOFError) as exc:
            raise _unreadable(self.path, exc) from exc


def _unreadable(path: Path, exc: Exception) -> SourceError:
    why = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return SourceError(f"the file cannot be read: {why[:1].lower()}{why[1:]}", where=str(path))


class TopicValues:
    """The records of a topic that are not older than a time, all partitions in order of time.

    Args:
        kafka: the broker.
        topic: of the catalogue.
        since_ms: the time; None: from the beginning.
    """

    def __init__(self, kafka: KafkaSettings, topic: Topic, since_ms: int | None) -> None:
        self._kafka = kafka
        self._name = topic.full_name(kafka.topic_prefix)
        with open_admin(kafka) as admin:
            layouts = admin.layout((topic,))
        self._stretches: list[tuple[int, int, int]] = []
        if self._name not in layouts:
            raise SourceError(
                f"no such topic: `{self._name}`",
                where=kafka.bootstrap,
                hint="`tidegate topics create` makes it; is `kafka.topic_prefix` right?",
            )
        places = [(self._name, number) for number in range(layouts[self._name].partitions)]
        with TopicReader(kafka) as reader:
            for (_, partition), within in reader.ranges(places).items():
                start = within.first
                if since_ms is not None:
                    start = find(
                        reader,
                        self._name,
                        partition,
                        within,
                        lambda record: record.timestamp >= since_ms,
                    )
                if start < within.end:
                    self._stretches.append((partition, start, within.end))
        self._since_ms = since_ms
        #: About how many there are.
        self.size = sum(end - start for _, start, end in self._stretches)

    def records(self) -> Iterator[Record]:
        """The records; one consumer for each partition, so that none runs ahead of the others."""
        readers = [TopicReader(self._kafka) for _ in self._stretches]
        try:
            streams = [
                reader.read(self._name, *stretch)
                for reader, stretch in zip(readers, self._stretches, strict=True)
            ]
            for record in heapq.merge(*streams, key=lambda record: record.timestamp):
                if self._since_ms is None or record.timestamp >= self._since_ms:
                    yield record
        finally:
            for reader in readers:
                reader.close()

    def values(self) -> Iterator[bytes]:
        """Their values."""
        for record in self.records():
            if record.value is not None:
                yield record.value


def chunks_of(values: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    """The values in lists."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk


def reviews_in(values: Iterable[bytes]) -> Iterator[Review]:
    """The reviews among records; what is none is passed over."""
    for value in values:
        try:
            yield decode_review(value)
        except msgspec.DecodeError:
            continue


def stored_reviews(kafka: KafkaSettings) -> Iterator[Review]:
    """Every review in the topic, in order of time."""
    yield from reviews_in(TopicValues(kafka, REVIEWS, None).values())
