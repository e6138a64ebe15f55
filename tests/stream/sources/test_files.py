from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.errors import SourceError
from stream.post_decoding import decode_post
from stream.records import MAX_ORIGINAL_BYTES, dead_letter_of
from stream.sources import files
from stream.sources.files import BadLine, FileSource, Format, Line, PostLine
from stream.sources.lines import MAX_LINE_BYTES
from tests.stream.sources.bad_lines import (
    BAD_KINDS,
    MEGABYTE,
    ODD_BUT_GOOD,
    Kind,
    good_lines,
    mixed_file,
)


def write(directory: Path, name: str, content: bytes | str) -> str:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def posts(lines: list[Line]) -> list[PostLine]:
    return [line for line in lines if isinstance(line, PostLine)]


def bad(lines: list[Line]) -> list[BadLine]:
    return [line for line in lines if isinstance(line, BadLine)]


@pytest.mark.parametrize("kind", BAD_KINDS, ids=lambda kind: kind.name)
def test_each_bad_line_says_why(kind: Kind, tmp_path: Path) -> None:
    path = write(tmp_path, "feed.jsonl", b"\n" + kind.value + b'\n{"id":"next","text":"fine"}\n')

    first, second = FileSource(path)

    assert isinstance(first, BadLine)
    assert (first.error.reason, first.error.message) == (kind.reason, kind.message)
    assert first.where == first.error.where == f"{path}:2"
    assert first.raw == kind.value
    assert isinstance(second, PostLine)
    assert second.post.id == "next"


def test_what_is_odd_but_right_is_a_post(tmp_path: Path) -> None:
    path = write(tmp_path, "feed.jsonl", b"\n".join(ODD_BUT_GOOD))

    lines = list(FileSource(path))

    assert [line.error.message for line in bad(lines)] == []
    assert [line.post.id for line in posts(lines)] == [
        "nul", "empty", "7", "feed.jsonl:4", "feed.jsonl:5", "bom", "crlf", "extra", "gone", "emoji",
    ]  # fmt: skip
    assert posts(lines)[7].post.meta == {"likes": 3, "place": {"city": "Porto"}}


def test_a_thousand_good_lines_survive_every_bad_one(tmp_path: Path) -> None:
    source = FileSource(write(tmp_path, "feed.jsonl", mixed_file(1000)))

    lines = list(source)

    assert len(posts(lines)) == 1000
    assert sorted(line.error.reason for line in bad(lines)) == sorted(k.reason for k in BAD_KINDS)
    assert (source.lines, source.blank) == (1000 + len(BAD_KINDS), 3)


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: data], ids=["gzip", "plain"])
@pytest.mark.parametrize("name", ["feed.jsonl", "feed.jsonl.gz", "feed"])
def test_gzip_is_told_by_its_bytes_not_by_its_name(name: str, pack: object, tmp_path: Path) -> None:
    assert callable(pack)
    path = write(tmp_path, name, pack(b"\n".join(good_lines(5))))

    assert [line.post.id for line in posts(list(FileSource(path)))] == [
        f"good-{n}" for n in range(5)
    ]


def test_several_gzip_members_with_padding_are_one_file(tmp_path: Path) -> None:
    one, two = good_lines(2)
    packed = gzip.compress(one + b"\n") + gzip.compress(two) + bytes(512)

    assert len(list(FileSource(write(tmp_path, "feed.gz", packed)))) == 2


def drain(path: str, seen: list[Line]) -> None:
    """Read to the end or to the error; what came before it stays in `seen`."""
    for line in FileSource(path):
        seen.append(line)  # noqa: PERF402 - extend would lose them with the error


def _incompressible(count: int) -> bytes:
    return b"".join(
        json.dumps({"id": str(n), "text": os.urandom(30).hex()}).encode() + b"\n"
        for n in range(count)
    )


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.999])
def test_a_truncated_gzip_gives_what_it_has_and_then_says_so(keep: float, tmp_path: Path) -> None:
    packed = gzip.compress(_incompressible(20_000))
    packed = packed[: int(len(packed) * keep)]
    path = write(tmp_path, "feed.jsonl.gz", packed)
    seen: list[Line] = []

    with pytest.raises(SourceError) as caught:
        drain(path, seen)

    assert 20_000 * keep * 0.97 < len(posts(seen)) <= 20_000 * keep * 1.03
    assert bad(seen) == []
    assert f"ends in the middle, after {len(packed)} bytes" in caught.value.message
    assert caught.value.where == path


