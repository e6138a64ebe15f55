"""`Retry-After` in both forms, and in none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.hooks.schedule import DEFAULT_SCHEDULE, delay_s, patience_s, retry_after_s

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("120", 120.0),
        (" 0.5 ", 0.5),
        ("-5", 0.0),
        ("999999999", 86_400.0),
        ("nan", None),
        ("Sun, 22 Nov 2026 10:01:30 GMT", 90.0),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2026 12:00:30 +0200", 30.0),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(header: str | None, wanted: float | None) -> None:
    assert retry_after_s(header, NOW) == wanted


@given(st.text())
def test_nonsense_is_never_more_than_a_day_and_never_raises(header: str) -> None:
    found = retry_after_s(header, NOW)
    assert found is None or 0 <= found <= 86_400


@given(st.integers(0, 86_399))
def test_a_date_gives_its_distance(seconds: int) -> None:
    header = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_s(header, NOW) == seconds


def test_the_default_is_the_schedule_of_standard_webhooks() -> None:
    spread = 0.5
    delays = [delay_s(DEFAULT_SCHEDULE, step, lambda: spread) for step in range(11)]
    minute, hour = 60, 3600
    assert delays == [
        0, 5, 5 * minute, 30 * minute, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour,
        24 * hour, None,
    ]  # fmt: skip
    # It ends well inside the retention of the topics.
    assert patience_s(DEFAULT_SCHEDULE) < 4 * 86_400
