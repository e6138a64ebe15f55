"""Every mistake in a file of rules is explained where it is, all of them in one run.

`mistakes.txt` is the golden file: a file of rules, then what a user reads.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream.errors import PolicyError
from stream.policy import load_policy
from stream.policy.diagnostics import Diagnostic
from tests.stream.policy.records import rule, rules

GOLDEN = Path(__file__).with_name("mistakes.txt")


def golden_cases() -> dict[str, tuple[str, str]]:
    """Name to file and message."""
    blocks = GOLDEN.read_text("utf-8").split("=== ")[1:]
    cases = {}
    for block in blocks:
        name, _, rest = block.partition("\n")
        text, _, message = rest.partition("--- says\n")
        cases[name] = (text, message.strip("\n"))
    return cases


@pytest.mark.parametrize("name", golden_cases())
def test_a_mistake_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    text, message = golden_cases()[name]
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(text, "utf-8")
    with pytest.raises(PolicyError) as caught:
        load_policy(Path("policy.yaml"))
    assert str(caught.value) == message


def test_every_place_is_where_the_caret_points(tmp_path: Path) -> None:
    """The columns of the golden file, against the text itself: the quoted name stands there."""
    checked = 0
    for text, _ in golden_cases().values():
        path = tmp_path / "policy.yaml"
        path.write_text(text, "utf-8")
        with pytest.raises(PolicyError) as caught:
            load_policy(path)
        for found in caught.value.diagnostics:
            assert isinstance(found, Diagnostic)
            line = text.split("\n")[found.line - 1]
            assert found.source == line
            name = re.match(r"unknown (?:name|function) `(.*)`", found.message)
            if name:
                checked += 1
                assert line[found.column - 1 :].startswith(name[1])
    assert checked > 5


def test_a_condition_over_several_lines_of_every_style(tmp_path: Path) -> None:
    styles = {
        "|": "    when: |\n      true &&\n        wrong_name\n",
        ">": "    when: >-\n      true &&\n      wrong_name\n",
        "plain": "    when: true &&\n      wrong_name\n",
        "'": "    when: 'true &&\n      ''x'' != \"y\" && wrong_name'\n",
        '"': '    when: "true \\u0026\\u0026\n      wrong_name"\n',
    }
    for style, when in styles.items():
        path = tmp_path / "policy.yaml"
        text = f"rules:\n  - id: a\n{when}    action: flag\n    reason: other\n"
        path.write_text(text, "utf-8")
        with pytest.raises(PolicyError) as caught:
            load_policy(path)
        (found,) = caught.value.diagnostics
        assert isinstance(found, Diagnostic)
        place = text.split("\n")[found.line - 1][found.column - 1 :]
        assert place.startswith("wrong_name"), style


def test_a_folder_is_one_policy(tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text("lists: {bad: {words: [muppet]}}\n" + rules(rule("true")))
    (tmp_path / "2.yml").write_text(rules(rule('words("bad")', name="b")))
    (tmp_path / "notes.txt").write_text("no rules")
    assert [r.id for r in load_policy(tmp_path).rules] == ["a", "b"]
    (tmp_path / "3.yaml").write_text("lists: {bad: {words: [x y]}}\n" + rules(rule("true")))
    with pytest.raises(PolicyError) as caught:
        load_policy(tmp_path)
    assert "there are two lists `bad`" in str(caught.value)
    assert "there are two rules `a`" in str(caught.value)
    assert f"the first is in {tmp_path / '1.yaml'}:" in str(caught.value)


def test_terms_of_a_file_are_blamed_on_their_own_line(tmp_path: Path) -> None:
    (tmp_path / "terms.txt").write_text("# ours\nmuppet\n\n  *   # too much\nclown # fine\n")
    path = tmp_path / "policy.yaml"
    path.write_text("lists: {bad: {file: terms.txt}}\n")
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    (found,) = caught.value.diagnostics
    assert isinstance(found, Diagnostic)
    assert (Path(found.file).name, found.line, found.column) == ("terms.txt", 4, 3)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="there is no file"):
        load_policy(tmp_path / "none.yaml")
    with pytest.raises(PolicyError, match=r"no `\*.yaml` file in the folder"):
        load_policy(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: müll".encode("latin-1"))
    with pytest.raises(PolicyError, match="is not UTF-8: byte 7"):
        load_policy(tmp_path / "latin.yaml")


def test_windows_line_ends_and_a_byte_order_mark_move_nothing(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(("\ufeff" + rules(rule("wrong > 1"))).replace("\n", "\r\n").encode())
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    (found,) = caught.value.diagnostics
    assert isinstance(found, Diagnostic)
    assert found.source[found.column - 1 :].startswith("wrong > 1")
