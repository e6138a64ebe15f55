"""The posts that an alert shows: veiled, as text, drawn as the feed draws posts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import streamlit as st

from dashboard.feed import feed_item
from dashboard.reader import PostView
from stream.outcomes import AlertExample

_ASSETS: Final = Path(__file__).parent / "components"
_TEXT_CHARS: Final = 400
_DELETED: Final = "Its author deleted this post."
_component = st.components.v2.component(
    "tidegate_examples",
    html="<div class='feed'></div>\n",
    css=(_ASSETS / "feed.css").read_text("utf-8"),
    js=(_ASSETS / "feed.js").read_text("utf-8"),
)


def show_examples(
    examples: Sequence[AlertExample],
    held: Mapping[str, PostView | None],
    *,
    key: str,
    on_open: Callable[[str], None],
) -> None:
    """Draw them; `on_open` is called with the id of a post whose details are wanted.

    Args:
        examples: as the alert has them.
        held: those that the read model knows, by id; None: its author deleted it.
        key: the component's.
        on_open: see above.
    """

    def opened() -> None:
        post_id = st.session_state[key].open
        if isinstance(post_id, str):
            on_open(post_id)

    data = {
        "kind": "feed",
        "posts": [example_item(example, held) for example in examples],
        "filter": key,
        "nothing": "",
        "height": None,
    }
    _component(key=key, data=data, on_open_change=opened)


def example_item(example: AlertExample, held: Mapping[str, PostView | None]) -> dict[str, Any]:
    """What the browser gets of one: the post with its labels, or what the alert kept of it.

    Whatever an alert is about, nobody who is on call has to read it unasked: all are veiled.
    """
    post = held.get(example.post_id)
    if post is not None:
        item = feed_item(post, max_chars=_TEXT_CHARS)
        return item | {"veil": item["veil"] or "an example of the alert"}
    if example.post_id in held:
        return _kept(example) | {"text": "", "nothing": _DELETED}
    text = example.text or ""
    shown = text if len(text) <= _TEXT_CHARS else f"{text[: _TEXT_CHARS - 1]}…"
    # Examples with a score were chosen because a toxicity label stands; which one is not told.
    toxic = example.score is not None
    return _kept(example) | {
        "text": shown,
        "veil": "toxic" if toxic else "an example of the alert",
        "abusive": toxic,
        "toxicity": {"word": "toxic", "label": "toxic", "score": f"{example.score:.2f}"}
        if toxic
        else None,
    }


def _kept(example: AlertExample) -> dict[str, Any]:
    """What stands in the alert's record alone."""
    return {
        "id": example.post_id,
        "author": example.author or "",
        "source": example.url or "",
        "time": "",
        "at": "",
        "abusive": False,
        "veil": "",
        "language": None,
        "sentiment": None,
        "toxicity": None,
        "doubt": "",
    }
