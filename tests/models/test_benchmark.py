"""`bench_model` measures what it says it measures."""

from __future__ import annotations

import pytest

from models.benchmark import bench_model
from models.errors import ModelError
from tests.models.conftest import SmallModel, sentences


def test_every_way_is_measured(built_small_model: SmallModel) -> None:
    seen: list[tuple[int, int]] = []
    result = bench_model(
        sentences(700),
        manifest=built_small_model.manifest_path,
        preset="small",
        device="cpu",
        threads=1,
        runs=3,
        fp32=built_small_model.fp32,
        report=lambda done, of: seen.append((done, of)),
    )
    assert (result.model, result.version, result.device) == ("test/small", "1", "cpu")
    assert (result.posts, result.runs, result.threads) == (700, 3, 1)
    assert min(result.session, result.with_tokenising, result.scoring, result.fp32 or 0) > 0
    assert result.ratio == pytest.approx(result.scoring / result.session, abs=1e-3)
    assert seen == [(n, 12) for n in range(1, 13)]


def test_no_posts(built_small_model: SmallModel) -> None:
    with pytest.raises(ModelError, match="no posts to measure with"):
        bench_model([], manifest=built_small_model.manifest_path, preset="small")
