"""What is installed."""

from __future__ import annotations

import numpy as np

from models.packages import version_of


def test_a_version_is_told_where_there_is_one() -> None:
    assert version_of("numpy") == np.__version__
    assert version_of("no-such-package-of-ours") is None
