"""How many posts per second the policy engine judges on one core: `python bench/policy.py`.

A pack of 30 rules without windows, of every kind: scores, word lists (folded), regular
expressions, links, fields of the post. The posts are those of the shipped feed with scores drawn
like a busy evening's (one in ten is toxic), each judged from its label record, the `Subject`
included, as the decide agent does. Time is processor time of this one thread, the median of the
rounds; the target is 5,000 posts/s.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from stream.demo.feed import shipped_source
from stream.policy import NO_HISTORY, Policy, Subject, load_policy
from stream.records import LABEL_SCHEMA, Label, Post, TaskLabel
from stream.sources.files import PostLine

TARGET_POSTS_S = 5_000
LISTS = """
name: bench
lists:
  insults: {words: [idiot, idiots, moron*, clown, stupid, muppet*, loser*, pathetic, fool, worthless,
    vollidiot*, trottel, versager, abruti*, crétin*, imbécile*, minable*, payaso, burro, "d?mwit*"],
    allow: [class clown, april fool]}
  threats: {words: [break your nose, i will find you, watch your back, tu vas le regretter]}
  scam: {words: [double your money, guaranteed profit*, claim your prize, free crypto]}
  shorteners: {domains: [bit.ly, tinyurl.com, goo.gl, is.gd]}
  own: {domains: [example.org, example.com]}
rules:
"""
CONDITIONS = (
    "toxicity.threat >= 0.4 && toxicity.toxic >= 0.6 && !toxicity.unsupported",
    "toxicity.threat >= 0.099 && toxicity.toxic >= 0.394 && !toxicity.unsupported",
    "toxicity.severe_toxic >= 0.4 && toxicity.toxic >= 0.9 && !toxicity.unsupported",
    "toxicity.identity_attack >= 0.307 && toxicity.toxic >= 0.6",
    "toxicity.insult >= 0.7 && toxicity.toxic >= 0.95",
    "toxicity.insult >= 0.43 && !toxicity.unsupported",
    "toxicity.obscene >= 0.427 && !toxicity.unsupported",
    "toxicity.unsupported && toxicity.toxic >= 0.95",
    'sentiment.label == "negative" && sentiment.score >= 0.95 && toxicity.toxic >= 0.3',
    'sentiment.negative >= 0.8 && language.label in ["en", "de", "fr"] && toxicity.insult >= 0.3',
    'words("insults") && (toxicity.toxic >= 0.394 || sentiment.negative >= 0.8)',
    'words("insults") && post.is_reply',
    'word_count("insults") >= 2',
    'words("threats") && sentiment.label != "positive"',
    'words("scam") && size(post.links) > 0',
    'terms("scam").exists(t, t.startsWith("free"))',
    r'regex(r"(?i)\b(buy|sell)\s+followers\b")',
    r'regex(r"\+?\d{1,3}[ .-]\d{3,4}[ .-]\d{4}") && sentiment.label == "negative"',
    r'regex(r"(?i)\bclick\s+(here|now)\b") && size(post.links) > 0',
    r'regex(r"(.)!{4,}")',
    'post.text.matches("(?i)^(hi|hello)[ !.]*$")',
    'links_to("shorteners")',
    'size(post.links) >= 3 && !links_to("own")',
    "size(post.mentions) >= 10",
    'post.tags.exists(t, t == "giveaway") && size(post.links) > 0',
    'post.chars > 500 && post.source == "demo"',
    'post.text.contains("http") && toxicity.toxic >= 0.9',
    "post.capitals >= 0.8 && post.chars >= 20",
    "author.followers < 3 && toxicity.toxic >= 0.8",
    'post.lang != language.label && post.lang != "" && toxicity.toxic >= 0.9',
)


def bench_policy(folder: Path) -> Policy:
    """The pack, through a file like any other."""
    actions = ("flag", "review", "limit", "hide")
    rules = [
        {
            "id": f"rule-{number:02}",
            "when": when,
            "action": actions[number % 4],
            "reason": "harassment-other",
        }
        for number, when in enumerate(CONDITIONS)
    ]
    path = folder / "bench.yaml"
    lines = [f"  - {json.dumps(rule)}\n" for rule in rules]
    path.write_text(LISTS + "".join(lines), encoding="utf-8")
    return load_policy(path)


def labels(count: int) -> list[Label]:
    """Label records of the shipped feed's posts, over and over, with scores of their own."""
    posts = [line.post for line in shipped_source() if isinstance(line, PostLine)]
    dice = random.Random(6)
    return [_label(posts[number % len(posts)], number, dice) for number in range(count)]


def _label(post: Post, number: int, dice: random.Random) -> Label:
    toxic = dice.random() if dice.random() < 0.1 else dice.random() * 0.2
    heads = ("severe_toxic", "obscene", "threat", "insult", "identity_attack")
    scores = {"toxic": toxic, **{head: toxic * dice.random() for head in heads}}
    negative = dice.random()
    moods = {
        "negative": negative,
        "neutral": (1 - negative) * 0.6,
        "positive": (1 - negative) * 0.4,
    }
    mood = max(moods, key=moods.__getitem__)
    language = next(iter(post.langs), "en")
    return Label(
        schema=LABEL_SCHEMA,
        label_id=f"{post.id}@bench/0/{number}",
        post_id=post.id,
        labels={
            "sentiment": TaskLabel(label=mood, score=moods[mood], scores=moods),
            "toxicity": TaskLabel(
                label="toxic" if toxic >= 0.4 else "none",
                score=toxic,
                scores=scores,
                unsupported=language not in {"ar", "de", "en", "fr", "pt", "zh"},
            ),
            "language": TaskLabel(label=language, score=0.99, scores={language: 0.99}),
        },
        models={},
        labelled_at="2026-11-22T10:00:00.000Z",
        post=post,
    )


def rate(policy: Policy, records: list[Label]) -> tuple[float, float]:
    """Posts per second of processor time, and the share of posts that a rule matched."""
    matched = 0
    start_s = time.thread_time()
    for label in records:
        matched += bool(policy.evaluate(Subject.of_label(label), NO_HISTORY).matches)
    return len(records) / (time.thread_time() - start_s), matched / len(records)


def machine() -> str:
    """Processor and Python, as a figure needs them beside it."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--posts", type=int, default=20_000, help="posts of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    records = labels(options.posts)
    with tempfile.TemporaryDirectory() as folder:
        policy = bench_policy(Path(folder))
    rate(policy, records[:1000])
    rounds = [rate(policy, records) for _ in range(options.rounds)]
    posts_s = statistics.median(figure for figure, _ in rounds)
    result = {
        "posts_s": round(posts_s),
        "us_per_post": round(1e6 / posts_s, 1),
        "target_posts_s": TARGET_POSTS_S,
        "times_target": round(posts_s / TARGET_POSTS_S, 2),
        "slowest_posts_s": round(min(figure for figure, _ in rounds)),
        "fastest_posts_s": round(max(figure for figure, _ in rounds)),
        "rules": len(policy.rules),
        "posts": options.posts,
        "matched_share": round(rounds[0][1], 3),
        "load_1min": round(os.getloadavg()[0], 2),
        "machine": machine(),
    }
    if options.json:
        print(json.dumps(result))
        return
    width = max(map(len, result))
    for name, value in result.items():
        print(
            f"{name:{width}}  {value:,}" if isinstance(value, int) else f"{name:{width}}  {value}"
        )
    if posts_s < TARGET_POSTS_S:
        sys.exit(3)


if __name__ == "__main__":
    main()
