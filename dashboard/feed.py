"""The feed of posts and the details of one, as a component of our own.

Streamlit's text elements read Markdown or cannot veil a text; here a post's text is a text node
and nothing else. What Python sends is plain data, so it can be tested without a browser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import streamlit as st

from dashboard.languages import language_name
from dashboard.reader import PostView
from stream.records import Author, Label, Post, rfc3339

#: More of a text than this is not sent to the feed; the details have all of it.
MAX_FEED_CHARS: Final = 600
#: (name, value), all of it plain text.
Facts = Sequence[tuple[str, str]]
_ASSETS: Final = Path(__file__).parent / "components"
_TOXICITY: Final = {
    "none": "clean",
    "severe_toxic": "severely toxic",
    "identity_attack": "identity attack",
}

_component = st.components.v2.component(
    "tidegate_feed",
    html="<div class='feed'></div>\n",
    css=(_ASSETS / "feed.css").read_text("utf-8"),
    js=(_ASSETS / "feed.js").read_text("utf-8"),
)


def toxicity_word(label: str) -> str:
    """A toxicity label as people read it."""
    return _TOXICITY.get(label, label)


def show_feed(
    posts: Sequence[PostView],
    *,
    key: str,
    filter_key: str,
    nothing: str,
    height: int | None,
    on_open: Callable[[str], None],
) -> None:
    """Draw the feed; `on_open` is called with the id of a post whose details are wanted.

    `filter_key` changes when another question is answered: then the list is drawn at once, even
    where it would hold still under a reader's eyes.
    """

    def opened() -> None:
        post_id = st.session_state[key].open
        if isinstance(post_id, str):
            on_open(post_id)

    data = {
        "kind": "feed",
        "posts": [feed_item(post) for post in posts],
        "filter": filter_key,
        "nothing": nothing,
        "height": height,
    }
    _component(key=key, data=data, on_open_change=opened)


def show_details(
    view: PostView,
    label: Label,
    *,
    key: str,
    thresholds: Mapping[str, float] | None = None,
    decided: Facts = (),
) -> None:
    """Draw everything known of a post; `thresholds` by toxicity label, `decided` as `details_data`."""
    _component(key=key, data=details_data(view, label, thresholds, decided))


def show_why(explanations: Sequence[Mapping[str, Any]], *, key: str) -> None:
    """Draw a text with the parts that drove its labels, as `dashboard.post_why` makes them."""
    _component(key=key, data={"kind": "why", "explanations": list(explanations)})


def feed_item(post: PostView, max_chars: int = MAX_FEED_CHARS) -> dict[str, Any]:
    """What the browser gets of a post."""
    text = post.text if len(post.text) <= max_chars else f"{post.text[: max_chars - 1]}…"
    return {
        "id": post.post_id,
        "text": text,
        "author": post.author,
        "source": post.source,
        "time": f"{_at(post.posted_ms):%H:%M:%S}",
        "at": rfc3339(post.posted_ms),
        "abusive": post.abusive,
        # Why the text is hidden until it is asked for; empty: it is not.
        "veil": toxicity_word(post.toxicity) if post.abusive else "",
        "language": _answer(language_name(post.language), post.language, post.language_score),
        "sentiment": _answer(post.sentiment, post.sentiment, post.sentiment_score),
        "toxicity": _answer(toxicity_word(post.toxicity), post.toxicity, post.toxicity_score),
        "doubt": (
            f"the model was not measured on this language: {post.unsupported.replace(' ', ', ')}"
            if post.unsupported
            else ""
        ),
    }


def details_data(
    view: PostView,
    label: Label,
    thresholds: Mapping[str, float] | None = None,
    decided: Facts = (),
) -> dict[str, Any]:
    """What the browser gets of a post that was clicked; `decided` is what became of it, and why."""
    limits = thresholds or {}
    groups = []
    for task in ("toxicity", "sentiment", "language"):
        answer = label.labels.get(task)
        if answer is None:
            continue
        scores = answer.scores or {answer.label: answer.score}
        named = language_name if task == "language" else toxicity_word
        model = label.models.get(task)
        note = f"{model.id} {model.version}" if model else ""
        if answer.unsupported:
            note = f"{note} · not measured on this language"
        groups.append(
            {
                "title": task.capitalize(),
                "note": note,
                "rows": [
                    {
                        "word": named(name),
                        "score": score,
                        "shown": f"{score:.3f}",
                        "top": name == answer.label,
                        "abuse": task == "toxicity",
                        "threshold": limits.get(name) if task == "toxicity" else None,
                    }
                    for name, score in sorted(scores.items(), key=lambda item: -item[1])
                ],
            }
        )
    return {
        "kind": "details",
        "post": feed_item(view, max_chars=20_000),
        "groups": groups,
        "sections": [
            {"title": title, "facts": facts}
            for title, facts in (
                ("What became of it", list(decided)),
                ("About this post", _facts(view, label)),
            )
            if facts
        ],
    }


def _facts(view: PostView, label: Label) -> list[tuple[str, str]]:
    """(name, value) of what is known of a post beside its text and scores; all of it plain text."""
    post, origin = label.post or Post(id=label.post_id), label.origin
    took = f", {view.labelled_ms - view.posted_ms:,} ms later" if label.posted_at else ""
    facts: list[tuple[str, str | None]] = [
        ("Post id", label.post_id),
        ("Source", post.source or "not told"),
        ("Author", _author(post.author)),
        ("Link", post.url),
        ("Language claimed", ", ".join(post.langs) or post.lang),
        ("Tags", ", ".join(post.tags)),
        ("Created, says the source", post.created_at),
        ("Posted to the topic", rfc3339(view.posted_ms)),
        ("Labelled", rfc3339(view.labelled_ms) + took),
        ("Origin", f"{origin.topic}[{origin.partition}]@{origin.offset}" if origin else None),
        ("Cut", "only the beginning of the text was scored" if label.truncated else None),
        (
            "Cleaned",
            "characters that no tokenizer reads were replaced before scoring"
            if label.cleaned
            else None,
        ),
    ]
    return [(name, value) for name, value in facts if value]


def _author(author: str | Author | None) -> str:
    if not isinstance(author, Author):
        return author or "not told"
    followers = None if author.followers is None else f"{author.followers:,} followers"
    told = (author.id, author.handle, "a bot" if author.bot else None, followers)
    return ", ".join(part for part in told if part)


def _answer(word: str, label: str, score: float) -> dict[str, str] | None:
    return {"word": word, "label": label, "score": f"{score:.2f}"} if label else None


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
