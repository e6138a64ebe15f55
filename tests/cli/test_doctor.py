from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Broker, RunTidegate


def _findings(run_tidegate: RunTidegate, *args: str, **env: str) -> tuple[int, dict[str, Any]]:
    done = run_tidegate("doctor", *args, "--json", env=env)
    answer = json.loads(done.stdout)
    assert answer["ok"] is (done.returncode == 0)
    return done.returncode, {finding["name"]: finding for finding in answer["findings"]}


def test_everything_has_a_state_and_what_is_not_well_has_a_fix(
    run_tidegate: RunTidegate, embedded_broker: Broker
) -> None:
    code, found = _findings(run_tidegate, "--kafka", embedded_broker.bootstrap)
    assert {finding["state"] for finding in found.values()} <= {"ok", "missing", "broken"}
    assert all(finding["fix"] for finding in found.values() if finding["state"] != "ok")
    for name in ("settings", "python", "onnxruntime", "embedded broker", "kafka", "disk"):
        assert found[name]["state"] == "ok", found[name]
    assert embedded_broker.bootstrap in found["kafka"]["detail"]
    assert {"java", "apache kafka", "docker", "chromium", "gpu", "dashboard"} <= set(found)
    # What is optional fails nobody: this machine may have none of it.
    fatal = [f for f in found.values() if f["required"] and f["state"] != "ok"]
    assert code == (1 if fatal else 0)


def test_the_broker_is_required_only_where_one_was_chosen(run_tidegate: RunTidegate) -> None:
    code, found = _findings(run_tidegate, "--kafka", "127.0.0.1:1")
    assert code == 1
    assert (found["kafka"]["state"], found["kafka"]["required"]) == ("broken", True)
    assert found["kafka"]["detail"] == "127.0.0.1:1: nothing listens there"


def test_wrong_settings_are_one_finding_among_the_others(run_tidegate: RunTidegate) -> None:
    code, found = _findings(run_tidegate, TIDEGATE_KAFKA__PARTITIONS="many")
    assert code == 1
    assert found["settings"]["state"] == "broken"
    assert "`kafka.partitions`" in found["settings"]["detail"]
    assert found["python"]["state"] == "ok"


def test_a_model_file_that_is_not_the_one_of_the_manifest_is_broken(
    run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    manifest = tmp_path / "manifest.toml"
    manifest.write_text("""
schema = "tidegate.models.v1"
[presets]
compact = ["small"]
[models.small]
id = "test/small"
version = "1"
licence = "MIT"
folder = "."
graph = "model.onnx"
tokenizer = "tokenizer.json"
max_tokens = 16
[models.small.files]
"model.onnx" = "0000000000000000000000000000000000000000000000000000000000000000"
"tokenizer.json" = "0000000000000000000000000000000000000000000000000000000000000000"
[models.small.heads.sentiment]
activation = "softmax"
slice = [0, 3]
labels = ["negative", "neutral", "positive"]
""")
    (tmp_path / "model.onnx").write_bytes(b"something else")
    code, found = _findings(run_tidegate, TIDEGATE_MODELS__MANIFEST=str(manifest))
    assert code == 1
    assert found["small"]["state"] == "broken"
    assert "`model.onnx`: sha256 is" in found["small"]["detail"]


def test_programs_that_are_there_and_too_old_are_not_ok(
    run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    _, found = _findings(run_tidegate, PATH=str(tmp_path), KAFKA_HOME=str(tmp_path))
    assert found["java"]["state"] == "broken"
    assert not found["java"]["required"]
    assert found["apache kafka"]["state"] == "broken"
    assert found["docker"]["state"] == found["chromium"]["state"] == "missing"


@pytest.mark.parametrize("args", [(), ("--json",)])
def test_nothing_goes_to_standard_error(run_tidegate: RunTidegate, args: tuple[str, ...]) -> None:
    assert run_tidegate("doctor", *args).stderr == ""
