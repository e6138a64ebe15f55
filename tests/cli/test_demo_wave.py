"""What the demo is for: the feed that it brings, its wave of abuse, and who hears of it."""

from __future__ import annotations

import pytest

from tests.cli.demos import ONCE, StartDemo


@pytest.mark.timeout(330)
def test_the_wave_of_the_shipped_feed_trips_a_rule_and_an_alert_and_is_over(
    start_demo: StartDemo,
) -> None:
    """What a user sees who types `tidegate demo`, three times as fast; most of it is waiting."""
    demo = start_demo("--rate", "8", *ONCE, env={"TIDEGATE_MODELS__PRESET": "compact"})
    code, result = demo.finish(300)

    assert code == 0, demo.errors
    hook = result["hook"]
    assert hook["actions"].get("limit", 0) > 10, "the rule against the wave"
    assert hook["decisions"] == sum(hook["actions"].values())
    for rule in ("toxic-wave", "toxic-tag"):
        assert f"{rule} fires" in demo.errors
        assert f"{rule} is over" in demo.errors
    assert hook["alerts_fired"] == hook["alerts_resolved"] >= 2
    assert (hook["refused"], hook["repeated"]) == (0, 0), "signed, and once each"
    demo.gone()
