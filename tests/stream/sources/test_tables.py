from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.errors import SourceError
from stream.records import Post
from stream.sources.files import BadLine, FileSource, Format, PostLine
from stream.sources.lines import RawLine
from stream.sources.tables import MAX_ROW_LINES, RowReader


def read(directory: Path, name: str, content: bytes | str) -> list[Post | tuple[str, str]]:
    """Each line's post, or its line number and reason."""
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [
        line.post
        if isinstance(line, PostLine)
        else (line.where.removeprefix(f"{path}:"), line.error.message)
        for line in FileSource(str(path))
    ]


def texts(lines: list[Post | tuple[str, str]]) -> list[str | tuple[str, str] | None]:
    return [line.text if isinstance(line, Post) else line for line in lines]


def test_columns_are_found_under_the_names_that_others_use(tmp_path: Path) -> None:
    content = (
        "\ufeffTweet_ID,User,Date,Language,Comment Text,Hashtags,likes\r\n"
        '1755,ann,2026-11-22T10:00:00Z,pt,"Olá, mundo","#feira; #porto",3\r\n'
    )

    assert read(tmp_path, "tweets.csv", content) == [
        Post(
            id="1755",
            author="ann",
            created_at="2026-11-22T10:00:00Z",
            lang="pt",
            text="Olá, mundo",
            tags=["feira", "porto"],
            meta={"likes": "3"},
        )
    ]


def test_our_own_name_wins_and_the_other_column_is_kept(tmp_path: Path) -> None:
    (post,) = read(tmp_path, "a.csv", "message,text,id,uri\nm,t,1,u\n")

    assert post == Post(id="1", text="t", meta={"message": "m", "uri": "u"})


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("a", ["a"]), ("a b", ["a", "b"]), ("#a|#b", ["a", "b"]), ('["a b","c"]', ["a b", "c"]),
     ("['a', 'b']", ["a", "b"])],
)  # fmt: skip
def test_lists_in_a_cell(cell: str, expected: list[str], tmp_path: Path) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["text", "tags"], ["x", cell]])

    (post,) = read(tmp_path, "a.csv", buffer.getvalue())

    assert isinstance(post, Post)
    assert post.tags == expected


def test_quoted_cells_hold_delimiters_quotes_and_lines(tmp_path: Path) -> None:
    content = 'id,text\n1,"a, ""b""\nand\n\nmore"\n2,5" disk\n3,"last"'

    lines = read(tmp_path, "a.csv", content)

    assert texts(lines) == ['a, "b"\nand\n\nmore', '5" disk', "last"]


def test_rows_that_do_not_fit_are_named(tmp_path: Path) -> None:
    content = 'id,text\n1,fine\n2\n3,a,b\n4,"x"y\n5,\n6,also fine\n'

    assert texts(read(tmp_path, "a.csv", content)) == [
        "fine",
        ("3", "the row has 1 cell, the header 2"),
        ("4", "the row has 3 cells, the header 2"),
        ("5", "a quoted cell goes on after its closing quote; a quote inside one is written twice"),
        ("6", "the cell of the `text` column is empty"),
        "also fine",
    ]


@pytest.mark.parametrize("rows_after", [3, MAX_ROW_LINES * 3])
def test_a_quote_that_never_closes_costs_one_row(rows_after: int, tmp_path: Path) -> None:
    content = 'id,text\n1,"open\n' + "".join(f"{n},row {n}\n" for n in range(rows_after))

    lines = texts(read(tmp_path, "a.csv", content))

    assert lines == [
        ("2", "a quote is opened in this row and not closed"),
        *(f"row {n}" for n in range(rows_after)),
    ]


def test_another_encoding_costs_its_rows_only(tmp_path: Path) -> None:
    content = b'id,text\n1,caf\xe9\n2,"caf\xc3\xa9"\n3,"na\xefve, ""so"""\n'

    assert texts(read(tmp_path, "a.csv", content)) == [
        ("2", "byte 5 (0xe9) is not UTF-8: the text is in another encoding"),
        "café",
        ("4", "byte 5 (0xef) is not UTF-8: the text is in another encoding"),
    ]


def test_a_spreadsheets_utf_16(tmp_path: Path) -> None:
    content = 'id\ttext\n1\t"tab\there"\n2\t日本語\n'.encode("utf-16")

    assert texts(read(tmp_path, "a.tsv", gzip.compress(content))) == ["tab\there", "日本語"]


def test_tsv_without_quoting_is_taken_literally(tmp_path: Path) -> None:
    content = (
        'id\tlang\ttext\n1\ten\t"Hi" he said\n2\ten\t"open\n3\ten\t12" vinyl\n4\ten\t"whole"\n'
    )

    assert texts(read(tmp_path, "a.tsv", content)) == [
        '"Hi" he said',
        '"open',
        '12" vinyl',
        "whole",
    ]


def test_a_table_on_stdin_is_told_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "feed").write_text("text\tlang\nhallo, du\tde\n")

    (line,) = FileSource(str(tmp_path / "feed"))

    assert isinstance(line, PostLine)
    assert line.post.text == "hallo, du"


def test_a_header_that_is_not_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'"text\n')

    with pytest.raises(SourceError, match="header cannot be read: a quote is opened"):
        list(FileSource(str(tmp_path / "a.csv")))


def test_a_huge_cell_is_no_error_of_the_csv_module(tmp_path: Path) -> None:
    (post,) = read(tmp_path, "a.csv", 'id,text\n1,"' + "x" * 500_000 + '"\n')

    assert isinstance(post, Post)


_CELLS = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00\r\ufeff"), max_size=12
)


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.tuples(_CELLS, _CELLS.filter(str.strip)), max_size=20), batch=st.integers(1, 9)
)
def test_what_the_csv_module_writes_is_read_back(
    rows: list[tuple[str, str]], batch: int, tmp_path: Path
) -> None:
    """Whatever the cells hold, and however the lines arrive."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([("source", "text"), *rows])
    raw = [RawLine(n, v) for n, v in enumerate(buffer.getvalue().encode().split(b"\n"), 1)]

    reader = RowReader(",")
    out = [row for at in range(0, len(raw), batch) for row in reader.feed(raw[at : at + batch])]
    out += reader.finish()

    assert [row.cells for row in out] == [["source", "text"], *map(list, rows), [""]]
    (tmp_path / "a").write_bytes(buffer.getvalue().encode())
    lines = list(FileSource(str(tmp_path / "a"), Format.CSV))
    assert not any(isinstance(line, BadLine) for line in lines)
    assert [line.post.text for line in lines if isinstance(line, PostLine)] == [t for _, t in rows]
