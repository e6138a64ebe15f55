"""What the pages' questions cost with a large read model: `python bench/pages.py [--posts 1000000]`.

Fills a read model with labels, decisions, reviews, alerts and windows, then asks every question
that a page asks, cold (a new connection) and warm, and prints the milliseconds as JSON. A page may
take 300 ms: `--most-ms` exits with 3 where one question alone takes more.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from dashboard.queries import (
    alerts,
    audit,
    brands,
    decisions,
    deliveries,
    queue,
    rules,
    scores,
    trends,
)
from dashboard.reader import Reader, open_reader
from dashboard.scope import EVERYTHING, FeedFilter, Scope
from dashboard.store import Store
from stream.outcomes import Action
from stream.topics import DECISIONS, REVIEWS
from tests.dashboard.conftest import batch_of
from tests.dashboard.label_feed import stream_of
from tests.dashboard.outcome_feed import after, batch_of_outcomes, decision_on, review_on

DAY_S = 86_400
_BATCH = 10_000


def fill(path: Path, posts: int, days: float) -> int:
    """Posts over the last days; 3 % wait for a review, 1 % are judged. The newest second."""
    now_s = int(time.time())
    rng = random.Random(7)
    start_ms = int((now_s - days * DAY_S) * 1000)
    feed = stream_of(posts, start_ms=start_ms, posts_per_s=posts / (days * DAY_S), partitions=1)
    offsets: dict[str, int] = {}
    with closing(Store(path, retention_posts=posts + 1)) as store:
        while made := list(islice(feed, _BATCH)):
            store.apply(batch_of(made))
            records: list[Any] = []
            for each in made:
                dice = rng.random()
                action = (
                    Action.REVIEW if dice < 0.04 else Action.HIDE if dice < 0.05 else Action.ALLOW
                )
                matched = [(f"rule-{rng.randrange(20)}", "1", "live")] if dice < 0.1 else []
                decision = decision_on(each.label, action, rules=matched)
                records.append((DECISIONS, decision))
                if dice < 0.01:
                    at_ms = start_ms + int(dice * 1e6)
                    said = review_on(decision, f"m{rng.randrange(5)}", Action.HIDE, at_ms)
                    records += [(REVIEWS, said), (DECISIONS, after(said, decision))]
            store.apply(batch_of_outcomes(records, offsets))
            sys.stderr.write(".")
            sys.stderr.flush()
    sys.stderr.write("\n")
    return now_s


def questions(now: int) -> dict[str, Callable[[Reader], Any]]:
    """Every question of a page, by its name."""
    day, week = now - DAY_S, now - 7 * DAY_S
    english = Scope(languages=("en",))
    query = brands.parse_query('tram OR "river" -delay')
    return {
        "live buckets, 24 h": lambda r: r.buckets(EVERYTHING, day, now, 300),
        "live languages, 24 h": lambda r: r.shares("language", EVERYTHING, day, now),
        "live feed": lambda r: r.feed(EVERYTHING, FeedFilter(), 50),
        "live feed, one author": lambda r: r.feed(EVERYTHING, FeedFilter(author="mara1"), 50),
        "live feed, a text": lambda r: r.feed(english, FeedFilter(text="turnip"), 50),
        "live feed, a text that is nowhere": lambda r: r.feed(
            english, FeedFilter(text="zebra"), 50
        ),
        "post: decision": lambda r: decisions.decision_of(r.db, "bluesky:77"),
        "post: author": lambda r: decisions.author_posts(r.db, "mara1"),
        "post: reviews": lambda r: decisions.reviews_of(r.db, "bluesky:77"),
        "queue": lambda r: queue.waiting(r.db, 50, not_passed_by="m1"),
        "queue, one language": lambda r: queue.waiting(r.db, 50, languages=("ja",)),
        "queue counts": lambda r: queue.queue_counts(r.db),
        "queue passed": lambda r: queue.passed_count(r.db, "m1"),
        "recent reviews": lambda r: decisions.recent_reviews(r.db, "m1"),
        "rules, 7 d": lambda r: rules.rule_figures(r.db, week, now),
        "rule hours, 7 d": lambda r: rules.rule_hours(r.db, None, week, now),
        "rule posts": lambda r: rules.matched_posts(r.db, "rule-3"),
        "thresholds, 24 h": lambda r: scores.threshold_figures(
            r.db, "toxicity.insult", [n / 20 for n in range(20)], day, now
        ),
        "thresholds, 7 d, one language": lambda r: scores.threshold_figures(
            r.db, "toxicity.insult", [n / 20 for n in range(20)], week, now, languages=["en"]
        ),
        "drift of every label": lambda r: scores.drifts(r.db, day, now),
        "trends series, 24 h": lambda r: trends.series(r.db, day, now, 300),
        "trends series, 7 d": lambda r: trends.series(r.db, week, now, 3600),
        "trends sources": lambda r: trends.groups(r.db, "source", week, now),
        "trends languages": lambda r: trends.groups(r.db, "language", week, now),
        "trends authors, 24 h": lambda r: trends.top_authors(r.db, day, now),
        "trends authors, 7 d": lambda r: trends.top_authors(r.db, week, now),
        "trends actions, 7 d": lambda r: trends.action_steps(r.db, week, now, 3600),
        "trends rising terms": lambda r: trends.rising(r.db, "terms", day, now),
        "brand, 24 h": lambda r: brands.shares_of_voice(r.db, {"a": query}, day, now),
        "brand, 7 d": lambda r: brands.shares_of_voice(r.db, {"a": query}, week, now),
        "alerts": lambda r: alerts.alerts(r.db, now * 1000),
        "deliveries": lambda r: deliveries.deliveries(r.db),
        "audit": lambda r: audit.audit_entries(r.db),
        "audit, people": lambda r: audit.audit_entries(r.db, audit.AuditFilter(people_only=True)),
        "audit, one person": lambda r: audit.audit_entries(r.db, audit.AuditFilter(who="m1")),
        "audit, one post": lambda r: audit.audit_entries(r.db, audit.AuditFilter(on="bluesky:77")),
        "audit, one family": lambda r: audit.audit_entries(r.db, audit.AuditFilter(what="review.")),
        "audit chains": lambda r: audit.chains(r.db),
    }


def timed(path: Path, question: Callable[[Reader], Any], rounds: int) -> tuple[float, float]:
    """Milliseconds of the first answer over a new connection, and the best of the others."""
    with open_reader(path) as reader:
        assert reader is not None
        took = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            question(reader)
            took.append((time.perf_counter() - began) * 1000)
    return round(took[0], 1), round(min(took[1:]), 1)


def main() -> int:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--keep", type=Path, help="a file to fill, or to use as it is")
    parser.add_argument("--most-ms", type=float, default=float("inf"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidegate-pages-") as folder:
        path = options.keep or Path(folder) / "read-model.db"
        began = time.monotonic()
        now = int(time.time()) if path.exists() else fill(path, options.posts, options.days)
        filled_s = time.monotonic() - began
        found = {name: timed(path, ask, 3) for name, ask in questions(now).items()}
        size = path.stat().st_size
    result = {
        "posts": options.posts,
        "filled_s": round(filled_s, 1),
        "read_model_mib": round(size / 2**20),
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "cold_and_warm_ms": dict(sorted(found.items(), key=lambda item: -item[1][0])),
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 3 if max(cold for cold, _ in found.values()) > options.most_ms else 0


if __name__ == "__main__":
    sys.exit(main())
