"""The evaluator over made-up metrics: what fires, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream.alerts.evaluator import Evaluator
from stream.alerts.history import History, moment, written
from stream.alerts.rules import PipelineMeasure
from stream.decisions.quotas import quota_alert
from stream.outcomes import Alert, Metric
from tests.stream.alerts.streams import BEGIN, follow, metric, rules_of, run, sketch, story


def test_an_episode_says_what_was_seen_and_since_when_and_resolves_under_the_same_id() -> None:
    calm = [metric(BEGIN + 10 * n, 10, "launch", toxic=1) for n in range(6)]
    wave = [metric(BEGIN + 60 + 10 * n, 20, "launch", toxic=12) for n in range(3)]
    after = [metric(BEGIN + 90 + 10 * n, 10, "launch") for n in range(6)]
    fired, resolved = run(
        "rules: [{id: a, kind: threshold, measure: toxicity_rate, by: tag, over: 25%, window: 20s,"
        " severity: high}]",
        calm + wave + after,
        BEGIN + 300,
    )
    assert fired.alert_id == resolved.alert_id == "a/launch/2027-01-15T08:01:00.000Z"
    assert (fired.state, fired.severity, fired.group) == ("firing", "high", {"tag": "launch"})
    assert fired.started_at == "2027-01-15T08:01:00.000Z"
    assert (fired.observed, fired.threshold, fired.unit) == (0.4333, 0.25, "share")
    assert (fired.posts, fired.authors, fired.window_s) == (30, 30, 20)
    assert fired.summary == (
        "Toxicity rate 43.3 % in tag launch, over 25 % (30 posts by 30 authors in 20 s)"
    )
    assert (resolved.state, resolved.resolved_at) == ("resolved", resolved.at)
    assert resolved.summary == (
        "Back to normal in tag launch after 50 s: toxicity rate 0 %, 60 % at its worst"
    )


def test_windows_are_waited_for_as_long_as_the_grace_says() -> None:
    rules = rules_of(
        "grace: 20s\nrules: [{id: a, kind: threshold, measure: posts, over: 5, window: 10s}]"
    )
    evaluator = Evaluator(rules)
    evaluator.add(metric(BEGIN, 4))
    assert not evaluator.advance(BEGIN + 25)
    evaluator.add(metric(BEGIN, 4, partition=1))
    assert [o.alert.posts for o in evaluator.advance(BEGIN + 30)] == [8]


@pytest.mark.parametrize(
    ("field", "ticks"),
    [
        ("", [20, 50, 90, 120]),
        ("for: 10s", [30, 50, 100, 120]),
        ("for: 30s", []),
        ("resolve_after: 20s", [20, 70, 90, 140]),
        ("resolve_after: 40s", [20, 160]),
        ("cool_down: 50s", [20, 50, 100, 120]),
        ("cool_down: 60s", [20, 50, 110, 120]),
        ("cool_down: 70s", [20, 50]),
    ],
)
def test_hold_resolve_and_cool_down(field: str, ticks: list[int]) -> None:
    """Breaches from 20 to 40 and from 90 to 110."""
    high = {1, 2, 3, 8, 9, 10}
    metrics = [metric(BEGIN + 10 * n, 10 if n in high else 1) for n in range(30)]
    rule = "{id: a, kind: threshold, measure: posts, over: 5, window: 10s"
    fields = field if "cool_down" in field else f"cool_down: 0s{', ' if field else ''}{field}"
    alerts = run(f"rules: [{rule}, {fields}}}]", metrics)
    assert [tick for _, _, tick in story(alerts)] == ticks
    assert [alert.state for alert in alerts] == ["firing", "resolved"] * (len(ticks) // 2)


def test_between_the_bound_and_the_way_back_nothing_changes() -> None:
    rule = "{id: a, kind: threshold, measure: posts, over: 10, resolve: 5, window: 10s}"
    counts = [1, 7, 11, 7, 11, 6, 5, 7, 11]
    metrics = [metric(BEGIN + 10 * n, posts) for n, posts in enumerate(counts)]
    alerts = run(f"rules: [{rule}]", metrics)
    assert story(alerts) == [("a", "firing", 30), ("a", "resolved", 70)]


def test_quiet_hours_are_those_of_the_zone_and_what_lasts_longer_fires_after_them() -> None:
    # 08:00 UTC is 09:00 in Berlin; quiet until 09:02.
    quiet = '{from: "22:00", to: "09:02", zone: Europe/Berlin, unless: critical}'
    metrics = [metric(BEGIN + 10 * n, 10 if n < 15 else 1) for n in range(30)]
    for severity, first in (("high", 120), ("critical", 10)):
        rule = f"{{id: a, kind: threshold, measure: posts, over: 5, window: 10s, severity: {severity}}}"
        alerts = run(f"quiet: {quiet}\nrules: [{rule}]", metrics)
        assert story(alerts) == [("a", "firing", first), ("a", "resolved", 160)]
        assert moment(alerts[0].started_at) == BEGIN, "it says when it really began"


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    # 2027-01-15 is a Friday.
    text = """
