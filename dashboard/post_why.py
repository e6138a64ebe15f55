"""Why a post has its labels: its words by effect, the thresholds then in force, rules that matched.

Invariant: words and thresholds are those of the model that labelled the post; where another version
runs now, thresholds are left out and the words say of which model they are.
"""

from __future__ import annotations

from typing import Any, Final

import streamlit as st

from dashboard import page
from dashboard.database import Database
from dashboard.feed import Facts, toxicity_word
from dashboard.queries.decisions import DecisionView, decision_of, reviews_of
from models.explain import Explanation, explain
from models.manifest import load_manifest
from models.scores import Scorer
from stream.errors import TidegateError
from stream.records import Label, decode_label, rfc3339
from stream.scoring import scorer_of

_KEPT: Final = 256
#: Of all effects, what a part must have to be told of in words.
_TOLD_SHARE: Final = 0.05
_TOLD: Final = 6


def thresholds_of(label: Label) -> dict[str, float]:
    """The toxicity thresholds for the post's language; none where another version labelled it."""
    of = page.settings().models
    try:
        models = load_manifest(of.manifest).preset(of.preset).values()
    except TidegateError:
        return {}
    model = next((model for model in models if "toxicity" in model.heads), None)
    ref = label.models.get("toxicity")
    if model is None or ref is None or (ref.id, ref.version) != (model.id, model.version):
        return {}
    head = model.heads["toxicity"]
    language = label.labels.get("language")
    own = head.by_language.get(language.label, {}) if language else {}
    return head.thresholds | {name: found.threshold for name, found in own.items()}


def decided_facts(db: Database, post_id: str) -> Facts:
    """What became of a post: the action, every rule that matched, live or shadow, every review."""
    found = decision_of(db, post_id)
    facts = [] if found is None else _decision(found)
    for review in reviews_of(db, post_id):
        what = f"{review.verdict} {review.action}".strip()
        note = f", note: {review.note}" if review.note else ""
        undone = " (taken back)" if review.undone else ""
        facts.append(
            ("Review", f"{what} by {review.reviewer}, {rfc3339(review.at_ms)}{undone}{note}")
        )
    return facts


def _decision(found: DecisionView) -> list[tuple[str, str]]:
    by = f"by {found.reviewer}" if found.judged else f"by policy {found.policy}"
    why = f", reason {found.reason}" if found.reason else ""
    facts = [
        ("Action", f"{found.action} ({found.severity}) {by}{why}"),
        ("Decided", rfc3339(found.decided_ms)),
    ]
    if found.judged and found.policy_action != found.action:
        facts.append(("The policy alone", f"{found.policy_action}, policy {found.policy}"))
    for mode in ("live", "shadow"):
        for rule in found.why.rules:
            if rule.mode == mode:
                score = "" if rule.score is None else f", score {rule.score:.3f}"
                what = f"{rule.action} ({rule.severity}), {rule.reason}{score}"
                facts.append((f"Rule, {mode}", f"{rule.id} {rule.version}: {what}"))
    if not found.why.rules:
        facts.append(("Rules", "none matched, live or shadow"))
    for name, value in (
        ("Safelist", found.why.safelist),
        ("Quota", found.why.quota),
        ("Rules that failed", ", ".join(found.why.failed_rules)),
    ):
        if value:
            facts.append((name, value))
    return facts


@st.cache_resource(show_spinner=False)
def _scorer() -> Scorer:
    """The model, loaded when the first person asks why."""
    return scorer_of(page.settings().models)


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def explained(label_id: str, record: bytes) -> list[dict[str, Any]]:
    """What the component draws: of each task the text in parts, and the strongest in words.

    Args:
        label_id: whose answer is kept, so that it is worked out once.
        record: the label record.

    Raises:
        TidegateError: the model cannot be loaded or fails.
    """
    assert label_id
    label = decode_label(record)
    text = (label.post.text or "") if label.post else ""
    if not text.strip():
        return []
    scorer = _scorer()
    wanted = {
        task: None if answer.label == "none" else answer.label
        for task, answer in label.labels.items()
        if task in ("toxicity", "sentiment") and task in scorer.models
    }
    found = []
    for one in explain(scorer, text, wanted):
        ref, now = label.models.get(one.task), scorer.models[one.task]
        same = ref is not None and (ref.id, ref.version) == (now.id, now.version)
        note = f"{one.score:.3f}" + (
            "" if same else f" · by {now.id} {now.version}, which runs now"
        )
        found.append(
            {
                "title": f"{one.task.capitalize()}: {toxicity_word(one.label)}",
                "note": note,
                "parts": parts_of(text, one),
                "told": told(one),
            }
        )
    return sorted(found, key=lambda each: -str(each["title"]).startswith("Toxicity"))


def parts_of(text: str, explanation: Explanation) -> list[dict[str, Any]]:
    """The whole text in order, each part with its way (for, against, none) and strength, 0 to 1."""
    strongest = max((abs(span.effect) for span in explanation.spans), default=0.0)
    parts: list[dict[str, Any]] = []
    at = 0
    for span in explanation.spans:
        strength = abs(span.effect) / strongest if strongest > 0 else 0.0
        if strength < _TOLD_SHARE:
            continue
        if span.start > at:
            parts.append({"text": text[at : span.start], "way": ""})
        way = "for" if span.effect > 0 else "against"
        parts.append(
            {
                "text": text[span.start : span.end],
                "way": way,
                "strength": 0.12 + 0.43 * strength,
                "title": f"speaks {way} it: {span.effect:+.2f} log-odds; without it {span.without:.3f}",
            }
        )
        at = span.end
    if at < len(text):
        parts.append({"text": text[at:], "way": ""})
    return parts


def told(explanation: Explanation) -> str:
    """The strongest parts in words, for those who see no colour."""
    strongest = sorted(explanation.spans, key=lambda span: -span.share)[:_TOLD]
    words = [f"“{s.text}” {s.share:.0%}" for s in strongest if s.share >= _TOLD_SHARE]
    return f"Driven by {', '.join(words)}" if words else "No single part drives it."
