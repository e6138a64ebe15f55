"""Every mistake that a file of alert rules can have, as its reader sees it: golden files.

`mistakes/NAME.yaml` is a file with mistakes, `mistakes/NAME.txt` what is said of them. After a
change of a message: `UPDATE_GOLDEN=1 pytest tests/stream/alerts/test_mistakes.py`, then look.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stream.alerts.load import load_rules, parse_rules
from stream.errors import ConfigError, PolicyError

FOLDER = Path(__file__).with_name("mistakes")
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_mistake_is_shown_with_its_place_and_a_way_out(path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_rules(path.read_text("utf-8"), f"config/{path.name}")
    said = f"{caught.value}\n"
    golden = path.with_suffix(".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(said, "utf-8")
    assert said == golden.read_text("utf-8")


def test_every_golden_file_has_its_rules() -> None:
    assert {path.stem for path in FILES} == {path.stem for path in FOLDER.glob("*.txt")}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the alert rules: no such file") as caught:
        load_rules(tmp_path / "alerts.yaml")
    assert caught.value.where == str(tmp_path / "alerts.yaml")
    assert caught.value.hint == "setting `alerts.path` names the file"


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_bytes(b"rules: \xff\xfe")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        load_rules(tmp_path / "alerts.yaml")
