"""What a page of the test bench says, and what its components got."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

Open = Callable[..., AppTest]


def component(test: AppTest, key: str) -> dict[str, Any]:
    """What a component of ours got."""
    for element in test.get("bidi_component"):
        data: dict[str, Any] = json.loads(element.proto.json)
        if key in data:
            return data
    pytest.fail(f"no component with `{key}` on the page")


def everything(test: AppTest) -> str:
    """All that stands in elements which read Markdown."""
    kinds = ("markdown", "caption", "warning", "info", "error", "metric", "heading", "button")
    return "\n".join(str(element.proto) for kind in kinds for element in test.get(kind))
