"""The verdict on a post: the strictest live action, every match, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from stream.outcomes import Action
from stream.policy import NO_HISTORY, Subject, Window, decision_of
from stream.policy.history import KeyKind
from stream.policy.reading import Reading
from stream.policy.words import Hit
from stream.records import Author, encode
from tests.stream.policy.records import label, policy, rule, rules, subject

ABUSE = "toxicity.toxic >= 0.5"


def test_the_strictest_live_rule_decides_and_all_are_named(tmp_path: Path) -> None:
    p = policy(
        tmp_path,
        rules(
            rule(ABUSE, name="flags", action="flag", severity="critical"),
            rule(
                ABUSE,
                name="hides",
                action="hide",
                severity="low",
                reason="violence-threats",
                version=3,
            ),
            rule(ABUSE, name="hides-too", action="hide", severity="low", priority=-1),
            rule(ABUSE, name="removes", action="remove", mode="shadow"),
            rule("true", name="off", action="remove", mode="off"),
            rule("false", name="no", action="remove"),
        ),
    )
    verdict = p.evaluate(subject(toxicity={"toxic": 0.7}))
    assert (verdict.action, verdict.severity, verdict.reason) == (Action.HIDE, "low", "violence-threats")  # fmt: skip
    assert verdict.decisive == "hides"
    assert [m.id for m in verdict.live] == ["hides", "hides-too", "flags"]
    assert [m.id for m in verdict.shadow] == ["removes"]
    hides = verdict.matches[0]
    assert (hides.version, hides.mode, hides.score) == ("3", "live", 0.7)


def test_a_post_that_matches_nothing_is_allowed(tmp_path: Path) -> None:
    verdict = policy(tmp_path, rules(rule(ABUSE))).evaluate(subject())
    assert (verdict.action, verdict.matches, verdict.reason) == (Action.ALLOW, (), None)


def test_an_allow_rule_is_named_and_overrides_nothing(tmp_path: Path) -> None:
    p = policy(tmp_path, rules(rule("true", action="allow"), rule(ABUSE, name="b", action="hide")))
    assert p.evaluate(subject()).decisive == "a"
    assert p.evaluate(subject(toxicity={"toxic": 0.9})).action == Action.HIDE


def test_a_failing_rule_is_named_and_the_others_decide(tmp_path: Path) -> None:
    p = policy(
        tmp_path,
        rules(
            rule("post.links[0] == 'x'", name="index"),
            rule("post.meta.nested.key == 1", name="key"),
            rule("1 / (post.chars - post.chars) == 1", name="zero"),
            rule("true", name="good"),
        ),
    )
    verdict = p.evaluate(subject())
    assert verdict.decisive == "good"
    assert {f.id: f.error for f in verdict.failed} == {
        "index": "[0] of a list of 0",
        "key": "`nested` is not in the map",
        "zero": "divide by zero",
    }
    assert decision_of(label(), verdict, p.version, decided_at_ms=0).failed_rules == ["index", "key", "zero"]  # fmt: skip


def test_a_list_that_fails_fails_the_rules_that_ask_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = "lists: {bad: {words: [muppet]}, good: {words: [hello]}}\n"
    p = policy(
        tmp_path,
        lists
        + rules(
            rule('terms("bad").exists(t, t != "")', name="broken"),
            rule('size(terms("good")) == 1', name="list"),
            rule('words("good")', name="words", action="hide"),
        ),
    )
    hits = Reading.hits

    def failing(reading: Reading, name: str) -> Sequence[Hit]:
        if name == "bad":
            raise ValueError("No such list")
        return hits(reading, name)

    monkeypatch.setattr(Reading, "hits", failing)
    verdict = p.evaluate(subject())
    assert [m.id for m in verdict.matches] == ["words", "list"]
    assert [(f.id, f.error) for f in verdict.failed] == [("broken", "no such list")]


def test_a_label_without_a_task_fails_the_rules_that_need_it(tmp_path: Path) -> None:
    p = policy(tmp_path, rules(rule(ABUSE), rule("post.chars > 0", name="b")))
    record = label()
    del record.labels["toxicity"]
    verdict = p.evaluate(Subject.of_label(record))
    assert [(f.id, f.error) for f in verdict.failed] == [("a", "the label has no `toxicity.toxic`")]
    assert verdict.decisive == "b"


def test_what_the_source_does_not_tell_matches_nothing_and_fails_nothing(tmp_path: Path) -> None:
    p = policy(
        tmp_path,
        rules(
            rule("author.followers < 10", name="few"),
            rule("!(author.followers >= 10)", name="not-many"),
            rule("author.followers < 10 || post.chars > 0", name="either"),
            rule("author.age_days < 1.0", name="new"),
            rule('author.id == "ann"', name="ann"),
        ),
    )
    verdict = p.evaluate(subject())
    assert ([m.id for m in verdict.matches], verdict.failed) == (["ann", "either"], ())
    known = Author(id="ann", followers=3, created_at="2026-01-01T06:00:00Z")
    verdict = p.evaluate(subject(author=known))
    assert {m.id for m in verdict.matches} == {"few", "not-many", "either", "new", "ann"}


def test_languages_and_expiry(tmp_path: Path) -> None:
    p = policy(
        tmp_path,
        rules(
            rule("true", name="german", languages=["de"]),
            rule("true", name="english", languages=["en", "fr"]),
            rule("true", name="last-year", expires="2026-01-01T12:00:00Z"),
            rule("true", name="this-year", expires="2026-01-01T12:00:00.001Z"),
        ),
    )
    verdict = p.evaluate(subject())
    assert [m.id for m in verdict.matches] == ["english", "this-year"]
    record = label(lang="de-AT")
    del record.labels["language"]
    assert "german" in [m.id for m in p.evaluate(Subject.of_label(record)).matches]


@pytest.mark.parametrize(
    ("safelist", "named"),
    [
        ("{authors: [ann]}", "authors"),
        ("{languages: [en]}", "languages"),
        ("{authors: [bob]}", None),
    ],
)
def test_a_safelisted_post_is_allowed_and_its_matches_are_shadow(
    tmp_path: Path, safelist: str, named: str | None
) -> None:
    p = policy(tmp_path, f"safelist: {safelist}\n" + rules(rule(ABUSE, action="remove")))
    verdict = p.evaluate(subject(toxicity={"toxic": 0.9}))
    assert verdict.safelist == named
    assert verdict.action == (Action.ALLOW if named else Action.REMOVE)
    assert [(m.id, m.mode) for m in verdict.matches] == [("a", "shadow" if named else "live")]


def test_links_to_safelisted_domains_are_no_links(tmp_path: Path) -> None:
    lists = "safelist: {domains: [ours.example]}\nlists: {all: {domains: [example]}}\n"
    written = (
        rule("size(post.links) > 0"),
        rule('links_to("all")', name="b"),
        rule('count(domain, "1h") > 0', name="c"),
    )
    p = policy(tmp_path, lists + rules(*written))
    ours = subject("see https://www.OURS.example/x and http://a.ours.example")
    assert p.evaluate(ours).matches == ()
    assert len(p.evaluate(subject("see https://theirs.example/x")).matches) == 3


def test_spans_count_as_python_and_as_utf16(tmp_path: Path) -> None:
    p = policy(
        tmp_path,
        "lists: {bad: {words: [muppet]}, short: {domains: [bit.ly]}}\n"
        + rules(
            rule(
                'words("bad") && regex(r"n\\.\\s") && links_to("short") && post.text.contains("😀")'
                ' && !regex("zzz") && !post.text.contains("nothing")'
            )
        ),
    )
    text = "😀 you mupp😀, m u p p e t. See https://bit.ly/x… n. ok"
    (match,) = p.evaluate(subject(text)).matches
    found = {text[s.start : s.end]: s.what for s in match.spans}
    assert found == {
        "😀": "text",
        "m u p p e t": "bad: muppet",
        "https://bit.ly/x": "links_to: short",
        "n. ": "regex",
    }
    utf16 = text.encode("utf-16-le")
    for span in match.spans:
        piece = utf16[2 * span.utf16_start : 2 * span.utf16_end].decode("utf-16-le")
        assert piece == text[span.start : span.end]
    assert match.score is None


def test_the_score_is_the_highest_that_the_condition_reads(tmp_path: Path) -> None:
    p = policy(
        tmp_path,
        rules(
            rule("toxicity.insult >= 0.1 || toxicity.threat >= 0.9"),
            rule('toxicity.scores["obscene"] > 0.1', name="b"),
            rule('language.label == "en"', name="c"),
        ),
    )
    verdict = p.evaluate(subject(toxicity={"toxic": 0.9, "insult": 0.2, "threat": 0.4, "obscene": 0.3}))  # fmt: skip
    assert {m.id: m.score for m in verdict.matches} == {"a": 0.4, "b": 0.3, "c": None}


class Busy:
    """A history with something in it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, int]] = []

    def count(self, kind: KeyKind, key: str, window_s: int) -> int:
        self.asked.append(("count", kind, key, window_s))
        return {"cats": 5, "dogs": 50}.get(key, 1)

    def distinct_authors(self, kind: KeyKind, key: str, window_s: int) -> int:
        self.asked.append(("distinct_authors", kind, key, window_s))
        return 7

    def actions(self, author: str, window_s: int) -> int:
        self.asked.append(("actions", "author", author, window_s))
        return 2


