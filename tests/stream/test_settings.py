from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import ConfigError
from stream.settings import Settings, load_settings, setting_names, settings_in_force


def _error(overrides: dict[str, Any] | None = None, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        load_settings(overrides, environ)
    return raised.value


def _file(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "tidegate.toml"
    path.write_text(text, encoding="utf-8")
    return {"TIDEGATE_CONFIG": str(path)}


def test_nothing_set_gives_the_defaults() -> None:
    assert load_settings({}, {}) == Settings()
    assert load_settings({"kafka.bootstrap": None}, {"PATH": "/bin", "KAFKA_X": "1"}) == Settings()


def test_precedence(tmp_path: Path) -> None:
    environ = _file(tmp_path, '[kafka]\nbootstrap = "file:1"\ngroup = "file"\npartitions = 7\n')
    environ |= {"TIDEGATE_KAFKA__BOOTSTRAP": "env:1", "TIDEGATE_KAFKA__GROUP": "env"}
    kafka = load_settings({"kafka.bootstrap": "flag:1"}, environ).kafka
    assert (kafka.bootstrap, kafka.group, kafka.partitions) == ("flag:1", "env", 7)


def test_values_of_the_environment_take_their_type() -> None:
    settings = load_settings(
        {},
        {
            "TIDEGATE_KAFKA__PARTITIONS": "12",
            "TIDEGATE_WORKER__BATCH_DELAY_S": "0.5",
            "TIDEGATE_DASHBOARD__DATABASE": "/tmp/x.db",
        },
    )
    assert settings.kafka.partitions == 12
    assert settings.worker.batch_delay_s == 0.5
    assert settings.dashboard.database == Path("/tmp/x.db")


def test_an_unknown_variable_is_an_error_with_a_suggestion() -> None:
    error = _error(TIDEGATE_KAFKA__BOOTSTRAPS="x:1")
    assert error.message == "unknown environment variable `TIDEGATE_KAFKA__BOOTSTRAPS`"
    assert error.hint == "did you mean `TIDEGATE_KAFKA__BOOTSTRAP`?"
    assert _error(TIDEGATE_ZZZ="1").hint is not None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[kafka]\nbootsrap = 'x'\n", "kafka.bootsrap"),
        ("[kafak]\nbootstrap = 'x'\n", "kafak.bootstrap"),
        ("bootstrap = 'x'\n", "bootstrap"),
        ("[kafka.bootstrap]\nhost = 'x'\n", None),
    ],
)
def test_an_unknown_key_of_the_file_is_an_error(
    tmp_path: Path, text: str, name: str | None
) -> None:
    environ = _file(tmp_path, text)
    error = _error({}, **environ)
    assert error.where == environ["TIDEGATE_CONFIG"]
    if name is not None:
        assert error.message == f"unknown setting `{name}`"


@pytest.mark.parametrize("text", ["[kafka", "kafka = ", "\x00"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, text: str) -> None:
    environ = _file(tmp_path, text)
    error = _error({}, **environ)
    assert error.where == environ["TIDEGATE_CONFIG"]
    assert error.message.startswith("not TOML: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    error = _error(TIDEGATE_CONFIG=str(tmp_path / "none.toml"))
    assert "no such file" in error.message.lower()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kafka.partitions", "0"),
        ("kafka.partitions", "four"),
        ("kafka.topic_prefix", "a/b"),
        ("kafka.security_protocol", "TLS"),
        ("kafka.request_timeout_s", "-1"),
        ("dashboard.port", "65536"),
        ("models.device", "gpu"),
        ("log.level", "loud"),
    ],
)
def test_a_value_that_does_not_fit_names_the_setting_and_its_origin(name: str, value: str) -> None:
    variable = dict(setting_names())[name]
    error = _error({}, **{variable: value})
    assert error.message.startswith(f"`{name}`: ")
    assert error.where == f"environment variable {variable}"
    assert _error({name: value}).where == "command line"


def test_every_setting_can_be_set_by_its_variable() -> None:
    defaults = settings_in_force({}, {})
    assert [(row.name, row.variable) for row in defaults] == list(setting_names())
    for row in defaults:
        value = "topsecret" if row.secret else "/x" if row.default is None else str(row.default)
        again = {r.name: r for r in settings_in_force({}, {row.variable: value})}[row.name]
        assert again.origin == f"environment variable {row.variable}"
        if row.default is not None:
            assert again.value == row.default


def test_a_secret_shows_in_no_representation() -> None:
    environ = {"TIDEGATE_KAFKA__PASSWORD": "open-sesame"}
    settings = load_settings({}, environ)
    assert settings.kafka.password is not None
    assert settings.kafka.password.get_secret_value() == "open-sesame"
    assert "open-sesame" not in f"{settings!r} {settings} {settings.model_dump_json()}"
    assert "open-sesame" not in repr(settings_in_force({}, environ))


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_variable_is_taken_or_refused_in_words(name: str, value: str) -> None:
    # Anything but a ConfigError fails the test by itself.
    with contextlib.suppress(ConfigError):
        group = load_settings(
            {}, {f"TIDEGATE_{name}": value, "TIDEGATE_KAFKA__GROUP": value}
        ).kafka.group
        assert group == value


@pytest.mark.parametrize("database", ["here/model.db", "postgresql://ann:p%40ss@db:5432/posts"])
def test_settings_reach_a_role_as_they_are(database: str) -> None:
    settings = load_settings({"dashboard.database": database}, {})
    told = settings.model_dump_json()
    assert "p%40ss" not in told
    assert "p@ss" not in told
    assert str(Settings.model_validate_json(told).dashboard.database) == str(
        settings.dashboard.database
    )
    assert Settings.model_validate_json(told).worker == settings.worker
