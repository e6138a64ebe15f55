"""What the dashboard's tests share: a read model filled without a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from dashboard.projection import Place, post_row
from dashboard.store import Batch, Store
from tests.dashboard.label_feed import Made

LABELS = "labels"


def batch_of(made: Iterable[Made]) -> Batch:
    """The records as the projector would read them, offsets counted per partition."""
    batch = Batch()
    next_offset: dict[int, int] = {}
    for record in made:
        offset = next_offset.get(record.partition, 0)
        next_offset[record.partition] = offset + 1
        batch.posts.append(post_row(record.value, Place(record.partition, offset, 0)))
    batch.offsets = {(LABELS, partition): offset for partition, offset in next_offset.items()}
    return batch


@pytest.fixture
def fill(tmp_path: Path) -> Callable[..., Path]:
    """`fill(records)`: a read model that holds them; its path."""

    def fill(made: Iterable[Made], name: str = "read-model.db") -> Path:
        path = tmp_path / name
        with Store(path) as store:
            store.apply(batch_of(made))
        return path

    return fill
