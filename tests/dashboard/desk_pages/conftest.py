"""Review, Rules, Alerts and Audit in Streamlit's own test bench: what their tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import acting, page, policy_in_force
from dashboard.people import Person, Role
from dashboard.policy_text import with_threshold
from dashboard.writer import MemoryWriter
from stream.policy.load import policy_path
from tests.dashboard.desk_pages.reading import Open
from tests.dashboard.test_pages import _app


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "read-model.db"
    policy = tmp_path / "policy.yaml"
    # The starter pack's numbers follow the model; these tests have their own.
    policy.write_text(with_threshold(policy_path().read_text(), "insult", "toxicity.insult", 0.43))
    monkeypatch.setenv("TIDEGATE_DASHBOARD__DATABASE", str(path))
    monkeypatch.setenv("TIDEGATE_POLICY__PATH", str(policy))
    page.settings.clear()
    policy_in_force.forget_policy()
    return path


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> MemoryWriter:
    made = MemoryWriter()
    monkeypatch.setattr(acting, "writer", lambda: made)
    return made


@pytest.fixture
def as_role(monkeypatch: pytest.MonkeyPatch) -> Callable[[Role], None]:
    def be(role: Role) -> None:
        monkeypatch.setattr(acting, "signed_in", lambda: Person("ann", role, f"{role}-1"))

    return be


@pytest.fixture
def open_page(database: Path, writer: MemoryWriter) -> Open:
    """`open_page("rules", view="Edit")`: the page after its first run, without an exception."""
    assert not writer.written
    assert database.name

    def run(name: str, **query: Any) -> AppTest:
        test = AppTest.from_file(_app(), default_timeout=60)
        test.run()
        for key, value in query.items():
            test.query_params[key] = value
        test.switch_page(f"app_pages/{name}.py").run()
        assert not test.exception, test.exception
        return test

    return run
