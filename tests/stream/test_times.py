"""Times as records and people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import ConfigError
from stream.records import rfc3339
from stream.times import moment_of, moment_or_never, since, timestamp_ms


@given(st.integers(0, 4_000_000_000_000))
def test_what_our_records_write_is_read_back(ms: int) -> None:
    assert timestamp_ms(rfc3339(ms)) == ms
    assert round(moment_of(rfc3339(ms)).timestamp() * 1000) == ms


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T10:00:00Z",
        "2026-11-22T10:00:00",
        "2026-11-22 12:00+02:00",
        "2026-11-22T10:00:00.000000Z",
    ],
)
def test_other_forms_are_the_same_time(text: str) -> None:
    assert timestamp_ms(text) == timestamp_ms("2026-11-22T10:00:00.000Z")


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "2026-11-22T10:00:0x.123Z"])
def test_what_is_no_time(text: str) -> None:
    for read in (moment_of, timestamp_ms):
        with pytest.raises(ValueError, match=r"."):
            read(text)
    assert moment_or_never(text) < moment_or_never("1970-01-01")


@pytest.mark.parametrize(
    ("text", "ago"),
    [("30min", timedelta(minutes=30)), ("2h", timedelta(hours=2)), ("7 d", timedelta(days=7))],
)
def test_a_span_is_counted_back_from_now(text: str, ago: timedelta) -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert since(text, now) == now - ago


def test_a_time_without_a_zone_is_utc() -> None:
    assert since("2026-11-22 10:00", datetime.now(UTC)) == datetime(2026, 11, 22, 10, tzinfo=UTC)


@pytest.mark.parametrize("text", ["yesterday", "", "2 weeks", "99999999999999d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no time"):
        since(text, datetime.now(UTC))
