"""Who cannot tell colours apart reads every page: beside a colour stand a sign and a word.

Looked for where Streamlit draws: coloured words and badges of Markdown, and charts that tell
categories apart by colour. The feed, a component of our own, is looked at in Chromium.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.dashboard.desk_feed import furnish
from tests.dashboard.desk_pages.reading import Open

VIEWS: dict[str, tuple[str, dict[str, str]]] = {
    "live": ("live", {}),
    "languages over time": ("live", {"mix": "Over time"}),
    "trends": ("trends", {"period": "6 h"}),
    "rising": ("trends", {"period": "6 h", "by": "Rising"}),
    "review": ("review", {}),
    "rules": ("rules", {}),
    "a rule": ("rules", {"rule": "insult"}),
    "thresholds": ("rules", {"view": "Thresholds"}),
    "editor": ("rules", {"view": "Edit"}),
    "alerts": ("alerts", {}),
    "past alerts": ("alerts", {"state": "Past"}),
    "models": ("models", {}),
    "audit": ("audit", {}),
    "system": ("system", {}),
}
_ICON = r":material/\w+:"
_COLOURED = re.compile(
    r":(?P<colour>red|orange|yellow|green|blue|violet|gray|grey|primary)(?P<kind>-badge|-background)?"
    r"\[(?P<inside>[^\]]*)\]"
)
_SIGN = re.compile(rf"{_ICON}|[^\w\s.,:;()\[\]*'\"%+-]")
_WORD = re.compile(r"[^\W\d_]{2,}")


def lone_colours(text: str) -> list[str]:
    """What of a Markdown text is coloured and has no sign or no word beside it, line by line."""
    alone = []
    for line in text.splitlines():
        for found in _COLOURED.finditer(line):
            # A badge stands for itself; a coloured sign belongs to the words of its line.
            said = found["inside"] if found["kind"] == "-badge" else _COLOURED.sub(r"\3", line)
            if not (_SIGN.search(said) and _WORD.search(re.sub(_ICON, "", said))):
                alone.append(line)
    return alone


def unnamed_colours(spec: dict[str, Any]) -> list[str]:
    """Fields that a chart shows by colour alone: neither in a legend nor in words on the marks."""
    layers = [spec, *spec.get("layer", ())]
    named = {
        field
        for layer in layers
        for channel in ("tooltip", "text", "x", "y", "shape", "strokeDash")
        for field in _fields(layer.get("encoding", {}).get(channel))
    }
    return [
        colour["field"]
        for layer in layers
        for colour in [layer.get("encoding", {}).get("color", {})]
        if colour.get("type") in ("nominal", "ordinal")
        and colour.get("legend", {}) is None
        and colour["field"] not in named
    ]


def _fields(channel: Any) -> Iterator[str]:
    for each in channel if isinstance(channel, list) else [channel]:
        if isinstance(each, dict) and "field" in each:
            yield each["field"]


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        (":red[:material/error:]", True),
        (":red[12]", True),
        (":red[firing]", True),
        (":red-badge[:material/error:] all is well here", True),
        (":red-badge[firing]", True),
        (":red[:material/error:] The file is wrong", False),
        (":red-badge[:material/error: firing]", False),
        (":blue[━] median", False),
        ("nothing coloured", False),
    ],
)
def test_the_test_sees_a_colour_that_is_alone(text: str, alone: bool) -> None:
    assert bool(lone_colours(text)) is alone


def test_the_test_sees_a_chart_that_only_its_colours_tell_apart() -> None:
    colour = {"field": "kind", "type": "nominal", "legend": None}
    assert unnamed_colours({"layer": [{"encoding": {"color": colour}}]}) == ["kind"]
    assert not unnamed_colours({"encoding": {"color": colour, "tooltip": [{"field": "kind"}]}})
    assert not unnamed_colours({"encoding": {"color": colour | {"legend": {"orient": "top"}}}})


@pytest.mark.parametrize("view", VIEWS)
def test_no_page_says_anything_by_colour_alone(open_page: Open, database: Path, view: str) -> None:
    furnish(database, posts=300)
    name, query = VIEWS[view]
    test = open_page(name, **query)
    texts = list(_texts(test))
    assert not [line for text in texts for line in lone_colours(text)]
    specs = [json.loads(chart.proto.spec) for chart in test.get("vega_lite_chart")]
    assert not [field for spec in specs for field in unnamed_colours(spec)]
    # What it looks for is there to be found.
    if name in ("alerts", "system"):
        assert any(_COLOURED.search(text) for text in texts)
    if view == "languages over time":
        assert any('"type": "nominal"' in json.dumps(spec) for spec in specs)


def _texts(test: AppTest) -> Iterator[str]:
    kinds = ("markdown", "caption", "metric", "info", "warning", "error", "success", "header")
    for kind in kinds:
        for element in test.get(kind):
            for part in ("body", "label", "delta"):
                yield str(getattr(element.proto, part, ""))
