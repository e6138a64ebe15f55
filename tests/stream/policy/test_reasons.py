"""The taxonomy stays one with atproto's report reasons."""

from __future__ import annotations

import re

import pytest

from stream.policy.reasons import REASONS, code_of, ozone_reason


@pytest.mark.parametrize(
    ("code", "token"),
    [
        ("other", "tools.ozone.report.defs#reasonOther"),
        ("harassment-hate-speech", "tools.ozone.report.defs#reasonHarassmentHateSpeech"),
        ("sexual-ncii", "tools.ozone.report.defs#reasonSexualNCII"),
        ("child-safety-csam", "tools.ozone.report.defs#reasonChildSafetyCSAM"),
        ("self-harm-ed", "tools.ozone.report.defs#reasonSelfHarmED"),
        ("misleading-elections", "tools.ozone.report.defs#reasonMisleadingElections"),
    ],
)
def test_codes_and_tokens(code: str, token: str) -> None:
    assert ozone_reason(code) == token
    assert code_of(token) == code


def test_every_code_comes_back_from_its_token() -> None:
    assert len({ozone_reason(code) for code in REASONS}) == len(REASONS) == 40
    for code in REASONS:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
        assert code_of(ozone_reason(code)) == code
    assert code_of("com.atproto.moderation.defs#reasonSpam") is None
