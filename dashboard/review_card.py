"""The post under review as the browser gets it: plain data, and the component that draws it.

Invariant: nothing of a post leaves here but as text in this data; the component makes text nodes
of it. Offsets of marked words are UTF-16 ones, as the browser counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import streamlit as st

from dashboard.actions import ReasonRequired, reason_needed
from dashboard.desk import Claim
from dashboard.feed import feed_item, toxicity_word
from dashboard.languages import language_name
from dashboard.page import span, utc
from dashboard.queries.decisions import AuthorPost, DecisionView, ReviewView
from dashboard.reader import PostView
from stream.outcomes import Action, RuleMatch
from stream.policy import Policy
from stream.policy.reasons import REASONS
from stream.records import Label

_ASSETS: Final = Path(__file__).parent / "components"
#: One key per decision. `c` and `r` are Streamlit's own.
DECISIONS: Final = (
    (Action.ALLOW, "a", "Allow", "check_circle"),
    (Action.FLAG, "f", "Flag", "flag"),
    (Action.LIMIT, "l", "Limit", "trending_down"),
    (Action.HIDE, "h", "Hide", "visibility_off"),
    (Action.REMOVE, "d", "Remove", "delete"),
)
_TEXT_CHARS: Final = 20_000
_AUTHOR_TEXT_CHARS: Final = 240
#: `thresholds(task, label, language)`.
Thresholds = Callable[[str, str, str], float | None]

_component = st.components.v2.component(
    "tidegate_review",
    html="<div class='desk'></div>\n",
    css="\n".join((_ASSETS / name).read_text("utf-8") for name in ("feed.css", "review.css")),
    js=(_ASSETS / "review.js").read_text("utf-8"),
)


class Case(NamedTuple):
    """Everything the read model knows about the post in hand."""

    claim: Claim
    view: PostView
    label: Label
    decision: DecisionView | None
    author_posts: Sequence[AuthorPost]
    reviews: Sequence[ReviewView]


def show_card(data: Mapping[str, Any], *, key: str, on_act: Callable[[Any], None]) -> None:
    """Draw it; `on_act` is called with what the reviewer asks for."""

    def acted() -> None:
        asked = st.session_state[key].act
        if isinstance(asked, dict):
            on_act(asked)

    _component(key=key, data=dict(data), on_act_change=acted)


def case_data(
    case: Case, policy: Policy | None, thresholds: Thresholds, required: ReasonRequired, now_ms: int
) -> dict[str, Any]:
    """What the browser gets."""
    post = case.label.post
    matches = case.decision.why.rules if case.decision else []
    return {
        "claim": case.claim.claim_id,
        "until": utc(case.claim.expires_ms),
        "expires_s": max(case.claim.expires_ms - now_ms, 0) / 1000,
        "severity": case.claim.post.severity,
        "escalated": case.claim.post.escalated,
        "waited": span(max(now_ms - case.claim.post.since_ms, 0) / 1000),
        "post": feed_item(case.view, max_chars=_TEXT_CHARS),
        "spans": spans(matches, len(case.view.text.encode("utf-16-le", "surrogatepass")) // 2),
        "links": _links(case),
        "labels": label_rows(case.label, thresholds),
        "rules": [rule_data(match, policy) for match in matches],
        "policy": case.decision.policy if case.decision else "",
        "notes": _notes(case.decision),
        "author_posts": [
            author_post(each) for each in case.author_posts if each.post_id != case.view.post_id
        ],
        "reviews": [review_line(each) for each in case.reviews],
        "facts": [
            ("Post id", case.view.post_id),
            ("Replies to", post.reply_to if post else None),
            ("Tags", ", ".join(post.tags) if post else None),
            ("Created, says the source", post.created_at if post else None),
            ("Decision now", _decision_now(case.decision)),
        ],
        "actions": [
            {
                "action": action,
                "key": pressed,
                "word": word,
                "icon": icon,
                "reason": reason_needed(action, required),
            }
            for action, pressed, word, icon in DECISIONS
        ],
        "reasons": reasons(matches),
    }


def spans(matches: Sequence[RuleMatch], length: int) -> list[dict[str, Any]]:
    """The marked stretches of the text in order, none over another, and which rules mark them."""
    marked: dict[tuple[int, int], list[str]] = {}
    for match in matches:
        for each in match.spans:
            if 0 <= each.utf16_start < each.utf16_end <= length:
                word = f"{match.id}: {each.what}" if each.what else match.id
                marked.setdefault((each.utf16_start, each.utf16_end), []).append(word)
    found: list[dict[str, Any]] = []
    for (start, end), what in sorted(marked.items()):
        if found and start < found[-1]["end"]:
            found[-1]["end"] = max(found[-1]["end"], end)
            found[-1]["what"] += f"; {'; '.join(what)}"
        else:
            found.append({"start": start, "end": end, "what": "; ".join(what)})
    return found


def label_rows(label: Label, thresholds: Thresholds) -> list[dict[str, Any]]:
    """Each task with its scores, the highest first, each beside its threshold."""
    language = label.labels["language"].label if "language" in label.labels else ""
    groups = []
    for task in ("toxicity", "sentiment", "language"):
        answer = label.labels.get(task)
        if answer is None:
            continue
        named = language_name if task == "language" else toxicity_word
        model = label.models.get(task)
        rows = []
        for name, score in sorted(
            (answer.scores or {answer.label: answer.score}).items(), key=_by_score
        ):
            threshold = thresholds(task, name, language) if task == "toxicity" else None
            rows.append(
                {
                    "word": named(name),
                    "score": score,
                    "threshold": threshold,
                    "over": threshold is not None and score >= threshold,
                    "top": name == answer.label,
                }
            )
        groups.append(
            {
                "task": task,
                "answer": named(answer.label),
                "model": f"{model.id} {model.version}" if model else "",
                "unsupported": answer.unsupported,
                "rows": rows,
            }
        )
    return groups


def rule_data(match: RuleMatch, policy: Policy | None) -> dict[str, Any]:
    """A rule that matched, with its text in the policy in force."""
    rule = next((r for r in policy.rules if r.id == match.id), None) if policy else None
    return {
        "id": match.id,
        "version": match.version,
        "mode": match.mode,
        "action": match.action,
        "severity": match.severity,
        "reason": match.reason,
        "meaning": REASONS.get(match.reason, ""),
        "score": match.score,
        "description": rule.description if rule else "",
        "when": " ".join(rule.when.split()) if rule else "",
        "changed": bool(rule and rule.version != match.version),
        "gone": rule is None,
    }


def reasons(matches: Sequence[RuleMatch]) -> list[dict[str, str]]:
    """Every reason; those of the matched rules first, live before shadow, then their relatives."""
    own = list(dict.fromkeys(m.reason for m in sorted(matches, key=lambda m: m.mode != "live")))
    families = [code.split("-", maxsplit=1)[0] for code in own]
    order = [*own, *(c for c in REASONS if c.split("-", maxsplit=1)[0] in families), *REASONS]
    return [
        {"code": code, "meaning": REASONS.get(code, "")}
        for code in dict.fromkeys(order)
        if code != "appeal"
    ]


def author_post(each: AuthorPost) -> dict[str, Any]:
    """A line of the author's history."""
    text = each.text
    return {
        "time": utc(each.posted_ms),
        "text": text if len(text) <= _AUTHOR_TEXT_CHARS else f"{text[: _AUTHOR_TEXT_CHARS - 1]}…",
        "abusive": each.toxicity not in ("", "none"),
        "toxicity": toxicity_word(each.toxicity),
        "score": f"{each.toxicity_score:.2f}",
        "action": each.action,
        "judged": each.judged,
    }


