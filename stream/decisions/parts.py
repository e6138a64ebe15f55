"""A backtest on several cores: one process reads, each of the others judges its authors' posts.

Invariant: bounded memory. The queues hold a few chunks; who reads waits for who judges.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full
from typing import Any, Final

import msgspec

from stream.decisions.backtest import Backtest, Tally
from stream.errors import TidegateError
from stream.outcomes import Action
from stream.policy import load_policy
from stream.records import decode_label

#: Values of one chunk, and chunks that wait for a process: some 20 MB of labels in all.
CHUNK: Final = 1000
_QUEUED: Final = 8
_LOOK_S: Final = 1.0

Values = Sequence[bytes]


def run_backtest(
    chunks: Iterable[Values],
    new: Path,
    old: Path,
    judged: Mapping[str, Action],
    *,
    processes: int = 0,
    done: Callable[[int], None] = lambda _: None,
) -> Tally:
    """The tally of all labels in the chunks.

    Args:
        chunks: encoded label records, oldest first.
        new: the policy to try.
        old: the policy it is compared with.
        judged: by post, what people decided.
        processes: that judge; 0: one for each core.
        done: told how many labels were handed out.

    Raises:
        PolicyError: a policy cannot be loaded.
        TidegateError: a process ended before its work.
    """
    parts = processes or os.cpu_count() or 1
    if parts == 1:
        return _alone(chunks, Backtest(load_policy(new), load_policy(old), judged), done)
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(_QUEUED) for _ in range(parts)]
    answers: Any = context.Queue()
    workers = [
        context.Process(
            target=_part,
            args=(queue, answers, _Work(str(new), str(old), dict(judged), number, parts)),
            name=f"backtest-{number}",
            daemon=True,
        )
        for number, queue in enumerate(queues)
    ]
    with _ctrl_c_is_ours():
        for worker in workers:
            worker.start()
    try:
        handed = 0
        for chunk in chunks:
            _hand_out(chunk, queues, workers)
            handed += len(chunk)
            done(handed)
        _hand_out(None, queues, workers)
        tally = _collected(answers, workers)
    except BaseException:
        for queue in queues:
            queue.cancel_join_thread()  # nobody reads what waits in it
        for worker in workers:
            worker.terminate()
        raise
    finally:
        for worker in workers:
            worker.join()
        for queue in (*queues, answers):
            queue.close()
            # Its thread holds semaphores: one that outlives us leaves them behind.
            queue.join_thread()
    return tally


@contextlib.contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """What is started now does not hear of Ctrl-C: we end it, and it has nothing to say."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _alone(chunks: Iterable[Values], backtest: Backtest, done: Callable[[int], None]) -> Tally:
    handed = 0
    for chunk in chunks:
        _judge(backtest, chunk, count_bad=True)
        handed += len(chunk)
        done(handed)
    return backtest.tally


def _judge(backtest: Backtest, chunk: Values, *, count_bad: bool) -> None:
    for value in chunk:
        try:
            label = decode_label(value)
        except msgspec.DecodeError:
            backtest.tally.bad += count_bad
            continue
        backtest.take(label)


def _hand_out(chunk: Values | None, queues: Sequence[Any], workers: Sequence[Any]) -> None:
    for queue, worker in zip(queues, workers, strict=True):
        while True:
            try:
                queue.put(chunk, timeout=_LOOK_S)
                break
            except Full:
                _alive(worker)


def _alive(worker: Any) -> None:
    if not worker.is_alive() and worker.exitcode:
        raise TidegateError(
            f"a process of the backtest ended with code {worker.exitcode}",
            hint="was it killed for its memory? `--processes 1` takes the least",
        )


def _collected(answers: Any, workers: Sequence[Any]) -> Tally:
    tally = Tally()
    for _ in workers:
        while True:
            try:
                answer = answers.get(timeout=_LOOK_S)
                break
            except Empty:
                for worker in workers:
                    _alive(worker)
        tally.add(msgspec.json.decode(answer, type=Tally))
    return tally


@dataclass(frozen=True, slots=True)
class _Work:
    """What a process is told."""

    new: str
    old: str
    judged: dict[str, Action]
    part: int
    parts: int


def _part(queue: Any, answers: Any, work: _Work) -> None:
    """In a process of its own."""
    backtest = Backtest(
        load_policy(Path(work.new)),
        load_policy(Path(work.old)),
        work.judged,
        part=work.part,
        parts=work.parts,
    )
    while (chunk := queue.get()) is not None:
        _judge(backtest, chunk, count_bad=work.part == 0)
    answers.put(msgspec.json.encode(backtest.tally))
