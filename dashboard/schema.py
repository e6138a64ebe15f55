"""The read model's tables and how an older file becomes a newer one.

Invariant: everything in the file can be made again from the topics, so a file that we do not
understand is never repaired; it is refused with the advice to delete it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from dashboard.errors import ReadModelError

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

#: One script a version, in order; a file of version n has had the first n.
MIGRATIONS: Final = (_V1,)
VERSION: Final = len(MIGRATIONS)


def schema_version(connection: sqlite3.Connection) -> int:
    """The version a file was last migrated to; 0: an empty file."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file to `VERSION`, each step in a transaction of its own.

    Raises:
        ReadModelError: the file is newer than this program.
    """
    version = schema_version(connection)
    if version > VERSION:
        raise ReadModelError(
            f"the read model has version {version}, this program knows up to {VERSION}",
            where=str(path),
            hint="upgrade tidegate, or delete the file: it is made again from the topics",
        )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE;{script}PRAGMA user_version = {number};COMMIT;")
