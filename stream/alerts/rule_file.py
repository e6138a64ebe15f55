"""What may stand in a file of alert rules, and how it is read.

Invariant: reading never stops at a mistake; a rule with one is left out, and the load fails
because the mistake was reported.
"""

from __future__ import annotations

import re
from datetime import time
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from stream.alerts.fields import Fields
from stream.alerts.rules import (
    DAYS,
    RATES,
    SEVERITIES,
    ChangeRule,
    Measure,
    NewTermRule,
    PipelineMeasure,
    PipelineRule,
    Quiet,
    Rule,
    RuleSet,
    RuleTest,
    SilenceRule,
    ThresholdRule,
)
from stream.policy.diagnostics import suggestion
from stream.policy.document import Value

#: Key to its meaning; docs/alerts.md is tested against these.
FILE_KEYS: Final = {
    "grace": "how long after a window's end its metrics may still come; default 5s",
    "false_alerts": "share of false ones among a day's alerts of all change rules; default 5%",
    "quiet": "quiet hours of every rule that has none of its own",
    "rules": "the rules",
    "tests": "windows, and how often a rule must fire on them",
}
COMMON_KEYS: Final = {
    "id": "lower-case letters, digits and hyphens; stands on every alert",
    "kind": "threshold, change, silence, pipeline or new-term",
    "description": "one sentence for people",
    "severity": "info, low, medium (default), high or critical",
    "version": "default 1",
    "cool_down": "nothing fires so soon after a resolve; default 5m",
    "resolve_after": "it must be over for so long to resolve; default 0s",
    "together": "true: one alert for all groups that breach at a time; default false",
    "most": "most alerts of the rule at a time, those beyond share one; default 10",
    "quiet": "hours in which nothing fires: from, to, zone, days, unless",
    "on": "false switches it off",
}
_GROUP_KEYS: Final = {
    "by": "all (default), source, language, label, action or tag: each group on its own",
    "only": "only these groups",
    "except": "not these groups",
}
_WINDOW_KEY: Final = {"window": "how much time is added up, a multiple of 10s; default 1m"}
_HOLD_KEY: Final = {"for": "a breach must last so long to fire; default 0s"}
KIND_KEYS: Final[dict[str, dict[str, str]]] = {
    "threshold": {
        **_GROUP_KEYS,
        **_WINDOW_KEY,
        **_HOLD_KEY,
        "measure": "what is looked at: a number of one window and group",
        "over": "breach above; 20% or 0.2 for a share",
        "under": "breach below",
        "resolve": "the bound on the way back; default: a fifth of the bound inside it",
        "min_authors": "fewer authors never breach",
        "min_posts": "fewer posts never breach",
        "min_count": "fewer posts of the kind (toxic, negative, ...) never breach",
    },
    "change": {
        **_GROUP_KEYS,
        **_WINDOW_KEY,
        **_HOLD_KEY,
        "measure": "authors, or toxic (toxic posts, by authors)",
        "direction": "up (default), down or both",
        "min_effect": "the least factor between seen and expected; default 2x",
        "min_authors": "fewer authors never breach; default 10",
        "history": "how much must be known before anything fires; default 30m",
        "level": "how far back the level is learnt; default 2h",
    },
    "silence": {
        **_GROUP_KEYS,
        "for": "how long there must be nothing",
        "of": "posts (default), or useful: posts in a language the models know",
        "min_posts": "posts to be expected in that time, or else nothing is missed; default 10",
        "forget": "a group silent for so long is missed no more; default 7d",
    },
    "pipeline": {
        **_HOLD_KEY,
        "only": "only these consumer groups or quotas",
        "except": "not these",
        "measure": "lag, dead_letter_rate or quota_tripped",
        "over": "breach above",
        "resolve": "the bound on the way back; default: a fifth below",
    },
    "new-term": {
        **_WINDOW_KEY,
        **_HOLD_KEY,
        "of": "tag (default), or term: a word of the texts",
        "only": "only these terms",
        "except": "not these terms",
        "min_authors": "fewer authors never breach; default 10",
        "memory": "a term not seen for so long is new again; default 7d",
        "history": "how long nothing fires at first, to learn what is known; default 30m",
    },
}
QUIET_KEYS: Final = {
    "from": "the beginning, as in 22:00",
    "to": "the end, as in 07:00; the next day where it is before the beginning",
    "zone": "a time zone, as in Europe/Berlin; default UTC",
    "days": "mon, tue, ...: days on which they begin; default: every day",
    "unless": "a severity from which rules fire all the same",
}
TEST_KEYS: Final = {
    "name": "what is tested",
    "rule": "the rule's id",
    "group": "the group the windows are of; default: one the rule concerns",
    "windows": "posts, authors, toxic, ... of one window after the other, `times` that many",
    "fires": "how often the rule must fire",
    "resolves": "how often it must resolve; default: not looked at",
}
WINDOW_KEYS: Final = {
    "posts": "posts",
    "authors": "different authors, others in every window; default: as many as posts",
    "toxic": "toxic posts",
    "negative": "negative posts",
    "positive": "positive posts",
    "unsupported": "posts in a language the models do not know",
    "strong": "posts limited, hidden or removed",
    "value": "of a pipeline rule: what is measured",
    "times": "so many such windows; default 1",
}
BY: Final = ("all", "source", "language", "label", "action", "tag")
_ID: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


