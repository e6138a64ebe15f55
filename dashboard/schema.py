"""The read model's tables and how an older one becomes a newer one.

Invariant: everything in it can be made again from the topics, so a read model that we do not
understand is never repaired; it is refused with the advice to make it again.
"""

from __future__ import annotations

from typing import Final

from dashboard.database import Database
from dashboard.errors import ReadModelError
from stream.database_url import ReadModelAt

_V1: Final = """
CREATE TABLE posts (
    id INTEGER PRIMARY KEY,
    post_id TEXT NOT NULL UNIQUE,
    origin_ms INTEGER NOT NULL,
    origin_partition INTEGER NOT NULL,
    origin_offset INTEGER NOT NULL,
    posted_ms INTEGER NOT NULL,
    labelled_ms INTEGER NOT NULL,
    retracted INTEGER NOT NULL,
    text TEXT NOT NULL,
    source TEXT NOT NULL,
    author TEXT NOT NULL,
    language TEXT NOT NULL,
    language_score REAL NOT NULL,
    sentiment TEXT NOT NULL,
    sentiment_score REAL NOT NULL,
    toxicity TEXT NOT NULL,
    toxicity_score REAL NOT NULL,
    unsupported TEXT NOT NULL,
    models INTEGER NOT NULL
);
CREATE INDEX posts_by_time ON posts (posted_ms);
CREATE INDEX posts_by_author ON posts (author, posted_ms) WHERE author <> '';
CREATE INDEX posts_by_language ON posts (language, posted_ms);
CREATE INDEX posts_toxic ON posts (posted_ms) WHERE toxicity NOT IN ('', 'none');
CREATE TABLE records (id INTEGER PRIMARY KEY, record BLOB NOT NULL);

CREATE TABLE rollups (
    width_s INTEGER NOT NULL,
    start_s INTEGER NOT NULL,
    source TEXT NOT NULL,
    language TEXT NOT NULL,
    sentiment TEXT NOT NULL,
    toxicity TEXT NOT NULL,
    posts INTEGER NOT NULL,
    PRIMARY KEY (width_s, start_s, source, language, sentiment, toxicity)
) WITHOUT ROWID;
CREATE TABLE labelled (second INTEGER PRIMARY KEY, posts INTEGER NOT NULL);
CREATE TABLE latency (
    start_s INTEGER NOT NULL,
    bin INTEGER NOT NULL,
    posts INTEGER NOT NULL,
    PRIMARY KEY (start_s, bin)
) WITHOUT ROWID;

CREATE TABLE models (
    id INTEGER PRIMARY KEY,
    models TEXT NOT NULL UNIQUE,
    posts INTEGER NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL
);
CREATE TABLE dead_letters (
    dead_letter_id TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    error TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    input TEXT NOT NULL,
    post_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    original BLOB NOT NULL,
    original_bytes INTEGER NOT NULL
);
CREATE INDEX dead_letters_by_time ON dead_letters (at_ms);

CREATE TABLE offsets (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
);
CREATE TABLE topics (topic TEXT PRIMARY KEY, topic_id TEXT NOT NULL);
CREATE TABLE pruned (partition INTEGER PRIMARY KEY, through_offset INTEGER NOT NULL);
CREATE TABLE counters (name TEXT PRIMARY KEY, n INTEGER NOT NULL);
CREATE TABLE backlog (
    partition INTEGER PRIMARY KEY,
    end_offset INTEGER NOT NULL,
    committed INTEGER,
    waiting INTEGER NOT NULL,
    at_ms INTEGER NOT NULL
);
CREATE TABLE backlog_history (second INTEGER PRIMARY KEY, waiting INTEGER NOT NULL);
CREATE TABLE status (
    component TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    state TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE TABLE notices (at_ms INTEGER NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL);
"""

