"""The manifest: what it says survives writing, and what is wrong with it is said clearly.

`manifest_errors.txt` is the golden file: a manifest's change, then the message a user reads.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from models.errors import ManifestError, ModelFileError
from models.manifest import Head, Model, load_manifest
from models.manifest_writing import manifest_toml
from tests.models.conftest import SmallModel

GOLDEN = Path(__file__).with_name("manifest_errors.txt")


def golden_cases() -> list[tuple[str, str, str, str]]:
    """(name, regular expression, replacement, expected message) of each case."""
    cases = []
    for block in GOLDEN.read_text("utf-8").strip().split("\n\n"):
        name, change, *message = block.splitlines()
        pattern, _, replacement = change.partition(" -> ")
        cases.append((name.strip("# "), pattern, replacement, "\n".join(message)))
    return cases


@pytest.mark.parametrize(("name", "pattern", "replacement", "message"), golden_cases())
def test_a_wrong_manifest_is_explained(
    small_model: SmallModel, name: str, pattern: str, replacement: str, message: str
) -> None:
    path = small_model.manifest_path
    right = path.read_text("utf-8")
    wrong, count = re.subn(pattern, replacement.replace("\\n", "\n"), right, count=1)
    assert count == 1, f"{name}: the change does not apply"
    path.write_text(wrong, "utf-8")
    with pytest.raises(ManifestError) as caught:
        load_manifest(path)
    assert str(caught.value).replace(str(path), "manifest.toml") == message


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot read the manifest: No such file") as caught:
        load_manifest(tmp_path / "none.toml")
    assert caught.value.hint is not None


def test_an_unknown_preset_and_model_name_what_there_is(small_model: SmallModel) -> None:
    manifest = small_model.manifest
    with pytest.raises(ManifestError, match="no preset `big`") as caught:
        manifest.preset("big")
    assert caught.value.hint == "there is `small`"
    with pytest.raises(ManifestError, match="no model `big`"):
        manifest.model("big")


def test_writing_and_reading_change_nothing(tmp_path: Path) -> None:
    head = Head(
        activation="sigmoid",
        slice=(0, 2),
        labels=['a "quoted" one', "zweite Ümlaut"],
        thresholds={'a "quoted" one': 0.125, "zweite Ümlaut": 1.0},
        languages=["en", "zh-Hant"],
        top=1,
    )
    model = Model(
        id="x/y",
        version="2026.1.2",
        licence="a\\b\x7f\n",
        folder="fo lder",
        graph="g.onnx",
        tokenizer="t.json",
        max_tokens=64,
        files={"g.onnx": "0" * 64, "t.json": "f" * 64},
        heads={"a task": head},
        devices=["cuda", "cpu"],
    )
    path = tmp_path / "manifest.toml"
    path.write_text(manifest_toml({"one": ["m"], "tw o": ["m"]}, {"m": model}), "utf-8")
    found = load_manifest(path)
    assert found.models == {"m": model}
    assert found.presets == {"one": ["m"], "tw o": ["m"]}


def test_the_right_files_pass(small_model: SmallModel) -> None:
    manifest = small_model.manifest
    manifest.verify("small")
    checks = list(manifest.check_files("small"))
    assert [check.problem for check in checks] == [None, None]
    assert all(check.size > 0 for check in checks)


def test_a_tampered_file_is_refused(small_model: SmallModel) -> None:
    graph = small_model.folder / "small" / "model.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"file `model\.onnx`: sha256 is \w{64}, not \w{64}"):
        small_model.manifest.verify("small")
    with pytest.raises(ModelFileError):
        small_model.scorer()


def test_a_missing_file_is_named(small_model: SmallModel) -> None:
    (small_model.folder / "small" / "tokenizer.json").unlink()
    with pytest.raises(ModelFileError, match=r"file `tokenizer\.json`: missing") as caught:
        small_model.scorer()
    assert caught.value.where is not None
    assert caught.value.where.endswith("tokenizer.json")


def test_the_bundled_manifest_holds_together_and_its_files_are_the_right_ones() -> None:
    manifest = load_manifest()
    assert manifest.presets["compact"] == ["compact:sentiment,toxicity", "compact-language"]
    manifest.verify("compact")
    model = manifest.models["compact"]
    assert set(model.heads) == {"sentiment", "toxicity"}
    assert len(manifest.models["compact-language"].heads["language"].labels) >= 100
    assert msgspec.structs.asdict(model)["devices"] == ["cpu"]
