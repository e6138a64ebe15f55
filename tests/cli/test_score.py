"""`tidegate score`: the label record, and why it is so."""

from __future__ import annotations

import json

from tests.conftest import RunTidegate


def test_score_explains_in_words_and_in_json(run_tidegate: RunTidegate) -> None:
    said = run_tidegate("score", "We met at noon and you are an idiot.", "--explain")
    assert said.returncode == 0, said.stderr
    assert "why toxicity toxic" in said.stdout
    assert "idiot  without it" in said.stdout
    as_json = run_tidegate("score", "We met at noon and you are an idiot.", "--explain", "--json")
    result = json.loads(as_json.stdout)
    assert result["label"]["schema"] == "tidegate.label.v1"
    toxic = next(e for e in result["explanations"] if e["task"] == "toxicity")
    strongest = max(toxic["spans"], key=lambda span: span["share"])
    assert strongest["text"] == "idiot"
    assert (strongest["start"], strongest["start_utf16"]) == (30, 30)


def test_without_explain_it_is_the_record_alone(run_tidegate: RunTidegate) -> None:
    record = json.loads(run_tidegate("score", "hello", "--json").stdout)
    assert record["post_id"] == "score"