def read_rules(document: Value) -> RuleSet:
    """What a document says; mistakes are reported, and what has one is not in the result."""
    fields = Fields(document.fields(FILE_KEYS, "a file of alert rules"))
    quiet = _quiet(fields["quiet"]) if "quiet" in fields else None
    rules: dict[str, Rule] = {}
    places: dict[str, str] = {}
    for written in fields["rules"].items("a list of rules") if "rules" in fields else []:
        rule = _read_rule(written, quiet, places)
        if rule is not None:
            rules.setdefault(rule.id, rule)
    if "rules" not in fields and isinstance(document.plain(), dict):
        document.wrong("there are no `rules`", hint="rules: a list of rules")
    tests = [
        test
        for written in (fields["tests"].items("a list of tests") if "tests" in fields else [])
        if (test := _read_test(written, rules, places)) is not None
    ]
    return RuleSet(
        rules=tuple(rules.values()),
        grace_s=fields.duration("grace", 5, least=0),
        false_share=fields.share("false_alerts", 0.05, least=0.0001, most=0.5),
        tests=tuple(tests),
    )


def _read_rule(written: Value, quiet: Quiet | None, places: dict[str, str]) -> Rule | None:
    before = len(written.found.found)
    raw = written.fields(None, "a rule")
    if not raw:
        return None
    kind = raw["kind"].choice(list(KIND_KEYS), "a kind of rule") if "kind" in raw else None
    if "kind" not in raw:
        written.wrong("the rule has no `kind`", hint=f"kind: {COMMON_KEYS['kind']}")
    rule_id = raw["id"].text(what="an id") if "id" in raw else None
    if "id" not in raw:
        written.wrong("the rule has no `id`", hint=f"id: {COMMON_KEYS['id']}")
    elif rule_id is not None:
        _check_id(rule_id, raw["id"], places)
    if kind is None or rule_id is None:
        return None
    article = "an" if kind[0] in "aeiou" else "a"
    fields = Fields(
        written.fields({**COMMON_KEYS, **KIND_KEYS[kind]}, f"{article} {kind} rule"), written
    )
    common: dict[str, Any] = {
        "id": rule_id,
        "version": fields.text("version", "1"),
        "description": " ".join(fields.text("description", "").split()),
        "severity": fields.choice("severity", SEVERITIES, "a severity", "medium"),
        "cool_down_s": fields.duration("cool_down", 300, least=0),
        "resolve_after_s": fields.duration("resolve_after", 0, least=0),
        "together": fields.boolean("together", default=False),
        "most": fields.number("most", 10, least=1),
        "quiet": _quiet(fields["quiet"]) if "quiet" in fields else quiet,
        "on": fields.boolean("on", default=True),
        "only": fields.texts("only"),
        "but": fields.texts("except"),
        "hold_s": fields.duration("for", 0, least=0),
    }
    if "by" in KIND_KEYS[kind]:
        common["by"] = fields.choice("by", BY, "a way to group posts", "all")
        _check_groups(fields, common["by"])
    if "window" in KIND_KEYS[kind]:
        common["window_s"] = fields.duration("window", 60, least=10, step=10, most=86_400)
    rule = _READERS[kind](fields, common)
    return rule if len(written.found.found) == before else None


