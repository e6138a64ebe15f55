from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.demos import NULL, Demo, StartDemo


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[StartDemo]:
    started: list[Demo] = []

    def start(*arguments: str, env: dict[str, str] | None = None) -> Demo:
        demo = Demo(tmp_path, *arguments, env=NULL | (env or {}))
        started.append(demo)
        return demo

    yield start
    for demo in started:
        demo.kill_what_is_left()
