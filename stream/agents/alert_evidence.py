"""Posts that show what an alert is about, read back from `labels` when it fires."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from stream.alerts.evaluator import Evidence
from stream.alerts.examples import Examples
from stream.errors import BrokerError
from stream.kafka.scan import newest, open_scanner
from stream.logs import get_logger
from stream.outcomes import AlertExample
from stream.settings import KafkaSettings
from stream.topics import LABELS

log = get_logger(__name__)

#: As many of a partition's newest labels are looked at, and for so long: examples are worth no more.
_MOST_LABELS: Final = 5000
_MOST_S: Final = 5.0


def examples_of(
    kafka: KafkaSettings, wanted: Sequence[Evidence | None]
) -> list[list[AlertExample]]:
    """A few posts for each piece of evidence; none where they cannot be read in time.

    An alert without examples is better than none: a broker that does not answer here fails
    the alert itself soon enough.
    """
    looked_for = [Examples(evidence) for evidence in wanted if evidence is not None]
    if not looked_for:
        return [[] for _ in wanted]
    since_ms = min(evidence.since for evidence in wanted if evidence is not None) * 1000
    topic = LABELS.full_name(kafka.topic_prefix)
    until_s = time.monotonic() + _MOST_S
    try:
        with open_scanner(kafka) as scanner:
            places = newest(scanner.ranges(topic)[topic], _MOST_LABELS)
            for record in scanner.read(topic, places):
                # A label is made after its window began.
                if record.timestamp_ms >= since_ms:
                    for examples in looked_for:
                        examples.add(record.value, record.offset)
                if time.monotonic() > until_s:
                    break
    except BrokerError as exc:
        log.warning("an alert goes without examples", reason=str(exc))
    found = iter(looked_for)
    return [next(found).chosen() if evidence is not None else [] for evidence in wanted]