rules:
  - id: a
    kind: threshold
    measure: posts
    over: 5
    quiet: {{from: "22:00", to: "09:00", days: [{day}]}}
"""
    for day, quiet in (("thu", True), ("fri", False)):
        (rule,) = rules_of(text.format(day=day)).rules
        assert rule.quiet is not None
        assert rule.quiet.covers(BEGIN, "low") is quiet


def test_groups_together_are_one_alert_and_too_many_share_one() -> None:
    def metrics(wave: int) -> list[Metric]:
        return [
            metric(BEGIN + 10 * n, 10 + g if 2 <= n < 5 else 1, f"tag{g}")
            for n in range(12)
            for g in range(wave)
        ]

    rule = "id: a, kind: threshold, measure: posts, by: tag, over: 5, window: 10s"
    one = run(f"rules: [{{{rule}, together: true}}]", metrics(7))
    assert story(one) == [("a", "firing", 30), ("a", "resolved", 60)]
    assert one[0].group == {"tag": "(several)"}
    assert "in 7 tags (tag6, tag5, tag4, tag3, tag2 and 2 more)" in one[0].summary
    several = run(f"rules: [{{{rule}, most: 2}}]", metrics(7))
    fired = [alert.group["tag"] for alert in several if alert.state == "firing"]
    assert fired == ["tag6", "tag5", "(several)"]
    assert [alert.state for alert in several].count("resolved") == 3


def test_silence_begins_when_a_source_was_last_heard_and_ends_when_it_is_again() -> None:
    heard = [metric(BEGIN + 10 * n, 5, "forum", by="source") for n in range(30)]
    back = [metric(BEGIN + 900, 5, "forum", by="source")]
    rules = "rules: [{id: s, kind: silence, by: source, for: 5m, min_posts: 20}]"
    evaluator = Evaluator(rules_of(rules))
    alerts = follow(evaluator, heard, BEGIN + 860)
    alerts += follow(evaluator, back, BEGIN + 960)
    assert story(alerts) == [("s", "firing", 600), ("s", "resolved", 910)]
    assert moment(alerts[0].started_at) == BEGIN + 300
    assert alerts[0].expected == pytest.approx(150, rel=0.05)
    assert alerts[0].summary.startswith("No posts from source forum for 5 min; about 1")


def test_a_quiet_source_is_not_missed_and_a_named_one_is_even_if_it_never_came() -> None:
    rare = [metric(BEGIN + 600 * n, 1, "blog", by="source") for n in range(3)]
    rules = "rules: [{id: s, kind: silence, by: source, for: 5m, min_posts: 20}]"
    assert run(rules, rare, BEGIN + 7200) == []
    named = "rules: [{id: s, kind: silence, by: source, only: [wire], for: 5m}]"
    fired, *_ = run(named, rare, BEGIN + 7200)
    assert (fired.group, moment(fired.at)) == ({"source": "wire"}, BEGIN + 300)


def test_connected_and_nothing_useful() -> None:
    good = [metric(BEGIN + 10 * n, 5, "feed", by="source", unsupported=1) for n in range(30)]
    useless = [
        metric(BEGIN + 300 + 10 * n, 5, "feed", by="source", unsupported=5) for n in range(40)
    ]
    rules = "rules: [{id: s, kind: silence, of: useful, by: source, for: 5m, min_posts: 20}]"
    (fired,) = run(rules, good + useless)
    assert fired.summary == "Nothing useful from source feed for 5 min, though 150 posts came"


def test_a_new_tag_needs_authors_and_not_posts() -> None:
    rules = "rules: [{id: n, kind: new-term, min_authors: 10, history: 1m, window: 20s}]"
    known = [metric(BEGIN + 10 * n, 20, "old") for n in range(12)]
    one = [metric(BEGIN + 80 + 10 * n, 50, "spam", authors=["bot"]) for n in range(4)]
    many = [metric(BEGIN + 80 + 10 * n, 8, "storm") for n in range(2)]
    metrics = sorted(known + one + many, key=lambda each: each.start)
    alerts = run(rules, metrics, BEGIN + 300)
    assert [(alert.state, alert.group) for alert in alerts] == [
        ("firing", {"tag": "storm"}),
        ("resolved", {"tag": "storm"}),
    ]
    assert alerts[0].summary == "New tag storm: 16 authors in 20 s"


def test_one_author_who_repeats_a_word_is_no_new_term() -> None:
    from datasketches import frequent_strings_sketch

    def words(*counted: tuple[str, int]) -> bytes:
        items = frequent_strings_sketch(6)
        for word, count in counted:
            items.update(word, count)
        return bytes(items.serialize())

    calm = [metric(BEGIN + 10 * n, 30, terms=words(("rain", 20))) for n in range(12)]
    people = [f"p{n}" for n in range(30)]
    spam = metric(BEGIN + 90, 80, authors=people, partition=1, terms=words(("buy", 51)))
    crowd = metric(BEGIN + 90, 30, partition=1, terms=words(("flood", 25)))
    rules = "rules: [{id: n, kind: new-term, of: term, min_authors: 10, history: 1m, window: 10s}]"
    assert run(rules, [*calm[:9], spam, *calm[9:]]) == []
    fired, *_ = run(rules, [*calm[:9], crowd, *calm[9:]])
    assert (fired.group, fired.authors) == ({"term": "flood"}, 25)


def test_the_pipeline_is_watched_without_any_metric() -> None:
    evaluator = Evaluator(
        rules_of("rules: [{id: lag, kind: pipeline, measure: lag, over: 100, for: 20s}]")
    )
    alerts: list[Alert] = []
    for n in range(30):
        lag = 500.0 if 5 <= n < 12 else 10.0
        evaluator.observe(PipelineMeasure.LAG, "tidegate", lag, BEGIN + 10 * n)
        alerts += [o.alert for o in evaluator.watch(BEGIN + 10 * n + 5)]
        assert evaluator.advance(BEGIN + 10 * n + 5) == [], "no metric, no clock of theirs"
    assert story(alerts) == [("lag", "firing", 70), ("lag", "resolved", 120)]
    assert alerts[0].summary == "Records behind 500 in tidegate, over 100"


def test_what_is_not_observed_any_more_neither_fires_nor_resolves() -> None:
    evaluator = Evaluator(rules_of("rules: [{id: lag, kind: pipeline, measure: lag, over: 100}]"))
    evaluator.watch(BEGIN)
    evaluator.observe(PipelineMeasure.LAG, "tidegate", 500, BEGIN + 5)
    states = [o.alert.state for o in evaluator.watch(BEGIN + 3600)]
    assert states == ["firing"]


def test_the_pipeline_is_watched_while_the_metrics_stand_still() -> None:
    """Who is behind brings no metrics, and with them the other rules' clock."""
    rules = rules_of(
        "rules: [{id: lag, kind: pipeline, measure: lag, over: 100, cool_down: 0s},"
        " {id: a, kind: threshold, measure: posts, over: 5, window: 10s}]"
    )
    evaluator = Evaluator(rules)
    follow(evaluator, [metric(BEGIN, 1)], None)
    evaluator.observe(PipelineMeasure.LAG, "tidegate", 500, BEGIN + 100)
    (fired,) = [o.alert for o in evaluator.watch(BEGIN + 105)]
    assert (fired.rule, moment(fired.at)) == ("lag", BEGIN + 100)
    # After a kill: neither clock knows the alert yet, and both have to follow it in their own time.
    state = Evaluator(rules).state
    state.tick, state.looked = BEGIN, BEGIN
    again = Evaluator(rules, state, History([fired]))
    again.observe(PipelineMeasure.LAG, "tidegate", 500, BEGIN + 100)
    late = follow(again, [metric(BEGIN + 10 * n, 1) for n in range(5)], None)
    late += [o.alert for o in again.watch(BEGIN + 125)]
    assert late == []
    again.observe(PipelineMeasure.LAG, "tidegate", 0, BEGIN + 130)
    (resolved,) = [o.alert for o in again.watch(BEGIN + 145)]
    assert (resolved.alert_id, resolved.state) == (fired.alert_id, "resolved")


