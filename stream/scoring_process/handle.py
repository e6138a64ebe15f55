"""The worker's side: starts the process, hands it batches, ends it."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Self

import stream.errors
from models.scores import ModelVersion
from stream.errors import ScoringProcessError, TidegateError
from stream.flow import Computed
from stream.kafka.ledger import Span
from stream.kafka.packing import Packed
from stream.outcomes import ModelInUse
from stream.scoring_process.messages import (
    Channel,
    Compute,
    Done,
    Failed,
    Load,
    Loaded,
    Message,
    Names,
    PassedRecord,
)
from stream.settings import Settings

#: -P: no module of the folder that it is started in.
_COMMAND: Final = (sys.executable, "-P", "-m", "stream.scoring_process.child")
#: How long a process whose sockets are closed may take to end.
_END_S: Final = 2.0


class ScoringProcess:
    """A running process with its models loaded; `close` it.

    Args:
        settings: which models, how many batches at a time (`worker.in_flight_batches`), the log.
        command: starts the process; the numbers of its sockets are put behind it.

    Raises:
        ModelError: a model cannot be loaded, with the reason.
        ScoringProcessError: the process ended before it said so.
    """

    def __init__(self, settings: Settings, command: Sequence[str] = _COMMAND) -> None:
        pairs = [socket.socketpair() for _ in range(settings.worker.in_flight_batches)]
        theirs = [their.fileno() for _, their in pairs]
        self._channels = [Channel(ours) for ours, _ in pairs]
        # Nothing is ever said over this one: it closes when the process ends.
        self._life, its_life = socket.socketpair()
        self._life.setblocking(False)
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [*command, *map(str, theirs)],
            pass_fds=[*theirs, its_life.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for their in (*(their for _, their in pairs), its_life):
            their.close()
        self._free: queue.SimpleQueue[Channel] = queue.SimpleQueue()
        for channel in self._channels:
            self._free.put(channel)
        try:
            loaded = self._ask(
                Load(settings.models.model_dump_json(), settings.log.model_dump_json())
            )
        except BaseException:
            self.close()
            raise
        assert isinstance(loaded, Loaded)
        self._loaded = loaded

    def __enter__(self) -> Self:
        """The process."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def models(self) -> Mapping[str, ModelVersion]:
        """Task to the model that answers it."""
        return {task: ModelVersion(*version) for task, version in self._loaded.models.items()}

    @property
    def in_use(self) -> Sequence[ModelInUse]:
        """How its models run."""
        return self._loaded.in_use

    @property
    def events(self) -> Sequence[dict[str, object]]:
        """What the log should say of its models."""
        return self._loaded.events

    def start(self, labels: str, dead_letters: str, max_batch_bytes: dict[str, int]) -> None:
        """Say where outputs go; `compute` may be called then.

        Args:
            labels: full name of the labels' topic.
            dead_letters: full name of the dead letters' topic.
            max_batch_bytes: by topic, the largest batch the broker takes.
        """
        self._ask(Names(labels, dead_letters, max_batch_bytes))

    def compute(self, spans: Sequence[Span]) -> Computed:
        """As of `flow.Computer`; the spans' records are freed.

        Raises:
            ModelRuntimeError: the models fail on every post.
            DeliveryError: an output is more than its topic takes.
            ScoringProcessError: the process has ended.
        """
        passed = [
            (
                *span.partition,
                [
                    PassedRecord(r.key, r.value, tuple(r.headers), r.timestamp, r.offset)
                    for r in span.records
                ],
            )
            for span in spans
            if not span.dropped
        ]
        channel = self._free.get()
        try:
            self._tell(channel, Compute(passed))
            # The process has them now; until it answers nobody here needs them.
            passed.clear()
            for span in spans:
                span.free()
            answer = self._answer(channel)
            assert isinstance(answer, Done)
            return Computed(answer.labels, answer.dead_letters, self._batches(channel, answer))
        finally:
            self._free.put(channel)

    async def watch(self) -> None:
        """Wait for the process to end by itself.

        Raises:
            ScoringProcessError: it has.
        """
        await asyncio.get_running_loop().sock_recv(self._life, 1)
        raise self._ended()

    def close(self) -> None:
        """End the process; a batch that is being computed fails."""
        self._life.close()
        for channel in self._channels:
            channel.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, message: Message) -> Message:
        self._tell(self._channels[0], message)
        return self._answer(self._channels[0])

    def _tell(self, channel: Channel, message: Message) -> None:
        with self._alive():
            channel.send(message)

    def _answer(self, channel: Channel) -> Message:
        with self._alive():
            answer = channel.receive()
        if isinstance(answer, Failed):
            raise _error_of(answer)
        return answer

    def _batches(self, channel: Channel, done: Done) -> list[Packed]:
        with self._alive():
            return channel.batches(done)

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as exc:
            raise self._ended() from exc

    def _ended(self) -> ScoringProcessError:
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_END_S)
        how = "was closed" if code is None else f"ended with code {code}"
        return ScoringProcessError(
            f"the process that scores {how}",
            hint="killed for want of memory? Nothing was committed past it: start the worker again "
            "and it goes on there",
        )


def _error_of(failed: Failed) -> TidegateError:
    kind = getattr(stream.errors, failed.kind, ScoringProcessError)
    error: TidegateError = kind(failed.message, where=failed.where, hint=failed.hint)
    return error
