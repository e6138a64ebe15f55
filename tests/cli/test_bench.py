"""`tidegate bench` on the embedded broker, small: the figures' form, not their size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import RunTidegate


def test_bench_stream_gives_every_figure_and_holds_the_line(
    run_tidegate: RunTidegate, tmp_path: Path
) -> None:
    posts = tmp_path / "posts.jsonl"
    posts.write_text(
        "".join(json.dumps({"id": f"p{n}", "text": f"post {n}"}) + "\n" for n in range(50))
    )
    options = ("--posts", str(posts), "--events", "500", "--rounds", "1")
    done = run_tidegate("bench", "stream", *options, "--json", timeout_s=150)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    for name in ("worker", "aiokafka", "stock_faust"):
        assert result[name] > 0
    expected = result["worker"] / result["aiokafka"]
    assert abs(result["ratio_aiokafka"] - expected) < 0.01
    assert result["events"] == 500
    assert [path.name for path in tmp_path.iterdir()] == ["posts.jsonl"], "stock Faust is tidied up"


def test_bench_model_with_a_line_that_cannot_be_held_exits_with_3(
    run_tidegate: RunTidegate,
) -> None:
    done = run_tidegate(
        "bench", "model", "--events", "100", "--rounds", "1", "--min-ratio", "9", "--json",
        timeout_s=150,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert set(json.loads(done.stdout)) >= {"session", "with_tokenising", "scoring", "ratio"}


def test_bench_e2e_prints_nothing_but_its_figures(run_tidegate: RunTidegate) -> None:
    done = run_tidegate(
        "bench", "e2e", "--events", "100", "--rounds", "1", "--json", timeout_s=150
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert abs(result["ratio"] - result["e2e"] / result["scoring"]) < 0.01


@pytest.mark.parametrize(
    "line", [("--max-p99-ms", "0.001"), ("--min-ratio", "9")], ids=["p99", "ratio"]
)
def test_bench_latency_gives_medians_of_its_rounds_and_holds_the_line(
    run_tidegate: RunTidegate, line: tuple[str, str]
) -> None:
    done = run_tidegate(
        "bench", "latency", "--events", "100", "--rounds", "2", "--capacity", "500",
        *line, "--json",
        timeout_s=150,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    levels = json.loads(done.stdout)["levels"]
    assert [level["load"] for level in levels] == [0.1, 0.5, 0.8]
    for level in levels:
        assert 0 < level["p50_ms"] <= level["p99_ms"]
        assert 0 < level["floor_p50_ms"] <= level["floor_p99_ms"]
        first, second = level["p99_ms_of_rounds"]
        assert level["p99_ms"] == pytest.approx((first + second) / 2, abs=0.1)
        assert level["ratio"] == pytest.approx(level["floor_p50_ms"] / level["p50_ms"], abs=0.01)


def test_bench_names_a_file_without_posts(run_tidegate: RunTidegate, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    done = run_tidegate("bench", "stream", "--posts", str(empty))
    assert done.returncode == 1
    assert "no posts in it" in done.stderr
