"""Which decisions and alerts a target wants."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stream.hooks.events import Event
from stream.hooks.filters import Filter, passes
from stream.outcomes import Action, RuleMatch
from tests.stream.hooks.servers import alert, decision

SHADOW = RuleMatch(
    id="new-rule", version="1", mode="shadow", action=Action.HIDE, severity="low", reason="r"
)


@pytest.mark.parametrize(
    ("wanted", "event", "result"),
    [
        ({}, decision(), True),
        ({}, alert(), True),
        ({}, decision(action=Action.ALLOW), False),
        ({}, decision(action=Action.ALLOW, by="review"), True),
        ({"actions": ["allow"]}, decision(action=Action.ALLOW), True),
        ({"actions": ["remove"]}, decision(), False),
        ({"min_severity": "high"}, decision(), True),
        ({"min_severity": "critical"}, decision(), False),
        ({"min_severity": "high"}, alert(severity="medium"), False),
        ({"rules": ["ins*"]}, decision(), True),
        ({"rules": ["threats"]}, decision(), False),
        ({"rules": ["new-*"]}, decision(rules=[SHADOW]), False),
        ({"rules": ["new-*"], "shadow": True}, decision(rules=[SHADOW]), True),
        ({"shadow": True}, decision(action=Action.ALLOW, rules=[SHADOW]), True),
        ({"rules": ["tox*"]}, alert(), True),
        ({"rules": ["volume"]}, alert(), False),
        ({"languages": ["de"]}, decision(), False),
        ({"languages": ["de", "en"]}, decision(), True),
        ({"languages": ["de"]}, alert(), True),
        ({"languages": ["de"]}, alert(group={"language": "en"}), False),
        ({"kinds": ["silence"]}, alert(), False),
        ({"kinds": ["threshold"]}, alert(), True),
        ({"states": ["firing"]}, alert(state="resolved"), False),
        ({"rules": ["other"], "actions": ["remove"]}, decision(retracted=True), True),
        ({"retractions": False}, decision(retracted=True), False),
    ],
)
def test_filter(wanted: dict[str, Any], event: Event, result: bool) -> None:
    assert passes(msgspec.convert(wanted, Filter), event) is result


def test_the_kind_of_target_says_whether_it_hears_of_retractions() -> None:
    event = decision(retracted=True)
    assert not passes(Filter(), event, retractions=False)
    assert passes(Filter(retractions=True), event, retractions=False)
