"""The policy that labels are decided by, and counts that are written at once."""

from __future__ import annotations

import pytest

from stream.decisions import breakers
from stream.policy import Policy
from tests.stream.decisions.labels import RULES, policy_of


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is used of the quotas is written with every batch."""
    monkeypatch.setattr(breakers, "_COUNT_EVERY_S", 0)
    monkeypatch.setattr(breakers, "_COUNT_AT_LEAST_S", 0)
    monkeypatch.setattr(breakers, "_UNDELIVERED_S", -1)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Rules of every kind, with quotas."""
    return policy_of(tmp_path_factory.mktemp("policy"), RULES)
