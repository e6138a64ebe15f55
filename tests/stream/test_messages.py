"""Every error message of policy, decisions, aggregates, alerts and hooks, word for word.

What a file of rules or targets is told stands in golden files beside those tests; what happens at
run time and on the command line is provoked in `message_cases_of_*.py` and stands in
`messages.txt`. That no message is left out is `test_message_sources.py`'s. To write the file anew
after a change: `python -m tests.stream.test_messages`, then read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.errors import TidegateError
from stream.kafka.embedded import EmbeddedBroker
from tests.stream import message_cases_of_hooks, message_cases_of_rules
from tests.stream.message_cases import CASES, Place

#: Importing them makes the cases.
CASES_OF = (message_cases_of_rules, message_cases_of_hooks)
GOLDEN = Path(__file__).with_name("messages.txt")


def said(name: str, place: Place) -> str:
    """What a case says."""
    try:
        answer = CASES[name](place)
    except (TidegateError, ValueError) as error:
        answer = str(error)
    return place.plain(str(answer))


def golden() -> dict[str, str]:
    """Name to message."""
    blocks = (block.partition("\n") for block in GOLDEN.read_text("utf-8").split("=== ")[1:])
    return {name: message.strip("\n") for name, _, message in blocks}


@pytest.mark.parametrize("name", CASES)
def test_a_message_is_what_it_was(
    name: str, tmp_path: Path, embedded_broker: EmbeddedBroker
) -> None:
    assert said(name, Place(tmp_path, embedded_broker)) == golden()[name]


def test_the_golden_file_has_no_other_cases() -> None:
    assert sorted(golden()) == sorted(CASES)


def write_anew() -> None:
    """Write the golden file from what is said now."""
    import tempfile

    blocks = []
    with EmbeddedBroker() as broker:
        for name in CASES:
            with tempfile.TemporaryDirectory() as folder:
                blocks.append(f"=== {name}\n{said(name, Place(Path(folder), broker))}\n")
    GOLDEN.write_text("\n".join(blocks), "utf-8")


if __name__ == "__main__":
    write_anew()
