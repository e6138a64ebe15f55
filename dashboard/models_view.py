"""The Models page: cards, dev figures, calibration, drift, languages, and what reviewers overrode."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pandas as pd
import streamlit as st

from dashboard import controls, model_charts, page
from dashboard.drawing import show_chart
from dashboard.languages import language_name
from dashboard.model_facts import ModelFacts, drift_word, model_facts, overrides
from dashboard.page import reading
from dashboard.period import Period, period
from dashboard.queries.scores import drifts, histogram
from models.manifest import Head
from models.scores import ModelVersion

_EVERY_S: Final = 30
#: Share of posts in measured languages under which the page warns.
_COVERED: Final = 0.9
_PERIODS: Final = ("24 h", "7 d", "30 d")


def span() -> Period:
    """The period that drift, languages and overrides are of."""
    name = st.session_state.get("model_period") or "24 h"
    return period(name, page.now_ms() // 1000)


def pickers() -> None:
    """The period; in the address."""
    st.segmented_control(
        "Period",
        list(_PERIODS),
        default="24 h",
        required=True,
        key="model_period",
        bind="query-params",
        label_visibility="collapsed",
        help="Of drift, languages and overrides; dev figures have none.",
    )


def cards(facts: list[ModelFacts]) -> None:
    """A card each: what it answers, in which version, and whether it is the one that labels."""
    with reading() as reader:
        labelling = {
            ModelVersion(model["id"], model["version"])
            for row in (reader.models()[:1] if reader else [])
            for model in msgspec.json.decode(row["models"]).values()
        }
    for column, fact in zip(st.columns(max(len(facts), 2), gap="small"), facts, strict=False):
        with column.container(border=True, height="stretch", gap="xsmall"):
            model = fact.model
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown("**:material/model_training:**", width="content")
                st.text(model.id, width="content")
                if ModelVersion(model.id, model.version) in labelling:
                    st.badge("labelling now", icon=":material/check_circle:", color="green")
                elif labelling:
                    st.badge("another version labels", icon=":material/warning:", color="orange")
                else:
                    st.badge("no label yet", icon=":material/hourglass_empty:", color="gray")
            st.text(f"version {model.version} · {', '.join(fact.tasks)}")
            st.caption(_size(fact))
            card = fact.card
            if card is not None:
                raw = st.expander(
                    "Model card", icon=":material/description:", key=f"card-{fact.name}",
                    on_change="rerun",
                )  # fmt: skip
                if raw.open:
                    raw.markdown(card)


def _size(fact: ModelFacts) -> str:
    parts = [
        fact.model.precision or "",
        f"{fact.size_bytes / 1e6:,.1f} MB" if fact.size_bytes else "",
        f"{fact.model.max_tokens} {'letters' if fact.model.reads == 'ngrams' else 'tokens'} a text",
        f"runs on {', '.join(fact.model.devices)}",
    ]
    return " · ".join(part for part in parts if part)


def figures(facts: list[ModelFacts]) -> None:
    """What the dev rows said, from the file beside the graph."""
    for fact in facts:
        found = fact.evaluation
        if found is None:
            continue
        columns = st.columns([1, 1.6], gap="small")
        if found.dev.sentiment is not None:
            with columns[0].container(border=True, gap="xsmall"):
                st.markdown("**:material/mood: Sentiment on dev rows**")
                _table(
                    [
                        (language_name(code), part.macro_recall, part.macro_f1, part.rows)
                        for code, part in found.dev.sentiment.by_language.items()
                    ],
                    ("Language", "Macro-recall", "Macro-F1", "Rows"),
                    "Sentiment figures by language",
                )
        if found.dev.toxicity is not None:
            with columns[1].container(border=True, gap="xsmall"):
                st.markdown("**:material/report: Toxicity on dev rows**")
                _table(
                    [
                        (
                            name.replace("_", " "),
                            label.all.roc_auc,
                            label.all.average_precision,
                            label.at.threshold,
                            label.at.precision,
                            label.at.recall,
                            label.all.positives,
                            label.all.rows,
                        )
                        for name, label in found.dev.toxicity.labels.items()
                    ],
                    ("Label", "ROC-AUC", "Average precision", "Threshold", "Precision", "Recall",
                     "Positives", "Rows"),
                    "Toxicity figures by label",
                )  # fmt: skip
        st.caption(
            f"Measured of version {found.version}, before it was released. Nothing here is of your posts."
        )


def calibration(facts: list[ModelFacts]) -> None:
    """Did what was said come true: on dev rows."""
    for fact in facts:
        scores = fact.dev_scores
        if scores is None:
            continue
        with st.container(border=True, gap="xsmall"):
            st.markdown("**:material/target: Calibration on dev rows**")
            label = st.selectbox(
                "Label", list(scores.labels), key=f"calibration-{fact.name}", width=260,
                label_visibility="collapsed", index=_toxic(list(scores.labels)),
                bind="query-params",
            )  # fmt: skip
            held = scores.labels[label]
            left, right = st.columns(2, gap="small")
            with left:
                show_chart(
                    model_charts.reliability_chart(held.reliability, dark=page.dark()),
                    alt=f"Calibration of {label}: how often it was so, by the score given",
                )
            with reading() as reader, right:
                if reader is not None:
                    now = span()
                    live = histogram(reader.db, label, now.from_s, now.to_s)
                    show_chart(
                        model_charts.distribution_chart(
                            held.counts, live.counts, now.name, dark=page.dark()
                        ),
                        alt=f"Scores of {label} on dev rows and in the last {now.name}",
                    )
            found = fact.evaluation.calibration if fact.evaluation else {}
            of = found.get(label.replace(".", " ", 1)) or found.get(label.split(".")[0])
            if of is not None:
                st.caption(
                    f"Expected calibration error {of.after:.3f} ({of.before:.3f} before it was"
                    f" calibrated, method {of.method}), on {of.rows:,} rows that the fit had"
                    " not seen. The curve is of all dev rows, which the calibration in use has seen."
                )


def _toxic(labels: list[str]) -> int:
    return labels.index("toxicity.toxic") if "toxicity.toxic" in labels else 0


@st.fragment(run_every=_EVERY_S)
def drift(facts: list[ModelFacts]) -> None:
    """How far live scores are from the dev rows', and from the week before."""
    reference = {
        label: scores.counts
        for fact in facts
        if fact.dev_scores is not None
        for label, scores in fact.dev_scores.labels.items()
    }
    now = span()
    with reading() as reader:
        if reader is None:
            return
        dev = {d.label: d for d in drifts(reader.db, now.from_s, now.to_s, reference=reference)}
        week = {d.label: d for d in drifts(reader.db, now.from_s, now.to_s)}
    with st.container(border=True, gap="xsmall"):
        st.markdown("**:material/swap_vert: Score drift**")
        if not dev:
            st.caption("No scores are stored yet.")
            return
        st.dataframe(
            pd.DataFrame(
                [
                    {
                        "Label": label,
                        "PSI to dev": found.psi if label in reference else None,
                        "Reading": drift_word(found) if label in reference else "no dev scores",
                        "PSI to week before": week[label].psi,
                        "Posts": found.posts,
                    }
                    for label, found in dev.items()
                ]
            ),
            hide_index=True,
            placeholder="–",
            alt=f"Population stability index of each label's scores in the last {now.name}",
            column_config={
                "PSI to dev": st.column_config.NumberColumn(format="%.2f"),
                "PSI to week before": st.column_config.NumberColumn(format="%.2f"),
                "Posts": st.column_config.NumberColumn(format="localized"),
            },
        )
        st.caption(
            "Population stability index: under 0.1 as before, to 0.25 moved, above it another"
            " distribution. Dev rows hold far more abuse than a stream does, so a large value to dev"
            " is usual; one that grows against the week before is news."
        )


