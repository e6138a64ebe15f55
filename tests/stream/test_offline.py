from __future__ import annotations

from collections.abc import Iterator

import pytest

from models.null import NullScorer
from stream.errors import PostError, SourceError
from stream.offline import WINDOW_BYTES, WINDOW_LINES, label_source
from stream.records import DeadLetter, Label, Post
from stream.sources.files import BadLine, Line, PostLine


def line(number: int, text: str = "hello") -> PostLine:
    return PostLine(f"f:{number}", Post(id=str(number), text=text))


def names(records: list[Label | DeadLetter]) -> list[str | None]:
    return [r.input if isinstance(r, DeadLetter) else r.post_id for r in records]


def test_every_line_has_its_record_in_order() -> None:
    lines: list[Line] = [line(n) for n in range(WINDOW_LINES * 2 + 5)]
    lines[3] = BadLine("f:3", b"{", PostError("not-json", "not JSON"))
    lines[4] = PostLine("f:4", Post(id="4", op="delete"))
    lines[5] = BadLine("f:5", b"x" * 10, PostError("too-large", "long"), cut=True)

    windows = list(label_source([lines[:10], lines[10:]], NullScorer()))

    assert [len(window) for window in windows] == [WINDOW_LINES, WINDOW_LINES, 5]
    first = windows[0]
    assert isinstance(first[4], Label)
    assert first[4].retracted
    assert isinstance(first[5], DeadLetter)
    assert first[5].original_truncated
    found = [name for window in windows for name in names(window)]
    assert found == [f"f:{n}" if n in (3, 5) else str(n) for n in range(len(lines))]


def test_a_window_is_bounded_by_its_text() -> None:
    lines: list[Line] = [line(n, "x" * (WINDOW_BYTES // 2)) for n in range(6)]

    assert [len(window) for window in label_source([lines], NullScorer())] == [2, 2, 2]


def test_an_error_of_the_source_comes_after_the_labels() -> None:
    def source() -> Iterator[list[Line]]:
        yield [line(1), line(2)]
        raise SourceError("the file ends in the middle")

    windows = label_source(source(), NullScorer())

    assert names(next(windows)) == ["1", "2"]
    with pytest.raises(SourceError, match="ends in the middle"):
        next(windows)


def test_a_scorer_that_fails_ends_it() -> None:
    class Broken(NullScorer):
        def infer(self, prepared: object) -> object:  # type: ignore[override]
            raise RuntimeError(f"no graph for {prepared}")

    with pytest.raises(RuntimeError, match="no graph"):
        list(label_source([[line(1)]], Broken()))  # type: ignore[arg-type]


def test_nothing_gives_nothing() -> None:
    assert list(label_source([], NullScorer())) == []
