"""The workers of a trial: processes that are started, killed with -9, stopped and revived."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from stream.settings import ENV_PREFIX, KafkaSettings
from tests.apache_kafka import ROOT
from tests.conftest import clean_environment, kafka_environment


class Crew:
    """Worker processes of one group; every other one scores in a process beside it.

    Args:
        kafka: their broker, prefix and group.
        folder: where their logs go.
        delay_s: how long each batch takes in the session.
        worker: settings of section `worker`.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        folder: Path,
        *,
        delay_s: float = 0.01,
        worker: dict[str, object] | None = None,
    ) -> None:
        values: dict[str, object] = {"batch_posts": 128, "commit_interval_s": 0.3, **(worker or {})}
        self._env = clean_environment(kafka_environment(kafka)) | {
            f"{ENV_PREFIX}WORKER__{name.upper()}": str(value) for name, value in values.items()
        }
        self._folder = folder
        self._delay_s = delay_s
        self._number = 0
        self._numbers: dict[int, int] = {}
        self.members: list[subprocess.Popen[bytes]] = []
        #: Exit codes of workers that ended by themselves.
        self.exits: list[int] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for member in self.members:
            member.kill()
            member.wait()

    @property
    def logs(self) -> str:
        """What the workers wrote, the last of each."""
        return "\n".join(
            f"-- {path.name}\n{path.read_text()[-4000:]}"
            for path in sorted(self._folder.glob("worker-*.log"))
        )

    async def at_work(self, timeout_s: float = 60.0) -> None:
        """Wait until one of the workers has been given partitions."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.revive()
            if any(b'"reading"' in self._log(member).read_bytes() for member in self.members):
                return
            assert time.monotonic() < deadline, f"no worker got partitions\n{self.logs}"
            await asyncio.sleep(0.05)

    async def joined(self, member: subprocess.Popen[bytes], timeout_s: float = 60.0) -> None:
        """Wait until this worker is in the group; before, it may not yet know what SIGTERM is."""
        deadline = time.monotonic() + timeout_s
        while member.poll() is None and b'"reading"' not in self._log(member).read_bytes():
            assert time.monotonic() < deadline, f"a worker does not join\n{self.logs}"
            await asyncio.sleep(0.05)

    async def sharing(self, workers: int, timeout_s: float = 60.0) -> None:
        """Wait until so many workers hold partitions at the same time."""
        deadline = time.monotonic() + timeout_s
        while True:
            holding = 0
            for member in self.members:
                lines = [
                    x for x in self._log(member).read_bytes().splitlines() if b'"reading"' in x
                ]
                holding += bool(lines and b"[]" not in lines[-1].split(b'"event"')[0])
            if holding >= workers:
                return
            assert time.monotonic() < deadline, f"the partitions are not shared\n{self.logs}"
            await asyncio.sleep(0.05)

    def _log(self, member: subprocess.Popen[bytes]) -> Path:
        return self._folder / f"worker-{self._numbers[member.pid]:03d}.log"

    def start(self) -> subprocess.Popen[bytes]:
        """One more worker."""
        self._number += 1
        with (self._folder / f"worker-{self._number:03d}.log").open("wb") as log:
            member = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.worker_process", str(self._delay_s)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env
                | {f"{ENV_PREFIX}WORKER__SCORING": "process" if self._number % 2 else "threads"},
                cwd=ROOT,
            )
        self._numbers[member.pid] = self._number
        self.members.append(member)
        return member

    def kill(self, member: subprocess.Popen[bytes]) -> None:
        """Kill -9."""
        self.members.remove(member)
        os.kill(member.pid, signal.SIGKILL)
        member.wait()

    async def kill_scoring(self, member: subprocess.Popen[bytes]) -> bool:
        """Kill -9 of the process that scores for it, which ends it; False: it has none now."""
        try:
            beside = psutil.Process(member.pid).children()
            for process in beside:
                process.kill()
        except psutil.NoSuchProcess:
            return False
        if not beside:
            return False
        code = await self.ended(member)
        assert code == 1, f"a worker without its scoring process ended with {code}\n{self.logs}"
        return True

    async def stop(self, member: subprocess.Popen[bytes]) -> int:
        """SIGTERM; the exit code."""
        self.members.remove(member)
        member.terminate()
        return await asyncio.to_thread(member.wait, 60)

    async def ended(self, member: subprocess.Popen[bytes], timeout_s: float = 45.0) -> int:
        """The exit code of a worker that ends by itself."""
        try:
            code = await asyncio.to_thread(member.wait, timeout_s)
        except subprocess.TimeoutExpired as exc:
            raise AssertionError(f"it does not end\n{self.logs}") from exc
        self.members.remove(member)
        return code

    def revive(self, wanted: int = 1) -> None:
        """Take note of workers that ended by themselves and have `wanted` of them again."""
        for member in [m for m in self.members if m.poll() is not None]:
            self.exits.append(member.returncode)
            self.members.remove(member)
        while len(self.members) < wanted:
            self.start()