def review_line(each: ReviewView) -> dict[str, Any]:
    """What a person said of this post before."""
    said = {"decide": each.action, "skip": "skipped", "escalate": "escalated", "undo": "took back"}
    return {
        "time": utc(each.at_ms),
        "who": each.reviewer,
        "said": said.get(each.verdict, each.verdict),
        "reason": each.reason,
        "note": each.note,
        "undone": each.undone,
    }


def _links(case: Case) -> list[str]:
    post = case.label.post
    if post is None:
        return []
    return list(dict.fromkeys([*([post.url] if post.url else []), *post.links]))[:20]


def _notes(decision: DecisionView | None) -> list[str]:
    """What a reviewer must know of how the decision came about."""
    if decision is None:
        return []
    why = decision.why
    notes = []
    if why.safelist:
        notes.append(f"A safelist ({why.safelist}) exempts this post; its rules count as shadow.")
    if why.quota:
        notes.append(f"The quota of {why.quota or 'all rules'} is used up: a rule fell to shadow.")
    if why.failed_rules:
        notes.append(f"Could not be evaluated: {', '.join(why.failed_rules)}.")
    return notes


def _decision_now(decision: DecisionView | None) -> str | None:
    if decision is None:
        return None
    by = f", by {decision.reviewer}" if decision.judged else ", by the policy"
    return f"{decision.action}{by}"


def _by_score(item: tuple[str, float]) -> float:
    return -item[1]
