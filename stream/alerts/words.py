"""What people read in an alert: one sentence when it fires, one when it resolves."""

from __future__ import annotations

from stream.aggregates.merge import ALL
from stream.alerts.reading import SEVERAL, Reading
from stream.alerts.rules import RATES, Measure, PipelineMeasure, Rule

_NAMES = {
    Measure.POSTS: "posts",
    Measure.AUTHORS: "authors",
    Measure.TOXIC: "toxic posts",
    Measure.TOXICITY_RATE: "toxicity rate",
    Measure.NEGATIVE_RATE: "share of negative posts",
    Measure.NET_SENTIMENT: "net sentiment",
    Measure.UNSUPPORTED_RATE: "share of posts in languages the models do not know",
    Measure.STRONG_ACTION_RATE: "share of posts limited, hidden or removed",
    Measure.POSTS_PER_AUTHOR: "posts per author",
    PipelineMeasure.LAG: "records behind",
    PipelineMeasure.DEAD_LETTER_RATE: "share of records that become dead letters",
    PipelineMeasure.QUOTA_TRIPPED: "posts spared by a tripped quota",
}
_UNITS = {Measure.POSTS: "posts", Measure.AUTHORS: "authors", Measure.TOXIC: "posts"}


def unit_of(rule: Rule) -> str | None:
    """The unit of an alert's numbers."""
    match rule.kind:
        case "threshold":
            return "share" if rule.measure in RATES else _UNITS.get(rule.measure)
        case "pipeline":
            shares = rule.measure is PipelineMeasure.DEAD_LETTER_RATE
            return "share" if shares else "records"
        case "change":
            return "authors" if rule.measure == "authors" else "toxic authors"
        case "new-term":
            return "authors"
        case "silence":
            return "posts"


def firing(rule: Rule, group: str, reading: Reading, begun: int, tick: int) -> str:
    """What was seen, where, against what."""
    seen = _seen(rule, reading)
    where = _where(rule, group, reading)
    match rule.kind:
        case "threshold" | "pipeline":
            side = "under" if rule.kind == "threshold" and rule.under is not None else "over"
            text = (
                f"{_NAMES[rule.measure]} {seen}{where}, {side} {_number(rule, reading.threshold)}"
            )
        case "change":
            what = "authors" if rule.measure == "authors" else "toxic posts, by authors,"
            expected = _number(rule, reading.expected)
            text = f"{seen} {what}{where} in {span(rule.window_s)}, where {expected} are usual"
        case "silence":
            what = "nothing useful" if rule.of == "useful" else "no posts"
            text = f"{what}{where} for {span(tick - begun)}"
            if rule.of == "useful" and reading.posts:
                text += f", though {reading.posts} posts came"
            elif reading.expected:
                text += f"; about {reading.expected:,.0f} were to be expected"
        case "new-term":
            text = f"new {rule.of}{where}: {seen} authors in {span(rule.window_s)}"
    if rule.kind == "threshold" and reading.authors:
        text += (
            f" ({reading.posts:,} posts by {reading.authors:,} authors in {span(rule.window_s)})"
        )
    return text


def resolved(
    rule: Rule, group: str, reading: Reading, *, begun: int, tick: int, worst: float | None
) -> str:
    """That it is over, how long it lasted, how bad it was."""
    what = {
        "threshold": "back to normal",
        "pipeline": "back to normal",
        "change": "back to what is usual",
        "silence": "posts again",
        "new-term": "no longer talked about",
    }[rule.kind]
    if _still_beyond(rule, reading):
        # Not back: no longer enough posts or authors for the rule to speak of.
        what = "hardly anybody left"
    text = f"{what}{_where(rule, group, reading)} after {span(tick - begun)}"
    if rule.kind in ("threshold", "pipeline") and reading.observed is not None:
        text += f": {_name(rule)} {_seen(rule, reading)}"
        if _still_beyond(rule, reading):
            text += f" of {_people(reading)}"
    if worst is not None and rule.kind != "silence":
        text += f", {_number(rule, worst)} at its worst"
    return text


def _still_beyond(rule: Rule, reading: Reading) -> bool:
    if rule.kind != "threshold" or reading.observed is None:
        return False
    if rule.over is not None:
        return reading.observed > rule.resolve_at
    return reading.observed < rule.resolve_at


def _people(reading: Reading) -> str:
    posts = f"{reading.posts or 0:,} posts"
    return posts if reading.authors is None else f"{posts} by {reading.authors:,} authors"


def span(seconds: int) -> str:
    """A span of time in its largest units."""
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        number, seconds = divmod(max(seconds, 0), size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _where(rule: Rule, group: str, reading: Reading) -> str:
    if reading.groups:
        shown = ", ".join(reading.groups[:5])
        more = len(reading.groups) - 5
        number = f"{len(reading.groups)} {_plural(rule)}"
        return f" in {number} ({shown}{f' and {more} more' if more > 0 else ''})"
    if group in (ALL, SEVERAL):
        return "" if group == ALL else f" in several {_plural(rule)}"
    if rule.kind == "new-term":
        return f" {group}"
    if rule.kind == "pipeline":
        return f" in {group}"
    if rule.kind == "silence" and rule.by == "source":
        return f" from source {group}"
    return f" in {rule.by} {group}"


def _plural(rule: Rule) -> str:
    if rule.kind == "new-term":
        return f"{rule.of}s"
    return "parts" if rule.kind == "pipeline" else f"{rule.by}s"


def _name(rule: Rule) -> str:
    return _NAMES[rule.measure] if rule.kind in ("threshold", "pipeline") else ""


def _seen(rule: Rule, reading: Reading) -> str:
    return _number(rule, reading.observed)


def _number(rule: Rule, value: float | None) -> str:
    if value is None:
        return "unknown"
    if unit_of(rule) == "share":
        return f"{value * 100:.3g} %"
    return f"{value:,.0f}" if value >= 100 or value == round(value) else f"{value:.2g}"