@st.fragment(run_every=_EVERY_S)
def languages(facts: list[ModelFacts]) -> None:
    """What is spoken against what the models were measured on."""
    heads: dict[str, Head] = {
        task: head for fact in facts for task, head in fact.heads.items() if task != "language"
    }
    now = span()
    with reading() as reader:
        if reader is None:
            return
        seen = reader.shares("language", controls.scope(), now.from_s, now.to_s)
    with st.container(border=True, gap="xsmall"):
        st.markdown("**:material/translate: Languages seen, and measured**")
        total = sum(posts for _, posts, _ in seen)
        if not total:
            st.caption("No post in this period.")
            return
        for task, head in heads.items():
            if head.languages:
                covered = sum(n for code, n, _ in seen if code in head.languages) / total
                st.badge(
                    f"{task}: measured on {covered:.0%} of the posts",
                    icon=":material/check_circle:" if covered >= _COVERED else ":material/warning:",
                    color="green" if covered >= _COVERED else "orange",
                )
        st.dataframe(
            pd.DataFrame(
                [
                    {
                        "Language": language_name(code) or "not told",
                        "Posts": posts,
                        "Share": posts / total,
                    }
                    | {
                        task.capitalize(): "✓ measured"
                        if code in head.languages
                        else "– not measured"
                        for task, head in heads.items()
                        if head.languages
                    }
                    for code, posts, _ in seen
                ]
            ),
            hide_index=True,
            placeholder="–",
            height="content" if len(seen) < 9 else 330,
            alt="Languages of the period, and whether each task was measured on them",
            column_config={
                "Share": st.column_config.ProgressColumn(
                    format="percent", min_value=0, max_value=1
                ),
                "Posts": st.column_config.NumberColumn(format="localized"),
            },
        )