def test_windows_ask_the_history_about_the_posts_own_keys(tmp_path: Path) -> None:
    p = policy(
        tmp_path,
        rules(
            rule('count(tag, "10m") == 50 && count(tag, "10m") > 1', name="tags"),
            rule(
                'distinct_authors(same_text, "1h") == 7 && actions(author, "7d") == 2', name="both"
            ),
            rule('count(thread, "1h") == 0', name="none"),
            rule('count(author, "2h") > 0', name="off", mode="off"),
        ),
    )
    assert p.windows == (
        Window("actions", "author", 604_800),
        Window("count", "tag", 600),
        Window("count", "thread", 3600),
        Window("distinct_authors", "same_text", 3600),
    )
    history = Busy()
    one = subject("Hello  there @bob https://x.example", tags=["#Cats", "dogs"])
    assert {m.id for m in p.evaluate(one, history).matches} == {"tags", "both", "none"}
    same = one.keys("same_text")
    assert same == subject("hello there https://y.example/2 @ann").keys("same_text")
    assert sorted(set(history.asked)) == [
        ("actions", "author", "ann", 604_800),
        ("count", "tag", "cats", 600),
        ("count", "tag", "dogs", 600),
        ("distinct_authors", "same_text", same[0], 3600),
    ]
    assert len(history.asked) == 4, "the same count is asked once"
    assert p.evaluate(subject(None), history).failed == ()