_V2: Final = """
ALTER TABLE posts ADD COLUMN score_set INTEGER NOT NULL DEFAULT 0;
ALTER TABLE posts ADD COLUMN scores BLOB;
CREATE TABLE score_sets (id INTEGER PRIMARY KEY, names TEXT NOT NULL UNIQUE);
CREATE TABLE score_rollups (
    width_s INTEGER NOT NULL,
    label TEXT NOT NULL,
    start_s INTEGER NOT NULL,
    models INTEGER NOT NULL,
    language TEXT NOT NULL,
    counts BLOB NOT NULL,
    PRIMARY KEY (width_s, label, start_s, models, language)
) WITHOUT ROWID;

CREATE TABLE decisions (
    id INTEGER PRIMARY KEY,
    post_id TEXT NOT NULL UNIQUE,
    place_ms INTEGER NOT NULL,
    place_partition INTEGER NOT NULL,
    place_offset INTEGER NOT NULL,
    by_person INTEGER NOT NULL,
    decided_ms INTEGER NOT NULL,
    decision_id TEXT NOT NULL,
    basis_id TEXT NOT NULL,
    action TEXT NOT NULL,
    policy_action TEXT NOT NULL,
    severity INTEGER NOT NULL,
    reason TEXT NOT NULL,
    policy TEXT NOT NULL,
    judged INTEGER NOT NULL,
    reviewer TEXT NOT NULL,
    posted_ms INTEGER NOT NULL,
    source TEXT NOT NULL,
    language TEXT NOT NULL,
    abusive INTEGER NOT NULL,
    rules TEXT NOT NULL,
    retracted INTEGER NOT NULL
);
CREATE INDEX decisions_by_time ON decisions (posted_ms);
CREATE INDEX decisions_by_action ON decisions (action, posted_ms);
CREATE INDEX decisions_judged ON decisions (posted_ms) WHERE judged = 1;
CREATE TABLE decision_details (id INTEGER PRIMARY KEY, detail BLOB NOT NULL);
CREATE TABLE decisions_pruned (partition INTEGER PRIMARY KEY, through_offset INTEGER NOT NULL);
CREATE TABLE rule_rollups (
    start_s INTEGER NOT NULL,
    rule TEXT NOT NULL,
    version TEXT NOT NULL,
    mode TEXT NOT NULL,
    matches INTEGER NOT NULL,
    judged INTEGER NOT NULL,
    upheld INTEGER NOT NULL,
    PRIMARY KEY (start_s, rule, version, mode)
) WITHOUT ROWID;
CREATE TABLE action_rollups (
    start_s INTEGER NOT NULL,
    action TEXT NOT NULL,
    source TEXT NOT NULL,
    language TEXT NOT NULL,
    posts INTEGER NOT NULL,
    PRIMARY KEY (start_s, action, source, language)
) WITHOUT ROWID;

CREATE TABLE reviews (
    review_id TEXT PRIMARY KEY,
    post_id TEXT NOT NULL,
    reviewer TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    action TEXT NOT NULL,
    reason TEXT NOT NULL,
    note TEXT NOT NULL,
    undoes TEXT NOT NULL,
    decision_id TEXT NOT NULL,
    taken_s REAL,
    labels TEXT NOT NULL
);
CREATE INDEX reviews_by_post ON reviews (post_id, at_ms);
CREATE INDEX reviews_by_time ON reviews (at_ms);
CREATE INDEX reviews_by_reviewer ON reviews (reviewer, at_ms);
CREATE INDEX reviews_undone ON reviews (undoes) WHERE undoes <> '';
CREATE TABLE queue (
    post_id TEXT PRIMARY KEY,
    decision_id TEXT NOT NULL,
    severity INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    language TEXT NOT NULL,
    escalated INTEGER NOT NULL
);
CREATE INDEX queue_in_order ON queue (severity DESC, since_ms);

CREATE TABLE alerts (
    alert_id TEXT PRIMARY KEY,
    rule TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    severity INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    resolved_ms INTEGER,
    test INTEGER NOT NULL,
    record BLOB NOT NULL
);
CREATE INDEX alerts_by_time ON alerts (started_ms);
CREATE TABLE deliveries (
    delivery_id TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    target TEXT NOT NULL,
    kind TEXT NOT NULL,
    record_id TEXT NOT NULL,
    post_id TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    status INTEGER,
    error TEXT NOT NULL,
    elapsed_ms INTEGER,
    next_ms INTEGER
);
CREATE INDEX deliveries_by_time ON deliveries (at_ms);
CREATE TABLE metrics (
    width_s INTEGER NOT NULL,
    dimension TEXT NOT NULL,
    name TEXT NOT NULL,
    start_s INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    of_topic TEXT NOT NULL,
    revision INTEGER NOT NULL,
    posts INTEGER NOT NULL,
    positive INTEGER NOT NULL,
    neutral INTEGER NOT NULL,
    negative INTEGER NOT NULL,
    toxic INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (width_s, dimension, name, start_s, partition, of_topic)
);
CREATE INDEX metrics_by_time ON metrics (width_s, start_s);

CREATE TABLE events (
    event_id TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    on_what TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX events_by_what ON events (what, on_what, at_ms);
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    on_what TEXT NOT NULL,
    detail TEXT NOT NULL,
    by_person INTEGER NOT NULL,
    record_sha256 TEXT NOT NULL,
    hash TEXT NOT NULL,
    UNIQUE (topic, partition, "offset")
);
CREATE INDEX audit_by_time ON audit (at_ms);
CREATE INDEX audit_by_people ON audit (id) WHERE by_person = 1;
CREATE INDEX audit_by_who ON audit (who, at_ms);
CREATE INDEX audit_by_subject ON audit (on_what, at_ms);
CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TABLE audit_heads (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    hash TEXT NOT NULL,
    entries INTEGER NOT NULL,
    first_offset INTEGER NOT NULL,
    first_prev TEXT NOT NULL,
    PRIMARY KEY (topic, partition)
);
"""

