from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.scores import ModelVersion, TaskScore, TextScores
from stream.errors import PostError
from stream.labelling import label_of, model_refs
from stream.records import Author, DeadLetter, Label, Origin, Post, dead_letter_of, encode
from stream.schemas import DOCS, generated_files, schema_id, schema_of
from stream.settings import setting_names
from stream.topics import CATALOGUE, DEAD_LETTERS, LABELS, POSTS

_ORIGIN = Origin(topic="posts", partition=1, offset=2, timestamp_ms=3)
_POST = Post(
    id="1",
    text="a kettle that sings",
    author=Author(id="ann", followers=3),
    tags=["tea"],
    meta={"anything": [1]},
)


def _label() -> Label:
    scores = TextScores(tasks={"sentiment": TaskScore("neutral", 0.5, {"neutral": 0.5})})
    models = model_refs({"sentiment": ModelVersion("m", "1")})
    return label_of(_POST, scores, models, labelled_at_ms=5, origin=_ORIGIN)


def _dead_letter() -> DeadLetter:
    error = PostError("not-json", "not JSON")
    return dead_letter_of(error, b"{", at_ms=7, origin=_ORIGIN, key=b"k", post_id="1")


def test_the_files_are_what_would_be_written() -> None:
    for path, text in generated_files():
        there = (DOCS / path).read_text("utf-8") if (DOCS / path).exists() else None
        assert there == text, f"docs/{path} is out of date: run `make docs`"


def test_no_file_is_left_of_a_record_that_is_no_more() -> None:
    wanted = {path for path, _ in generated_files()}
    there = {path.relative_to(DOCS) for path in (DOCS / "schemas").glob("*.json")}
    assert there <= wanted


def test_every_topic_has_a_schema_of_its_own() -> None:
    names = [schema_id(topic) for topic in CATALOGUE]
    assert len(set(names)) == len(names)
    assert all(name.startswith("tidegate.") for name in names)


def test_every_setting_is_in_the_reference() -> None:
    text = dict(generated_files())[Path("configuration.md")]
    for name, variable in setting_names():
        assert f"`{name}`" in text
        assert f"`{variable}`" in text


@pytest.mark.parametrize(
    ("topic", "record"),
    [(POSTS, _POST), (LABELS, _label()), (DEAD_LETTERS, _dead_letter())],
    ids=["posts", "labels", "dead-letters"],
)
def test_a_record_as_it_is_sent_fits_its_schema(topic: Any, record: msgspec.Struct) -> None:
    schema = schema_of(topic)
    _fits(json.loads(encode(record)), schema, schema["$defs"])


def test_the_check_of_this_file_finds_what_does_not_fit() -> None:
    schema = schema_of(POSTS)
    for wrong in (
        {"text": "no id"},
        {"id": 1},
        {"id": "1", "op": "shout"},
        {"id": "1", "tags": [2]},
    ):
        with pytest.raises(AssertionError):
            _fits(wrong, schema, schema["$defs"])


def _fits(value: Any, schema: dict[str, Any], definitions: dict[str, Any]) -> None:
    """The part of JSON Schema that our schemas use."""
    if "$ref" in schema:
        return _fits(value, definitions[schema["$ref"].removeprefix("#/$defs/")], definitions)
    if "anyOf" in schema:
        for option in schema["anyOf"]:
            try:
                return _fits(value, option, definitions)
            except AssertionError:
                continue
        raise AssertionError(f"{value!r} fits none of {schema['anyOf']}")
    if "enum" in schema:
        assert value in schema["enum"]
        return None
    kind = schema.get("type")
    python: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "integer": int,
        "number": (int, float), "boolean": bool, "null": type(None),
    }  # fmt: skip
    if kind is not None:
        assert isinstance(value, python[kind]), f"{value!r} is not of type {kind}"
    if kind == "object":
        assert set(schema.get("required", [])) <= set(value)
        for name, each in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
            _fits(each, inner or {}, definitions)
    if kind == "array":
        for each in value:
            _fits(each, schema.get("items", {}), definitions)
    return None
