from __future__ import annotations

import json
from pathlib import Path

import pytest

from dashboard.errors import SignInError
from dashboard.people import Role
from dashboard.sign_in import (
    MAX_FAILURES,
    WINDOW_S,
    Gate,
    fits,
    hashed,
    installation_secret,
    load_users,
    oidc_person,
    oidc_problem,
    parse_oidc_roles,
    pseudonym,
    remove_user,
    save_user,
    sign_in_mode,
)
from stream.errors import ConfigError
from stream.settings import DashboardSettings

PASSWORD = "three short words"
AUTH = """[auth]
redirect_uri = "https://x/oauth2callback"
cookie_secret = "s"
client_id = "i"
client_secret = "c"
server_metadata_url = "https://idp/.well-known/openid-configuration"
"""


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "users.json"
    save_user(path, "ann", Role.MODERATOR, PASSWORD)
    return path


def settings(users: Path, **more: object) -> DashboardSettings:
    return DashboardSettings.model_validate({"users": users} | more)


def test_a_user_is_kept_as_a_hash_that_only_its_owner_reads(users: Path) -> None:
    assert users.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in users.read_text()
    assert load_users(users)["ann"].role is Role.MODERATOR
    users.chmod(0o644)
    with pytest.raises(ConfigError, match="read by others"):
        load_users(users)


def test_passwords_fit_themselves_only() -> None:
    kept = hashed(PASSWORD)
    assert kept != hashed(PASSWORD)
    assert fits(PASSWORD, kept)
    assert not fits(PASSWORD + "x", kept)
    assert fits("caf\u00e9 au lait", hashed("cafe\u0301 au lait"))
    for broken in ("", "x", "md5$1$2$3$00$00", "scrypt$a$8$1$00$00"):
        assert not fits(PASSWORD, broken)


@pytest.mark.parametrize(
    ("name", "password"),
    [("", PASSWORD), ("a\nb", PASSWORD), (" ann", PASSWORD), ("ann", "short"), ("ann", "x" * 300)],
)
def test_what_is_no_name_or_password_is_refused(tmp_path: Path, name: str, password: str) -> None:
    with pytest.raises(ConfigError):
        save_user(tmp_path / "users.json", name, Role.VIEWER, password)
    assert not (tmp_path / "users.json").exists()


def test_who_fits_enters_under_a_stable_pseudonym_and_who_is_removed_is_out(users: Path) -> None:
    gate = Gate(users)
    ann = gate.enter("ann", PASSWORD)
    assert ann.role is Role.MODERATOR
    assert "ann" not in ann.pseudonym
    assert Gate(users).enter("ann", PASSWORD).pseudonym == ann.pseudonym
    assert pseudonym("ann", installation_secret(users)) == ann.pseudonym
    assert pseudonym("ann", b"another installation") != ann.pseudonym
    save_user(users, "ann", Role.VIEWER, PASSWORD)
    assert gate.person("ann") == ann.__class__("ann", Role.VIEWER, ann.pseudonym)
    remove_user(users, "ann")
    assert gate.person("ann") is None
    with pytest.raises(ConfigError, match="no user"):
        remove_user(users, "ann")


def test_too_many_wrong_passwords_must_wait_even_with_the_right_one(users: Path) -> None:
    now = 1000.0
    gate = Gate(users, clock=lambda: now)
    for _ in range(MAX_FAILURES):
        with pytest.raises(SignInError, match="do not fit"):
            gate.enter("ann", "wrong password")
    with pytest.raises(SignInError, match="too many attempts") as caught:
        gate.enter("ann", PASSWORD)
    assert caught.value.hint == "try again in 5 min"
    save_user(users, "bob", Role.VIEWER, PASSWORD)
    assert gate.enter("bob", PASSWORD).name == "bob"
    now += WINDOW_S
    assert gate.enter("ann", PASSWORD).name == "ann"


def test_an_unknown_name_is_told_nothing_else(users: Path) -> None:
    with pytest.raises(SignInError, match="name and password do not fit"):
        Gate(users).enter("nobody", PASSWORD)


def test_the_installations_secret_is_made_once(tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    secret = installation_secret(users)
    assert installation_secret(users) == secret
    assert (tmp_path / "installation-secret").stat().st_mode & 0o777 == 0o600
    (tmp_path / "installation-secret").write_text("no hex")
    with pytest.raises(ConfigError):
        installation_secret(users)


def test_off_on_loopback_required_elsewhere(tmp_path: Path, users: Path) -> None:
    nobody, nothing = tmp_path / "nobody.json", tmp_path / "secrets.toml"
    assert sign_in_mode(settings(nobody), secrets_file=nothing) == "off"
    assert sign_in_mode(settings(users), secrets_file=nothing) == "users"
    assert sign_in_mode(settings(users, sign_in="off"), secrets_file=nothing) == "off"
    assert sign_in_mode(settings(users, host="0.0.0.0"), secrets_file=nothing) == "users"
    for refused in (
        settings(nobody, host="0.0.0.0"),
        settings(users, host="192.0.2.1", sign_in="off"),
        settings(nobody, sign_in="users"),
        settings(users, sign_in="oidc"),
    ):
        with pytest.raises(ConfigError):
            sign_in_mode(refused, secrets_file=nothing)


def test_oidc_needs_secrets_and_roles(tmp_path: Path) -> None:
    secrets, nobody = tmp_path / "secrets.toml", tmp_path / "nobody.json"
    assert oidc_problem(secrets) == "there is no .streamlit/secrets.toml"
    secrets.write_text("[auth]\nredirect_uri = 'x'")
    assert oidc_problem(secrets) == "`auth.cookie_secret` is missing in the secrets"
    secrets.write_text(AUTH)
    assert oidc_problem(secrets) is None
    with pytest.raises(ConfigError, match="oidc_roles"):
        sign_in_mode(settings(nobody, host="0.0.0.0"), secrets_file=secrets)
    roles = "ann@example.org=admin, *@example.org=viewer"
    ready = settings(nobody, host="0.0.0.0", oidc_roles=roles)
    assert sign_in_mode(ready, secrets_file=secrets) == "oidc"
    for wrong in ("ann@example.org", "ann@example.org=boss", "=admin"):
        with pytest.raises(ConfigError):
            parse_oidc_roles(wrong)
    ann = oidc_person("Ann@Example.org", True, roles, b"secret")
    assert ann is not None
    assert ann.role is Role.ADMIN
    bob = oidc_person("bob@example.org", None, roles, b"secret")
    assert bob is not None
    assert bob.role is Role.VIEWER
    assert oidc_person("ann@example.org", False, roles, b"secret") is None
    assert oidc_person("eve@elsewhere.org", True, roles, b"secret") is None
    assert oidc_person(None, True, roles, b"secret") is None


def test_a_file_that_is_not_ours_is_named(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    for content in ("[]", "{}", json.dumps({"users": {"ann": {"role": "boss", "password": ""}}})):
        path.write_text(content)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match="cannot be read"):
            load_users(path)