def test_a_damaged_gzip_gives_every_line_before_the_damage(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(_incompressible(20_000)))
    middle = len(packed) // 2
    packed[middle : middle + 40] = b"\xff" * 40
    seen: list[Line] = []

    with pytest.raises(SourceError, match=r"damaged near byte|ends in the middle"):
        drain(write(tmp_path, "feed.jsonl.gz", bytes(packed)), seen)

    assert len(posts(seen)) > 9_500


def test_garbage_after_gzip_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, "feed.gz", gzip.compress(good_lines(1)[0] + b"\n") + b"surprise")

    with pytest.raises(SourceError, match=r"damaged near byte .*: incorrect header check"):
        list(FileSource(path))


@pytest.mark.parametrize(
    ("magic", "name"),
    [(b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh91AY&SY", "bzip2"), (b"PK\x03\x04", "zip")],
)
def test_other_packings_are_named(magic: bytes, name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=name) as caught:
        list(FileSource(write(tmp_path, "feed", magic + b"...")))

    assert caught.value.hint is not None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_unicode_in_every_width_is_read(encoding: str, tmp_path: Path) -> None:
    content = '{"id":"ü","text":"Grüße 😀"}\n{"id":"2","text":"二"}\n'
    path = write(tmp_path, "feed.jsonl", content.encode(encoding))

    assert [(line.post.id, line.post.text) for line in posts(list(FileSource(path)))] == [
        ("ü", "Grüße 😀"),
        ("2", "二"),
    ]


def test_half_a_pair_in_utf_16_is_its_own_lines_mistake(tmp_path: Path) -> None:
    content = codecs.BOM_UTF16_LE + '{"id":"1","text":"\ud83d"}\n{"id":"2","text":"b"}\n'.encode(
        "utf-16-le", "surrogatepass"
    )

    first, second = FileSource(write(tmp_path, "feed.jsonl", content))

    assert isinstance(first, BadLine)
    assert first.error.reason == "not-utf8"
    assert isinstance(second, PostLine)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_one_line_of_utf_16_does_not_make_a_file_of_it(encoding: str, tmp_path: Path) -> None:
    strange = '{"id":"x","text":"pasted from a spreadsheet"}'.encode(encoding)
    content = b"\n".join([strange, *good_lines(20)])

    first, *rest = FileSource(write(tmp_path, "feed.jsonl", content))

    assert isinstance(first, BadLine)
    assert first.raw == strange
    assert len(posts(rest)) == 20


@pytest.mark.parametrize("text", ["BZh is no archive", "PAR1 of the story", "PK means peacock"])
def test_words_that_look_like_a_packing_are_words(text: str, tmp_path: Path) -> None:
    (line,) = FileSource(write(tmp_path, "words", text), Format.TEXT)

    assert isinstance(line, PostLine)


def test_a_line_without_end_is_cut_and_the_next_one_read(tmp_path: Path) -> None:
    content = (
        b'{"id":"1","text":"' + b"x" * (MAX_LINE_BYTES + 1_000_000) + b'"}\n' + good_lines(1)[0]
    )

    first, second = FileSource(write(tmp_path, "feed.jsonl", content))

    assert isinstance(first, BadLine)
    assert (first.error.reason, first.cut) == ("too-large", True)
    assert "longer than 8,388,608 bytes" in first.error.message
    assert MAX_LINE_BYTES >= len(first.raw) > MAX_ORIGINAL_BYTES
    assert isinstance(second, PostLine)
    assert dead_letter_of(first.error, first.raw, at_ms=0).original_truncated


def test_memory_is_bounded_by_the_line_not_by_the_file(tmp_path: Path) -> None:
    """Half a gigabyte in one line, as a gzip bomb, is read with the memory of a few chunks."""
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(512):
            file.write(b"x" * 1024 * 1024)
    script = (
        "import sys, psutil; from stream.sources.files import FileSource\n"
        "lines = list(FileSource(sys.argv[1]))\n"
        "status = open('/proc/self/status').read() if sys.platform == 'linux' else ''\n"
        # Not `ru_maxrss`: Linux lets a child begin with the peak of the process that forked it.
        "peak = [int(x.split()[1]) * 1024 for x in status.splitlines() if x[:6] == 'VmHWM:']\n"
        "peak = peak[0] if peak else psutil.Process().memory_info().rss\n"
        "print(len(lines), lines[0].error.reason, peak)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )

    count, reason, peak = done.stdout.split()
    assert (count, reason) == ("1", "too-large")
    assert int(peak) < 160_000 * 1024


def test_a_text_of_a_megabyte_is_a_post(tmp_path: Path) -> None:
    (line,) = FileSource(write(tmp_path, "feed.jsonl", MEGABYTE))

    assert isinstance(line, PostLine)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing", None, "cannot be opened: no such file or directory"),
        ("directory", None, "this is a directory, not a file"),
        ("table.csv", b"a,b\n1,2\n", "no column holds the text; the header names `a`, `b`"),
        ("broken.json", b'[{"id":"1"},', "not a JSON array: input data was truncated"),
    ],
)
def test_an_input_that_is_none_is_one_clear_error(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name == "directory":
        path.mkdir()

    with pytest.raises(SourceError) as caught:
        list(FileSource(str(path)))

    assert caught.value.message == message


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n  \n", codecs.BOM_UTF8, gzip.compress(b"")],
    ids=["empty", "blank lines", "a mark alone", "gzip of nothing"],
)
def test_nothing_to_read_is_no_error(content: bytes, tmp_path: Path) -> None:
    assert list(FileSource(write(tmp_path, "feed.jsonl", content))) == []


def test_a_json_array_is_read_element_by_element(tmp_path: Path) -> None:
    path = write(tmp_path, "feed.json", '\n[{"id":"1","text":"a"},\n 5, {"text":"b"}]')

    first, second, third = FileSource(path)

    assert isinstance(first, PostLine)
    assert isinstance(second, BadLine)
    assert (second.where, second.error.reason) == (f"{path}[1]", "not-an-object")
    assert isinstance(third, PostLine)
    assert third.post.id == "feed.json[2]"


def test_an_array_that_does_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_ARRAY_BYTES", 100)

    with pytest.raises(SourceError, match="more than 100 bytes"):
        list(FileSource(write(tmp_path, "feed.json", b"[" + b"1," * 100 + b"1]")))


def test_a_jsonl_that_begins_with_an_array_stays_jsonl(tmp_path: Path) -> None:
    first, second = FileSource(write(tmp_path, "feed.jsonl", b'[1]\n{"id":"1","text":"a"}'))

    assert isinstance(first, BadLine)
    assert isinstance(second, PostLine)


def test_plain_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "lines.txt", b'first\n\n{"id":"not json here"}\nna\xefve\n')

    source = FileSource(path, Format.TEXT)
    one, two, three = source

    assert isinstance(one, PostLine)
    assert (one.post.id, one.post.text) == ("lines.txt:1", "first")
    assert isinstance(two, PostLine)
    assert two.post.text == '{"id":"not json here"}'
    assert isinstance(three, BadLine)
    assert three.error.reason == "not-utf8"
    assert source.blank == 1


