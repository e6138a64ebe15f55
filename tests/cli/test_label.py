"""`tidegate label` and `tidegate score`, with the model that ships."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from stream.records import DeadLetter, Label, decode_dead_letter, decode_label
from tests.conftest import RunTidegate, StartTidegate
from tests.stream.sources.bad_lines import BAD_KINDS, MEGABYTE, ODD_BUT_GOOD, good_lines, mixed_file

NULL = {"TIDEGATE_MODELS__PRESET": "null"}
#: Lengths and languages that sort differently from how they are written.
TEXTS = [
    "ok",
    "what a lovely evening by the river, we stayed until the last lantern was out " * 3,
    "Du bist so ein Idiot, halt endlich den Mund",
    "今日は天気がいいですね",
    "",
    "!!!???",
    "Qué partido tan bonito, gracias a todos",
    "the same words again and again " * 40,
    "هذا يوم جميل",
    "I will find you, you pathetic clown",
]


def posts(texts: list[str]) -> list[bytes]:
    return [json.dumps({"id": f"p{n}", "text": text}).encode() for n, text in enumerate(texts)]


def labels(output: str | bytes) -> list[Label]:
    data = output.encode() if isinstance(output, str) else output
    return [decode_label(line) for line in data.splitlines()]


def scores(label: Label) -> dict[str, Any]:
    return {
        f"{task}.{name}": value
        for task, answer in label.labels.items()
        for name, value in answer.scores.items()
    }


def test_labels_come_in_the_order_of_the_input(run_tidegate: RunTidegate, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(posts(TEXTS)))

    done = run_tidegate("label", "in.jsonl", "--out", "out.jsonl")

    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "10 posts labelled" in done.stderr
    found = labels((tmp_path / "out.jsonl").read_bytes())
    assert [label.post_id for label in found] == [f"p{n}" for n in range(len(TEXTS))]
    first = found[0]
    assert set(first.labels) == set(first.models) == {"language", "sentiment", "toxicity"}
    assert sum(first.labels["sentiment"].scores.values()) == pytest.approx(1, abs=1e-4)
    assert set(first.labels["toxicity"].scores) >= {"toxic", "threat", "insult"}
    assert found[3].labels["language"].label == "ja"


def test_the_order_of_the_file_changes_no_score(run_tidegate: RunTidegate, tmp_path: Path) -> None:
    lines = posts(TEXTS * 30)
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    random.Random(3).shuffle(lines)
    (tmp_path / "b.jsonl").write_bytes(b"\n".join(lines))

    one, two = (run_tidegate("label", name) for name in ("a.jsonl", "b.jsonl"))

    by_id = {label.post_id: label for label in labels(two.stdout)}
    assert len(by_id) == 300
    for label in labels(one.stdout):
        other = by_id[label.post_id]
        assert {t: a.label for t, a in label.labels.items()} == {
            t: a.label for t, a in other.labels.items()
        }
        assert scores(label) == pytest.approx(scores(other), abs=1e-4)


def test_the_same_posts_in_every_form_get_the_same_labels(
    run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    texts = [text.strip() for text in TEXTS if text.strip()]
    rows = [("id", "text"), *((f"p{n}", text) for n, text in enumerate(texts))]
    table = io.StringIO()
    csv.writer(table).writerows(rows)
    jsonl = b"\n".join(posts(texts))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(jsonl))
    (tmp_path / "b.csv").write_text(table.getvalue(), encoding="utf-16")
    (tmp_path / "c.tsv").write_text("\n".join("\t".join(row) for row in rows))
    (tmp_path / "d.txt").write_text("\n".join(texts))

    outputs = [
        run_tidegate("label", "-", stdin=jsonl),
        run_tidegate("label", "a.jsonl.gz"),
        run_tidegate("label", "b.csv"),
        run_tidegate("label", "c.tsv"),
        run_tidegate("label", "d.txt", "--text"),
    ]

    answers = [
        [{t: a.label for t, a in label.labels.items()} for label in labels(done.stdout)]
        for done in outputs
    ]
    assert len(answers[0]) == len(texts)
    assert all(answer == answers[0] for answer in answers)
    assert labels(outputs[4].stdout)[0].post_id == "d.txt:1"


def test_every_bad_line_is_accounted_for(run_tidegate: RunTidegate, tmp_path: Path) -> None:
    content = mixed_file(1000) + b"\n".join([MEGABYTE, *ODD_BUT_GOOD])
    (tmp_path / "mixed.jsonl").write_bytes(content)

    done = run_tidegate(
        "label", "mixed.jsonl", "--out", "out", "--dead-letters", "bad", "--json", timeout_s=150
    )

    assert done.returncode == 0, done.stderr
    account = json.loads(done.stdout)
    good = 1000 + 1 + len(ODD_BUT_GOOD)
    assert account["lines"] == good + len(BAD_KINDS)
    assert (account["labelled"], account["dead_lettered"]) == (good, len(BAD_KINDS))
    assert account["blank"] == 3
    assert set(account["models"]) == {"language", "sentiment", "toxicity"}
    found = {label.post_id: label for label in labels((tmp_path / "out").read_bytes())}
    assert len(found) == good
    assert found["big"].truncated
    assert found["nul"].cleaned
    assert found["gone"].retracted
    letters = [decode_dead_letter(x) for x in (tmp_path / "bad").read_bytes().splitlines()]
    assert sorted((x.reason, x.error) for x in letters) == sorted(
        (kind.reason, kind.message) for kind in BAD_KINDS
    )
    assert_originals_are_kept(letters)
    assert done.stderr.count("mixed.jsonl:") == 5
    assert "20 bad lines more" in done.stderr


def assert_originals_are_kept(letters: list[DeadLetter]) -> None:
    wanted = {kind.value for kind in BAD_KINDS}
    for letter in letters:
        if not letter.original_truncated:
            assert letter.original in wanted
        assert letter.input is not None
        assert letter.input.startswith("mixed.jsonl:")


def test_a_file_that_breaks_off_keeps_what_it_gave(
    run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    packed = gzip.compress(b"\n".join(good_lines(20_000)), 1)
    (tmp_path / "feed.jsonl.gz").write_bytes(packed[: len(packed) // 2])

    done = run_tidegate("label", "feed.jsonl.gz", "--out", "out.jsonl", env=NULL)

    assert done.returncode == 1
    assert "the gzip data ends in the middle" in done.stderr
    assert "out.jsonl.partial" in done.stderr
    assert not (tmp_path / "out.jsonl").exists()
    assert len(labels((tmp_path / "out.jsonl.partial").read_bytes())) > 5_000


def test_the_file_has_its_name_only_when_it_is_complete(
    start_tidegate: StartTidegate, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "out.jsonl").write_text("before\n")
    process = start_tidegate("label", "pipe", "--out", "out.jsonl", env=NULL)
    with (tmp_path / "pipe").open("wb") as pipe:
        pipe.write(b"\n".join(good_lines(5000)))
        pipe.flush()
        partial = tmp_path / "out.jsonl.partial"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (partial.exists() and partial.stat().st_size):
            time.sleep(0.05)
        assert (tmp_path / "out.jsonl").read_text() == "before\n"
    assert process.wait(60) == 0
    assert len(labels((tmp_path / "out.jsonl").read_bytes())) == 5000
    assert not partial.exists()


def test_what_is_no_regular_file_is_never_replaced(
    run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(good_lines(3)))

    done = run_tidegate("label", "in.jsonl", "--out", "/dev/null", "--json", env=NULL)

    assert json.loads(done.stdout)["labelled"] == 3
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_who_stops_reading_gets_no_traceback(start_tidegate: StartTidegate, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(good_lines(20_000)))
    process = start_tidegate("label", "in.jsonl", env=NULL)
    assert process.stdout is not None

    first = process.stdout.readline()
    process.stdout.close()

    assert decode_label(first.encode()).post_id == "good-0"
    assert process.wait(60) == 0


def test_a_pause_of_the_source_does_not_hold_labels_back(tmp_path: Path) -> None:
    from tests.conftest import TIDEGATE, clean_environment

    with subprocess.Popen(
        [TIDEGATE, "label", "-", "--text"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=clean_environment(NULL),
        cwd=tmp_path,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for n in range(1, 4):
                process.stdin.write(b"hello\n")
                process.stdin.flush()
                assert decode_label(process.stdout.readline()).post_id == f"stdin:{n}"
            process.stdin.close()
            assert process.wait(120) == 0
        finally:
            process.kill()


def test_ctrl_c_while_waiting_for_stdin_ends_it(tmp_path: Path) -> None:
    from tests.conftest import TIDEGATE, clean_environment

    with subprocess.Popen(
        [TIDEGATE, "label", "-", "--text"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(NULL),
        cwd=tmp_path,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 130
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("lines", "arguments", "message", "hint"),
    [
        (b"a b\nc\n\n", (), "nothing was labelled: none of its 2 lines is a post", True),
        (b"{}\n", (), "nothing was labelled: its one line is no post", True),
        (b"caf\xe9\n", ("--text",), "nothing was labelled: its one line is no post", False),
    ],
)
def test_a_file_of_which_nothing_can_be_labelled_is_a_failure(
    lines: bytes,
    arguments: tuple[str, ...],
    message: str,
    *,
    hint: bool,
    run_tidegate: RunTidegate,
    tmp_path: Path,
) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines)
    done = run_tidegate("label", "in.jsonl", *arguments, "--out", "out", "--json", env=NULL)
    assert done.returncode == 1
    assert f"in.jsonl: {message}" in done.stderr
    assert ("`--text` takes every line for a text" in done.stderr) is hint
    account = json.loads(done.stdout)
    assert (account["labelled"], account["dead_lettered"]) == (0, account["lines"])


def test_a_file_without_lines_is_no_failure(run_tidegate: RunTidegate, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("\n")
    done = run_tidegate("label", "in.jsonl", env=NULL)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("missing.jsonl",), 1, "missing.jsonl: cannot be opened: no such file or directory"),
        (("in.jsonl", "--out", "in.jsonl"), 2, "`in.jsonl` is read and written by the same"),
        (("in.jsonl", "--out", "x", "--dead-letters", "x"), 2, "`x` is written twice"),
        (("in.jsonl", "--out", "no/such/out"), 1, "no/such/out: cannot be written: no such file"),
        (("in.jsonl", "--text", "--format", "csv"), 2, "`--text` and `--format csv` contradict"),
    ],
)
def test_mistakes_are_one_clear_line(
    arguments: tuple[str, ...], code: int, message: str, run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(good_lines(3)))

    done = run_tidegate("label", *arguments, env=NULL)

    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "in.jsonl").read_bytes() == b"\n".join(good_lines(3))


def test_score_for_people(run_tidegate: RunTidegate) -> None:
    done = run_tidegate("score", "what a lovely day")

    assert done.returncode == 0, done.stderr
    for word in ("language", "sentiment", "toxicity", "severe_toxic", "positive", "█", "│", "en"):
        assert word in done.stdout


def test_score_for_programs(run_tidegate: RunTidegate) -> None:
    done = run_tidegate("score", "-", "--json", stdin="das Wetter ist heute sehr schön\n")

    (label,) = labels(done.stdout)
    assert label.post is not None
    assert label.post.text == "das Wetter ist heute sehr schön"
    assert label.labels["language"].label == "de"


def test_score_of_what_is_no_text(run_tidegate: RunTidegate) -> None:
    done = run_tidegate("score", "-", stdin=b"caf\xe9")

    assert done.returncode == 2
    assert "byte 3 is not UTF-8" in done.stderr


def test_markup_in_a_text_is_text(run_tidegate: RunTidegate) -> None:
    done = run_tidegate("score", "[bold]not markup[/nope]", env=NULL)

    assert done.returncode == 0, done.stderr
    assert "[bold]not markup[/nope]" in done.stdout