def _check_groups(fields: Fields, by: str) -> None:
    for name in ("only", "except", "together"):
        if by == "all" and name in fields:
            fields[name].wrong(
                f"`{name}` needs groups, and the rule is about all posts together",
                hint="by: tag, for instance",
            )


def _threshold(fields: Fields, common: dict[str, Any]) -> Rule | None:
    name = fields.choice("measure", tuple(Measure), "a measure", None)
    if name is None or not fields.just_one("over", "under"):
        return None
    measure = Measure(name)
    read = fields.share if measure in RATES else fields.amount
    side = "over" if "over" in fields else "under"
    bound = read(side, 0.0)
    return ThresholdRule(
        **common,
        measure=measure,
        over=bound if side == "over" else None,
        under=bound if side == "under" else None,
        resolve_at=_resolve(fields, read("resolve", _inside(bound, side)), bound, side),
        min_authors=fields.number("min_authors", 0, least=0),
        min_posts=fields.number("min_posts", 0, least=0),
        min_count=fields.number("min_count", 0, least=0),
    )


def _inside(bound: float, side: str) -> float:
    """A fifth of the bound on its calm side."""
    return bound - abs(bound) / 5 if side == "over" else bound + abs(bound) / 5


def _resolve(fields: Fields, resolve: float, bound: float, side: str) -> float:
    wrong = resolve > bound if side == "over" else resolve < bound
    if wrong:
        hint = f"not {'more' if side == 'over' else 'less'} than `{side}`"
        fields["resolve"].wrong(f"it would resolve while it is still {side} the bound", hint=hint)
    return resolve


def _change(fields: Fields, common: dict[str, Any]) -> Rule | None:
    measure = fields.choice("measure", ("authors", "toxic"), "a measure of change", None)
    if measure is None:
        return None
    rule = ChangeRule(
        **common,
        measure=measure,  # type: ignore[arg-type] # one of the choices
        direction=fields.choice("direction", ("up", "down", "both"), "a direction", "up"),  # type: ignore[arg-type]
        effect=fields.factor("min_effect", 2.0),
        min_authors=fields.number("min_authors", 10, least=1),
        history_s=fields.duration("history", 1800, least=60),
        level_s=fields.duration("level", 7200, least=60),
    )
    if rule.level_s < rule.history_s:
        at = fields["level"] if "level" in fields else fields["history"]
        at.wrong("`level` is shorter than `history`", hint="nothing would ever be known")
    return rule


def _silence(fields: Fields, common: dict[str, Any]) -> Rule | None:
    if "for" not in fields:
        fields.missing("for", KIND_KEYS["silence"]["for"])
        return None
    hold_s = fields.duration("for", 300, least=10, step=10, most=86_400)
    return SilenceRule(
        **{**common, "hold_s": hold_s, "window_s": hold_s},
        of=fields.choice("of", ("posts", "useful"), "something to miss", "posts"),  # type: ignore[arg-type]
        min_posts=fields.number("min_posts", 10, least=1),
        forget_s=fields.duration("forget", 7 * 86_400, least=60),
    )


def _pipeline(fields: Fields, common: dict[str, Any]) -> Rule | None:
    name = fields.choice("measure", tuple(PipelineMeasure), "a measure of the pipeline", None)
    if name is None:
        return None
    measure = PipelineMeasure(name)
    if "over" not in fields and measure is not PipelineMeasure.QUOTA_TRIPPED:
        fields.missing("over", KIND_KEYS["pipeline"]["over"])
        return None
    read = fields.share if measure is PipelineMeasure.DEAD_LETTER_RATE else fields.amount
    bound = read("over", 0.0)
    resolve = _resolve(fields, read("resolve", _inside(bound, "over")), bound, "over")
    return PipelineRule(
        **{**common, "window_s": 10}, measure=measure, over=bound, resolve_at=resolve
    )


