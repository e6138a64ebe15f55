"""docs/alerts.md says what the code does."""

from __future__ import annotations

import re

from stream.alerts.load import parse_rules
from stream.alerts.reference import key_reference
from tests.apache_kafka import ROOT

DOCS = (ROOT / "docs" / "alerts.md").read_text("utf-8")


def test_every_key_is_there_with_its_meaning() -> None:
    assert key_reference() in DOCS


def test_the_rules_in_it_are_rules() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    assert blocks
    for block in blocks:
        assert parse_rules(block, "docs/alerts.md").rules
