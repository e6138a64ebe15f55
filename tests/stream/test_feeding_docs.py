"""docs/feeding.md says what the code does."""

from __future__ import annotations

import re

import pytest

from stream.demo.result import DemoResult
from stream.demo.run import MOST_OUTSTANDING
from stream.offline import WINDOW_LINES
from stream.records import MAX_DEPTH, DeadLetterReason
from stream.schemas import DOCS
from stream.sources.feeder import INPUT_HEADER
from stream.sources.files import Format
from stream.sources.lines import MAX_LINE_BYTES

TEXT = (DOCS / "feeding.md").read_text("utf-8")
#: Reasons that no line of a file can have: `empty` is a record without value, `no-id` cannot be
#: (the place is the id), and scoring is the worker's.
_NOT_OF_FILES = {DeadLetterReason.EMPTY, DeadLetterReason.NO_ID, DeadLetterReason.SCORING_FAILED}


def test_every_reason_is_explained() -> None:
    table = TEXT.partition("| reason |")[2].partition("\n\n")[0]

    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE)) == {
        reason.value for reason in DeadLetterReason if reason not in _NOT_OF_FILES
    }


@pytest.mark.parametrize(
    "said",
    [
        f"{MOST_OUTSTANDING:,} posts",
        f"{WINDOW_LINES:,} lines",
        f"{MAX_LINE_BYTES:,} bytes",
        f"more than {MAX_DEPTH} levels",
        INPUT_HEADER,
        "|".join(Format),
    ],
)
def test_numbers_and_names_are_the_codes(said: str) -> None:
    assert said in TEXT


def test_every_field_of_the_account_is_there() -> None:
    for field in DemoResult.__struct_fields__:
        assert f"`{field}`" in TEXT