_V3: Final = """
CREATE TABLE alert_firings (
    alert_id TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    record BLOB NOT NULL
);
INSERT INTO alert_firings SELECT alert_id, at_ms, record FROM alerts WHERE state = 'firing';
"""

#: Rollups of hours and days, from those of five minutes, which are kept without end.
WIDER: Final = tuple(
    f"INSERT INTO rollups SELECT {width_s}, start_s - start_s % {width_s}, source, language,"  # noqa: S608  numbers
    f" sentiment, toxicity, CAST(sum(posts) AS BIGINT) FROM rollups WHERE width_s = {from_s}"
    f" GROUP BY start_s - start_s % {width_s}, source, language, sentiment, toxicity"
    for from_s, width_s in ((300, 3600), (3600, 86_400))
)
_V4: Final = "".join(f"{script};\n" for script in WIDER)
_V5: Final = """
CREATE TABLE score_totals (
    width_s INTEGER NOT NULL,
    label TEXT NOT NULL,
    start_s INTEGER NOT NULL,
    models INTEGER NOT NULL,
    counts BLOB NOT NULL,
    PRIMARY KEY (width_s, label, start_s, models)
) WITHOUT ROWID;
CREATE INDEX metrics_counts
    ON metrics (width_s, dimension, name, start_s, posts, positive, neutral, negative, toxic);
"""

#: One script a version, in order; a read model of version n has had the first n.
MIGRATIONS: Final = (_V1, _V2, _V3, _V4, _V5)
VERSION: Final = len(MIGRATIONS)
#: From this version on there are totals of scores, which no script can count.
TOTALS_SINCE: Final = 5
#: What a rebuild takes over of an old read model stands in the same tables since this version.
TAKEN_OVER_SINCE: Final = 2


def migrate(db: Database, at: ReadModelAt) -> None:
    """Bring the tables to `VERSION`, in one transaction.

    Raises:
        ReadModelError: they are newer than this program, or not ours.
    """
    version = db.version()
    if version > VERSION:
        raise ReadModelError(
            f"the read model has version {version}, this program knows up to {VERSION}",
            where=str(at),
            hint="upgrade tidegate, or `tidegate dashboard rebuild` makes it again from the topics",
        )
    if version < VERSION:
        db.migrate(MIGRATIONS[version:], VERSION)