def test_stdin_has_its_own_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path, "x", "text,lang\nhello,en\n")
    with open(path, "rb") as file:  # noqa: PTH123 - stdin is a file object
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        (line,) = FileSource("-")

    assert isinstance(line, PostLine)
    assert (line.where, line.post.id, line.post.lang) == ("stdin:2", "stdin:2", "en")


def test_lines_come_as_they_are_written() -> None:
    """A pipe that stays open does not hold back what is already there."""
    script = (
        "from stream.sources.files import FileSource\n"
        "for line in FileSource('-'): print(line.post.id, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for n in range(3):
            process.stdin.write(b'{"id":"%d","text":"x"}\n' % n)
            process.stdin.flush()
            assert process.stdout.readline() == b"%d\n" % n
        process.stdin.close()
    assert process.returncode == 0


_PIECES = st.one_of(
    st.sampled_from(
        [*(k.value for k in BAD_KINDS if len(k.value) < 2000), *ODD_BUT_GOOD, b"", b" "]
    ),
    st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"").replace(b"\x1f\x8b", b"")),
)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.lists(_PIECES, max_size=30), chunk_bytes=st.integers(1, 64))
def test_every_line_comes_out_once_whatever_it_is(
    values: list[bytes], chunk_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers and bytes of the lines do not depend on how the bytes arrive, or on their content."""
    monkeypatch.setattr("stream.sources.chunks.CHUNK_BYTES", chunk_bytes)
    head = b'{"id":"head","text":"keeps the file UTF-8 and plain"}'
    path = write(tmp_path, "any.jsonl", b"\n".join([head, *values]))

    source = FileSource(path)
    lines = list(source)

    assert source.lines == len(lines)
    present = {n: v for n, v in enumerate([head, *values], 1) if v.strip()}
    assert [line.where for line in lines] == [f"{path}:{n}" for n in present]
    for line, value in zip(lines, present.values(), strict=True):
        if isinstance(line, BadLine):
            assert line.raw == value.removesuffix(b"\r")
        else:
            assert decode_post(value, default_id=line.post.id) == line.post