def test_every_label_has_a_verdict(tmp_path: Path) -> None:
    """No post, no author, lone surrogates, every kind of character."""
    p = policy(
        tmp_path,
        "lists: {bad: {words: [muppet]}}\n"
        + rules(
            rule('words("bad")'), rule('regex("a") || regex("b")', name="b"), rule('post.meta.x == "y"', name="c"),
            rule('count(domain, "1h") > 1 || size(post.mentions) > 3', name="d"),
        ),
    )  # fmt: skip
    p.evaluate(subject(None))
    verdict = p.evaluate(subject("\ud800 muppet \udfff", meta={"x": "\ud800"}))
    assert [m.id for m in verdict.matches] == ["a"]
    assert p.evaluate(subject("".join(map(chr, range(1, 0x3000, 7))))).failed[0].id == "c"


def test_modes_can_be_changed_for_a_circuit_breaker(tmp_path: Path) -> None:
    p = policy(tmp_path, rules(rule(ABUSE, action="hide"), rule("true", name="b")))
    tripped = p.with_modes({"a": "shadow", "gone": "off"})
    abuse = subject(toxicity={"toxic": 0.9})
    assert p.evaluate(abuse).action == Action.HIDE
    verdict = tripped.evaluate(abuse)
    assert (verdict.action, [m.id for m in verdict.shadow]) == (Action.FLAG, ["a"])
    assert tripped.version == p.version


def test_the_version_is_of_the_content(tmp_path: Path) -> None:
    text = "name: ours\n" + rules(rule(ABUSE), rule("true", name="b"))
    version = policy(tmp_path, text).version
    assert version.startswith("ours@")
    moved = "# a comment\nname: ours\n" + rules(rule("true", name="b"), rule(ABUSE))
    assert policy(tmp_path, moved).version == version
    assert policy(tmp_path, text.replace("0.5", "0.6")).version != version
    assert policy(tmp_path, text + "lists: {x: {words: [abc]}}\n").version != version
    assert (
        policy(tmp_path, text + "tests: [{text: x, labels: {}, action: flag}]\n").version == version
    )


def test_threads_do_not_see_each_others_posts(tmp_path: Path) -> None:
    p = policy(tmp_path, "lists: {bad: {words: [muppet]}}\n" + rules(rule('words("bad")')))
    wrong: list[str] = []

    def judge(text: str, expected: int) -> None:
        for _ in range(300):
            found = len(p.evaluate(subject(text)).matches)
            wrong.extend([text] * (found != expected))

    threads = [
        threading.Thread(target=judge, args=(t, n)) for t, n in (("muppet", 1), ("ok", 0)) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_decision_says_it_all_and_its_id_depends_on_the_label(tmp_path: Path) -> None:
    p = policy(tmp_path, rules(rule(ABUSE, action="hide", severity="high")))
    record = label("x", toxicity={"toxic": 0.9})
    verdict = p.evaluate(Subject.of_label(record))
    one = decision_of(record, verdict, p.version, decided_at_ms=1000, quota="a")
    two = decision_of(record, p.evaluate(subject()), "other", decided_at_ms=2000)
    assert one.decision_id == two.decision_id
    assert (one.action, one.severity, one.reason, one.policy) == (
        "hide",
        "high",
        "other",
        p.version,
    )
    assert (one.post_id, one.label_id, one.quota, one.language) == (
        "p1",
        record.label_id,
        "a",
        "en",
    )
    assert one.decided_at == "1970-01-01T00:00:01.000Z"
    assert one.scores["toxicity.toxic"] == 0.9
    assert encode(one)


def test_a_retracted_label_takes_the_decision_back(tmp_path: Path) -> None:
    import msgspec

    p = policy(tmp_path, rules(rule("true", action="hide")))
    gone = msgspec.structs.replace(label(), retracted=True, labels={}, post=None)
    verdict = p.evaluate(Subject.of_label(gone), NO_HISTORY)
    decision = decision_of(gone, verdict, p.version, decided_at_ms=0)
    assert (decision.retracted, decision.action, decision.rules) == (True, Action.ALLOW, [])
    assert decision.failed_rules == []
