"""The scoring process of a worker of the trials: `-m tests.chaos.scoring_process DELAY_S FD...`."""

from __future__ import annotations

import sys

from stream.scoring_process.child import main
from tests.chaos.posts import PoisonedScorer

if __name__ == "__main__":
    main([int(number) for number in sys.argv[2:]], lambda _: PoisonedScorer(float(sys.argv[1])))
