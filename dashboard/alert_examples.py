"""The posts that an alert shows: veiled, as text, drawn as the feed draws posts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import streamlit as st

from stream.outcomes import AlertExample

_ASSETS: Final = Path(__file__).parent / "components"
_TEXT_CHARS: Final = 400
_component = st.components.v2.component(
    "tidegate_examples",
    html="<div class='feed'></div>\n",
    css=(_ASSETS / "feed.css").read_text("utf-8"),
    js=(_ASSETS / "feed.js").read_text("utf-8"),
)


def show_examples(
    examples: Sequence[AlertExample], *, key: str, on_open: Callable[[str], None]
) -> None:
    """Draw them; `on_open` is called with the id of a post whose details are wanted."""

    def opened() -> None:
        post_id = st.session_state[key].open
        if isinstance(post_id, str):
            on_open(post_id)

    data = {
        "kind": "feed",
        "posts": [example_item(example) for example in examples],
        "filter": key,
        "nothing": "",
        "height": None,
    }
    _component(key=key, data=data, on_open_change=opened)


def example_item(example: AlertExample) -> dict[str, Any]:
    """What the browser gets of one."""
    text = example.text or ""
    score = "" if example.score is None else f"{example.score:.2f}"
    return {
        "id": example.post_id,
        "text": text if len(text) <= _TEXT_CHARS else f"{text[: _TEXT_CHARS - 1]}…",
        "author": example.author or "",
        "source": example.url or "",
        "time": "",
        "at": "",
        # Whatever an alert is about, nobody who is on call has to read it unasked.
        "abusive": True,
        "language": None,
        "sentiment": None,
        "toxicity": {"word": "example", "label": "example", "score": score},
        "doubt": "",
    }
