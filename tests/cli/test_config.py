from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stream.settings import setting_names
from tests.conftest import RunTidegate


def _rows(run_tidegate: RunTidegate, *args: str, **env: str) -> dict[str, Any]:
    done = run_tidegate("config", *args, "--json", env=env)
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)["settings"]}


def test_every_setting_with_its_default(run_tidegate: RunTidegate) -> None:
    rows = _rows(run_tidegate)
    assert [(name, row["variable"]) for name, row in rows.items()] == list(setting_names())
    assert all(row["origin"] == "default" for row in rows.values())
    assert all(row["value"] == row["default"] for row in rows.values())
    assert all(row["description"] for row in rows.values())


def test_a_flag_wins_over_a_variable_and_that_over_the_file(
    run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text('[kafka]\nbootstrap = "file:1"\ngroup = "file"\ntopic_prefix = "file."\n')
    rows = _rows(
        run_tidegate,
        "--changed",
        "--kafka",
        "flag:1",
        TIDEGATE_CONFIG=str(file),
        TIDEGATE_KAFKA__BOOTSTRAP="variable:1",
        TIDEGATE_KAFKA__GROUP="variable",
    )
    assert {name: (row["value"], row["origin"]) for name, row in rows.items()} == {
        "kafka.bootstrap": ("flag:1", "command line"),
        "kafka.topic_prefix": ("file.", str(file)),
        "kafka.group": ("variable", "environment variable TIDEGATE_KAFKA__GROUP"),
    }


def test_a_secret_never_shows(run_tidegate: RunTidegate) -> None:
    env = {"TIDEGATE_KAFKA__PASSWORD": "open-sesame"}
    plain = run_tidegate("config", env=env)
    row = _rows(run_tidegate, **env)["kafka.password"]
    assert plain.returncode == 0
    assert "open-sesame" not in plain.stdout + plain.stderr
    assert (row["value"], row["secret"]) == ("**********", True)
    assert row["origin"] == "environment variable TIDEGATE_KAFKA__PASSWORD"


def test_a_mistake_is_a_usage_error_with_a_suggestion(run_tidegate: RunTidegate) -> None:
    done = run_tidegate("config", env={"TIDEGATE_KAFKA__BOOTSRAP": "x:1"})
    assert done.returncode == 2
    assert "did you mean `TIDEGATE_KAFKA__BOOTSTRAP`?" in done.stderr


def test_a_wrong_secret_is_not_repeated_in_the_error(
    run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text("[kafka]\npassword = [81549300]\n")
    done = run_tidegate("config", env={"TIDEGATE_CONFIG": str(file)})
    assert done.returncode == 2
    assert f"{file}: `kafka.password`" in done.stderr
    assert "81549300" not in done.stderr
