"""Every kind of line that cannot be a post, with the reason and the words a person should read."""

from __future__ import annotations

import json
import random
from typing import NamedTuple

from stream.records import MAX_DEPTH


class Kind(NamedTuple):
    name: str
    value: bytes
    reason: str
    message: str


def _deep(levels: int) -> bytes:
    return b'{"id":"d","text":"x","meta":' + b'{"a":' * levels + b"1" + b"}" * levels + b"}"


#: The line with a text of 1 MB is fine for a file; only a broker refuses it.
MEGABYTE = b'{"id":"big","text":"' + b"all work and no play " * 50_000 + b'"}'

BAD_KINDS = (
    Kind("words", b"this is not JSON", "not-json", "not JSON: invalid character (byte 4)"),
    Kind("cut off", b'{"id":"a","text":"hel', "not-json", "not JSON: input data was truncated"),
    Kind("two objects", b'{"id":"a","text":"x"}{}', "not-json", "not JSON: trailing characters (byte 22)"),
    Kind("single quotes", b"{'id':'a','text':'x'}", "not-json", "not JSON: object keys must be strings (byte 1)"),
    Kind("NaN", b'{"id":"a","text":"x","n":NaN}', "not-json", "not JSON: invalid character (byte 25)"),
    Kind("NUL bytes", b'{"id":"a","text":"x\x00y"}', "not-json", "not JSON: invalid character (byte 19)"),
    Kind("number", b"42", "not-an-object", "a JSON number, not an object with a `text`"),
    Kind("string", b'"hello"', "not-an-object", "a JSON string, not an object with a `text`"),
    Kind("null", b"null", "not-an-object", "a JSON null, not an object with a `text`"),
    Kind("array", b'["id","text"]', "not-an-object", "a JSON array, not an object with a `text`"),
    Kind("no text", b'{"id":"a"}', "no-text", "`text` is missing or null"),
    Kind("text null", b'{"id":"a","text":null}', "no-text", "`text` is missing or null"),
    Kind("text a number", b'{"id":"a","text":5}', "wrong-type", "`text` should be a string, not a number"),
    Kind("text a list", b'{"id":"a","text":["x"]}', "wrong-type", "`text` should be a string, not a list"),
    Kind("id a fraction", b'{"id":1.5,"text":"x"}', "wrong-type", "`id` should be a string, not a fraction"),
    Kind("tags a string", b'{"id":"a","text":"x","tags":"y"}', "wrong-type", "`tags` should be a list, not a string"),
    Kind("op unknown", b'{"id":"a","text":"x","op":"upsert"}', "wrong-type", "invalid enum value 'upsert' in `op`"),
    Kind("author without id", b'{"id":"a","text":"x","author":{}}', "wrong-type", "object missing required field `id` in `author`"),
    Kind("lone surrogate", b'{"id":"a","text":"\\ud83d!"}', "lone-surrogate", "`\\ud83d` is half of a surrogate pair, not a character"),
    Kind("Latin-1", '{"id":"a","text":"café"}'.encode("latin-1"), "not-utf8", "byte 21 (0xe9) is not UTF-8: the text is in another encoding"),
    Kind("UTF-16 inside", '{"id":"a","text":"x"}'.encode("utf-16"), "not-utf8", "byte 0 (0xff) is not UTF-8: the text is in another encoding"),
    Kind("nested", _deep(MAX_DEPTH + 1), "too-deep", f"the JSON is nested more than {MAX_DEPTH} levels deep"),
    Kind("nested without end", b'{"id":"d","text":' + b"[" * 200_000, "too-deep", "the JSON is nested too deeply"),
    Kind("another schema", b'{"schema":"v9","id":"a","text":"x"}', "unknown-schema", "`schema` is 'v9', not `tidegate.post.v1`"),
    Kind("id without end", b'{"id":"' + b"i" * 600 + b'","text":"x"}', "too-large", "`id` has 600 characters, more than 512"),
)  # fmt: skip

#: Unusual and right: each is a post.
ODD_BUT_GOOD = (
    b'{"id":"nul","text":"a \\u0000 inside"}',
    b'{"id":"empty","text":""}',
    b'{"id":7,"text":"a number as id"}',
    b'{"text":"no id at all"}',
    b'{"id":null,"text":"null as id"}',
    b'\xef\xbb\xbf{"id":"bom","text":"a mark in the middle of the file"}',
    b'{"id":"crlf","text":"from Windows"}\r',
    b'{"id":"extra","text":"unknown fields","likes":3,"place":{"city":"Porto"}}',
    b'{"id":"gone","op":"delete"}',
    b'{"id":"emoji","text":"%s"}' % ("😀" * 2000).encode(),
)


def good_lines(count: int) -> list[bytes]:
    return [
        json.dumps(
            {"id": f"good-{n}", "author": f"u{n % 37}", "text": f"post number {n}, nothing special"}
        ).encode()
        for n in range(count)
    ]


def mixed_file(good: int, seed: int = 7) -> bytes:
    """Good lines, every bad kind once and some blank lines, shuffled; the order is the seed's."""
    lines = good_lines(good) + [kind.value for kind in BAD_KINDS] + [b"", b"   ", b"\t"]
    random.Random(seed).shuffle(lines)
    return b"\n".join(lines) + b"\n"