@st.fragment(run_every=_EVERY_S)
def override_rate() -> None:
    """How often people decided otherwise than the policy, by what the model had said."""
    now = span()
    with reading() as reader:
        if reader is None:
            return
        found = overrides(reader.db, now.from_s, now.to_s)
    with st.container(border=True, gap="xsmall"):
        st.markdown("**:material/rule: Overridden by reviewers**")
        judged = sum(row.judged for row in found)
        if not judged:
            st.caption("Nobody has reviewed a post of this period.")
            return
        st.dataframe(
            pd.DataFrame(
                [
                    {
                        "The model said": row.label.replace("_", " ") or "nothing",
                        "Language": language_name(row.language),
                        "Reviewed": row.judged,
                        "Overridden": row.overridden,
                        "Rate": row.overridden / row.judged,
                    }
                    for row in found
                ]
            ),
            hide_index=True,
            placeholder="–",
            height="content" if len(found) < 9 else 330,
            alt="Share of reviewed posts on which people decided otherwise",
            column_config={
                "Rate": st.column_config.ProgressColumn(
                    "Override rate", format="percent", min_value=0, max_value=1
                )
            },
        )
        total = sum(row.overridden for row in found)
        st.caption(
            f"{total:,} of {judged:,} reviewed posts ({total / judged:.0%}): an abusive post that a"
            " person allowed, or one the model let pass and a person acted on. Reviewed posts are no"
            " random sample."
        )


def _table(rows: list[tuple[Any, ...]], columns: tuple[str, ...], alt: str) -> None:
    st.dataframe(
        pd.DataFrame(rows, columns=list(columns)),
        hide_index=True,
        placeholder="–",
        alt=alt,
        column_config={
            name: st.column_config.NumberColumn(
                format="localized" if name in ("Rows", "Positives") else "%.3f"
            )
            for name in columns[1:]
        },
    )


@st.cache_data(ttl=60, show_spinner=False)
def _facts_of(manifest: str | None, preset: str) -> list[ModelFacts]:
    return model_facts(manifest, preset)


def facts() -> list[ModelFacts]:
    """Of the models in force."""
    of = page.settings().models
    return _facts_of(None if of.manifest is None else str(of.manifest), of.preset)


def forget() -> None:
    """Read manifest and files again."""
    _facts_of.clear()
