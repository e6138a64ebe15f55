"""The process itself: `python -m stream.scoring_process.child FD...`, a socket for each batch.

Invariant: it outlives its worker by no more than the batch it is at: a closed socket ends it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from stream.errors import ScoringProcessError, TidegateError
from stream.scoring_process.messages import (
    Channel,
    Compute,
    Failed,
    Load,
    Loaded,
    Message,
    Names,
    Ready,
    done,
)

if TYPE_CHECKING:
    from models.scores import Scorer
    from stream.flow import Computer
    from stream.settings import ModelSettings

#: Whoever signals the whole group means the worker, which finishes what is in flight first.
_LEFT_TO_THE_WORKER: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MOST_SHOWN: Final = 300
_Kind = TypeVar("_Kind")


def main(descriptors: Sequence[int], load: Callable[[ModelSettings], Scorer] | None = None) -> None:
    """Serve until a socket is closed.

    Args:
        descriptors: of the sockets.
        load: gives the scorer; default: that of the settings.
    """
    for number in _LEFT_TO_THE_WORKER:
        signal.signal(number, signal.SIG_IGN)
    channels = [Channel(socket.socket(fileno=descriptor)) for descriptor in descriptors]
    try:
        scorer = _load(channels[0], load)
        if scorer is None:
            return
        computer = _start(channels[0], scorer)
    except (EOFError, OSError):
        return
    for channel in channels:
        threading.Thread(target=_serve, args=(channel, computer), daemon=True).start()
    threading.Event().wait()


def _load(channel: Channel, load: Callable[[ModelSettings], Scorer] | None) -> Scorer | None:
    """Load what is asked for and say so; None when that failed."""
    from stream.logs import set_up_logs
    from stream.scoring import events_of, models_in_use, scorer_of
    from stream.settings import LogSettings, ModelSettings

    asked = _expect(channel.receive(), Load)
    set_up_logs(LogSettings.model_validate_json(asked.log))
    try:
        scorer = (load or scorer_of)(ModelSettings.model_validate_json(asked.models))
    except Exception as exc:  # noqa: BLE001 - the worker says what it was
        channel.send(_failure(exc))
        return None
    versions = {task: (model.id, model.version) for task, model in scorer.models.items()}
    channel.send(Loaded(versions, models_in_use(scorer), events_of(scorer)))
    return scorer


def _start(channel: Channel, scorer: Scorer) -> Computer:
    from stream.flow import PackedPipeline
    from stream.interpreter import tune_interpreter
    from stream.kafka.packing import Packer
    from stream.pipeline import Pipeline

    names = _expect(channel.receive(), Names)
    pipeline = Pipeline(scorer, labels=names.labels, dead_letters=names.dead_letters)
    packer = Packer(names.max_batch_bytes, instead=pipeline.instead_of)
    tune_interpreter()
    channel.send(Ready())
    return PackedPipeline(pipeline, packer.pack)


def _serve(channel: Channel, computer: Computer) -> None:
    """Answer one socket; its end is the process's."""
    from stream.kafka.ledger import Partition, Span

    try:
        while True:
            asked = _expect(channel.receive(), Compute)
            spans = [
                Span(Partition(topic, number), records, 0, 0)
                for topic, number, records in asked.spans
            ]
            del asked
            try:
                computed = computer.compute(spans)
            except Exception as exc:  # noqa: BLE001 - the worker says what it was
                channel.send(_failure(exc))
                continue
            channel.send(*done(*computed))
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever it is
        # The worker waits for an answer that will not come: the end of the process is one.
        traceback.print_exc()
        os._exit(1)


def _expect(message: Message, kind: type[_Kind]) -> _Kind:
    assert isinstance(message, kind)
    return message


def _failure(error: Exception) -> Failed:
    if not isinstance(error, TidegateError):
        shown = f"{type(error).__name__}: {error}"[:_MOST_SHOWN]
        error = ScoringProcessError(f"scoring failed: {shown}")
    return Failed(type(error).__name__, error.message, error.where, error.hint)


if __name__ == "__main__":
    main([int(descriptor) for descriptor in sys.argv[1:]])
