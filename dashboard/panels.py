"""The charts of the Live page, and the sentence under each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import streamlit as st

from dashboard import charts, controls, page
from dashboard.drawing import show_chart
from dashboard.feed import toxicity_word
from dashboard.figures import Stretch, stretch
from dashboard.languages import language_name
from dashboard.reader import Bucket, Reader, percentile_ms
from dashboard.scope import SENTIMENTS, Scope
from dashboard.waves import Wave, find_waves

_FEWEST_BUCKETS: Final = 12


def panels() -> None:
    """Abuse, sentiment, throughput and languages over the range."""

    @st.fragment(run_every=controls.every(4))
    def draw() -> None:
        now = controls.at_ms()
        cut = stretch(controls.range_name(), now)
        scope, is_dark = controls.scope(), page.dark()
        with page.reading() as reader:
            if reader is None:
                return
            buckets = reader.buckets(scope, cut.from_s, cut.to_s, cut.step_s)
            waves = find_waves(buckets, cut.step_s)
            story = _story(reader, scope, waves, now)
            languages = reader.shares("language", scope, cut.from_s, cut.to_s)
            newest = reader.newest_post_ms()
            if not any(bucket.posts for bucket in buckets):
                _nothing_in_range(newest)
                return
            buckets = _from_first(buckets)
        left, right = st.columns(2, gap="small")
        with left.container(border=True, height="stretch", gap="xsmall"):
            st.markdown("**:material/report: Abuse**")
            show_chart(
                charts.abuse_chart(buckets, waves),
                alt="Share of posts with a toxicity label over time, UTC; waves are marked",
            )
            st.caption(story)
        with right.container(border=True, height="stretch", gap="xsmall"):
            st.markdown("**:material/mood: Sentiment**")
            show_chart(
                charts.sentiment_chart(buckets, dark=is_dark),
                alt="Shares of negative, neutral and positive posts over time, UTC",
            )
            st.caption(_mood(buckets))
        left, right = st.columns(2, gap="small")
        with left.container(border=True, height="stretch", gap="xsmall"):
            _pace(Stretch(buckets[0].start_s, now // 1000 // cut.step_s * cut.step_s, cut.step_s))
        with right.container(border=True, height="stretch", gap="xsmall"):
            _languages(Stretch(buckets[0].start_s, cut.to_s, cut.step_s), languages)

    draw()


def _choice(label: str, options: list[str], key: str) -> str:
    """What a card shows of two or three; in the address."""
    chosen: str | None = st.segmented_control(
        label, options, default=options[0], required=True, key=key, bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    return chosen or options[0]


def _pace(cut: Stretch) -> None:
    """How the whole stream is kept up with: posts a second, latency, or what waits."""
    chosen = _choice("Pace", list(_PACES), "pace")
    with page.reading() as reader:
        if reader is not None:
            _PACES[chosen](reader, cut)


def _throughput(reader: Reader, cut: Stretch) -> None:
    show_chart(
        charts.rate_chart(
            reader.labelled(cut.from_s, cut.to_s, cut.step_s), cut.step_s, dark=page.dark()
        ),
        alt="Posts labelled a second over time, UTC, whole stream",
    )


def _latency(reader: Reader, cut: Stretch) -> None:
    points = [
        (at, percentile_ms(found, 0.5) or 0.0, percentile_ms(found, 0.95) or 0.0)
        for at, found in reader.latency(cut.from_s, cut.to_s, cut.step_s).items()
    ]
    if not points:
        st.caption("Nothing was labelled in this range.")
        return
    show_chart(
        charts.latency_chart(points, dark=page.dark(), height=charts.HEIGHT),
        alt="Median and 95th percentile of the latency from posted to labelled in ms over time,"
        " UTC, whole stream",
    )
    st.caption(":blue[━] half of the posts · :orange[╍] 95 of 100")


def _backlog(reader: Reader, cut: Stretch) -> None:
    history = reader.backlog_history(cut.from_s, cut.step_s)
    if not history:
        st.caption("What waited in this range was not sampled.")
        return
    show_chart(
        charts.backlog_chart(history, dark=page.dark(), height=charts.HEIGHT),
        alt="Posts waiting for a worker over time, UTC, whole stream",
    )


#: What the card of the pace shows, by its name there.
_PACES: Final[dict[str, Callable[[Reader, Stretch], None]]] = {
    "Throughput": _throughput,
    "Latency": _latency,
    "Backlog": _backlog,
}


def _languages(cut: Stretch, shares: list[tuple[str, int, int]]) -> None:
    """The languages of the range, or how their shares went."""
    if _choice("Languages", ["Languages", "Over time"], "mix") == "Languages":
        show_chart(
            charts.language_chart(shares, dark=page.dark()),
            alt="Share of posts by language, the most frequent first",
        )
        return
    with page.reading() as reader:
        if reader is None:
            return
        found = reader.languages_over_time(controls.scope(), cut.from_s, cut.to_s, cut.step_s)
    show_chart(
        charts.language_mix_chart(found, [code for code, _, _ in shares], dark=page.dark()),
        alt="Shares of the most frequent languages, and of the others together, over time, UTC",
    )


def _from_first(buckets: list[Bucket]) -> list[Bucket]:
    """Without the emptiness before the first post, so that a young stream fills its charts."""
    first = next(i for i, bucket in enumerate(buckets) if bucket.posts)
    return buckets[max(min(first, len(buckets) - _FEWEST_BUCKETS), 0) :]


def _story(reader: Reader, scope: Scope, waves: list[Wave], now_ms: int) -> str:
    """The latest wave in a sentence."""
    if not waves:
        return ":green[:material/check_circle:] No wave in this range."
    wave = waves[-1]
    kinds = reader.shares("toxicity", scope, wave.from_s, wave.to_s, abusive=True)
    where = reader.shares("language", scope, wave.from_s, wave.to_s, abusive=True)
    going_on = wave.to_s * 1000 > now_ms - 30_000
    when = f"{page.utc(wave.from_s * 1000)[:5]} to {page.utc(wave.to_s * 1000)[:5]} UTC"
    usual = f", usually {wave.usual:.0%}" if wave.usual > 0 else ""
    mostly = ", ".join(
        name
        for name in (
            toxicity_word(kinds[0][0]) if kinds else "",
            language_name(where[0][0]) if where else "",
        )
        if name
    )
    return (
        f":orange[:material/warning:] **{'Wave going on' if going_on else 'Wave'}**, {when}:"
        f" {wave.share:.0%} of {wave.posts:,} posts{usual}; mostly {mostly}."
    )


def _mood(buckets: Sequence[Bucket]) -> str:
    """The shares of the range: the chart's legend, with numbers."""
    counts = [sum(getattr(bucket, name) for bucket in buckets) for name in SENTIMENTS]
    total = sum(counts) or 1
    return "  ".join(
        f":{colour}[:material/{icon}:] {name} {n / total:.0%}"
        for name, n, (colour, icon) in zip(
            SENTIMENTS,
            counts,
            (
                ("orange", "sentiment_dissatisfied"),
                ("gray", "sentiment_neutral"),
                ("blue", "sentiment_satisfied"),
            ),
            strict=True,
        )
    )


def _nothing_in_range(newest_ms: int | None) -> None:
    with st.container(border=True, horizontal_alignment="center"):
        st.space("small")
        st.markdown(
            f"##### :material/bedtime: Nothing in the last {controls.range_name()}",
            text_alignment="center",
        )
        if newest_ms is not None:
            st.caption(
                f"The newest post is from {page.utc(newest_ms)}. Choose a longer range, fewer"
                " filters, or send posts:",
                text_alignment="center",
            )
        st.code(page.FEED_COMMAND, language="bash", width=320)
        st.space("small")