def _new_term(fields: Fields, common: dict[str, Any]) -> Rule:
    of = fields.choice("of", ("tag", "term"), "what can be new", "tag")
    return NewTermRule(
        **{**common, "by": "tag" if of == "tag" else "all"},
        of=of,  # type: ignore[arg-type] # one of the choices
        min_authors=fields.number("min_authors", 10, least=2),
        memory_s=fields.duration("memory", 7 * 86_400, least=3600),
        history_s=fields.duration("history", 1800, least=0),
    )


_READERS: Final = {
    "threshold": _threshold,
    "change": _change,
    "silence": _silence,
    "pipeline": _pipeline,
    "new-term": _new_term,
}


def _check_id(rule_id: str, at: Value, places: dict[str, str]) -> None:
    if not _ID.fullmatch(rule_id):
        at.wrong(f"`{rule_id}` is no id", hint="lower-case letters, digits and single hyphens")
    first = places.setdefault(rule_id, at.where)
    if first != at.where:
        at.wrong(f"there are two rules `{rule_id}`", hint=f"the first is in {first}")


def _quiet(value: Value) -> Quiet | None:
    fields = Fields(value.fields(QUIET_KEYS, "quiet hours"), value)
    if not fields.all_of("from", "to"):
        return None
    begin, end = _clock(fields["from"]), _clock(fields["to"])
    zone = _zone(fields["zone"]) if "zone" in fields else ZoneInfo("UTC")
    days = [
        DAYS.index(day)
        for item in (fields["days"].items("a list of days") if "days" in fields else [])
        if (day := item.choice(DAYS, "a day")) is not None
    ]
    unless = fields.choice("unless", SEVERITIES, "a severity", None, required=False)
    if begin is not None and begin == end:
        fields["to"].wrong("the quiet hours end when they begin")
    if begin is None or end is None or zone is None:
        return None
    return Quiet(begin, end, zone, frozenset(days or range(7)), unless)  # type: ignore[arg-type]


def _clock(value: Value) -> time | None:
    text = value.text(what="a time of day")
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text or "")
    if found is None:
        value.wrong(f"`{text}` is no time of day", hint="write 22:00")
        return None
    return time(int(found[1]), int(found[2]))


def _zone(value: Value) -> ZoneInfo | None:
    name = value.text(what="a time zone")
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        hint = suggestion(name, available_timezones()) or "as in Europe/Berlin"
        value.wrong(f"`{name}` is not a time zone", hint=hint)
        return None


def _read_test(written: Value, rules: dict[str, Rule], places: dict[str, str]) -> RuleTest | None:
    fields = Fields(written.fields(TEST_KEYS, "a test"), written)
    if not fields.all_of("rule", "windows", "fires"):
        return None
    rule_id = fields["rule"].choice(list(places), "a rule of this file")
    windows: list[dict[str, int]] = []
    for item in fields["windows"].items("a list of windows"):
        numbers = Fields(item.fields(WINDOW_KEYS, "a window"), item)
        window = {name: numbers.number(name, 0, least=0) for name in WINDOW_KEYS if name in numbers}
        windows += [window] * window.pop("times", 1)
    rule = rules.get(rule_id or "")
    if rule is None:
        return None
    group = next(iter(sorted(rule.only)), "all" if rule.by == "all" else "example")
    return RuleTest(
        name=fields.text("name", rule.id),
        rule=rule.id,
        width_s=rule.width_s,
        windows=tuple(windows),
        fires=fields.number("fires", 0, least=0),
        resolves=fields.number("resolves", 0, least=0) if "resolves" in fields else None,
        group=fields.text("group", group),
        where=written.where,
    )
