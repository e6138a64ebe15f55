"""A worker with a made-up scorer as a process of its own: what the trials kill.

Run as `python -m tests.chaos.worker_process DELAY_S` with `TIDEGATE_*` in the environment; the
setting `worker.scoring` says whether it scores in a process beside it.
"""

from __future__ import annotations

import sys

from stream.agents.label import apart
from stream.cli.main import print_error
from stream.errors import TidegateError
from stream.scoring_process.handle import ScoringProcess
from stream.settings import load_settings
from stream.worker import run_worker
from tests.chaos.posts import PoisonedScorer

if __name__ == "__main__":
    try:
        settings, delay = load_settings(), sys.argv[1]
        run_worker(
            settings,
            ScoringProcess(settings, (sys.executable, "-m", "tests.chaos.scoring_process", delay))
            if apart(settings.worker)
            else PoisonedScorer(float(delay)),
        )
    except TidegateError as error:
        print_error(error)
        sys.exit(1)