def test_an_alert_of_a_quota_is_none_of_ours() -> None:
    """The role `decide` fires and resolves it; a restart must not take it for a rule that is gone."""
    fired = quota_alert("insult", "2027-01-15", used=3, limit=3, since=written(BEGIN + 5))
    rules = rules_of("rules: [{id: a, kind: threshold, measure: posts, over: 5, window: 10s}]")
    evaluator = Evaluator(rules, history=History([fired]))
    alerts = follow(evaluator, [metric(BEGIN + 10 * n, 1) for n in range(9)], BEGIN + 200)
    assert alerts == []
    assert evaluator.watch(BEGIN + 200) == []


def test_an_alert_whose_rule_is_gone_resolves() -> None:
    rules = rules_of("rules: [{id: a, kind: threshold, measure: posts, over: 5, window: 10s}]")
    evaluator = Evaluator(rules)
    (fired,) = follow(evaluator, [metric(BEGIN + 10 * n, 10) for n in range(4)], None)
    after = Evaluator(replace(rules, rules=()), evaluator.state, History([fired]))
    (resolved,) = [o.alert for o in after.advance(BEGIN + 100)]
    assert (resolved.alert_id, resolved.state) == (fired.alert_id, "resolved")
    assert resolved.summary == "Rule `a` is not in force any more"


def test_sketches_count_people_once_over_windows_and_parts() -> None:
    people = sketch(f"p{n}" for n in range(40))
    metrics = [
        metric(BEGIN + 10 * n, 40, authors=40, partition=part) for n in range(4) for part in (0, 1)
    ]
    same = [
        Metric(**{f: getattr(m, f) for f in m.__struct_fields__} | {"authors": people})
        for m in metrics
    ]
    rule = (
        "rules: [{id: a, kind: threshold, measure: posts, over: 1, window: 40s, min_authors: 45}]"
    )
    assert run(rule, same, BEGIN + 60) == []
    assert run(rule, metrics, BEGIN + 60)[0].authors == pytest.approx(80, abs=4)
