"""The processes and the event loop of a benchmark: those of the product."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from stream.errors import TidegateError
from stream.settings import ENV_PREFIX, Settings

T = TypeVar("T")
_ROOT: Final = Path(__file__).resolve().parents[2]
_STOP_S: Final = 60.0
_LOG_SHOWN: Final = 2000


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment of a process that is to have these settings."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(ENV_PREFIX)}
    for section, values in settings.model_dump(mode="json", exclude_defaults=True).items():
        for name, value in values.items():
            # pydantic masks a secret in its JSON: it is handed on as it is.
            shown = settings.kafka.password if name == "password" else None
            inherited[f"{ENV_PREFIX}{section}__{name}".upper()] = (
                shown.get_secret_value() if shown is not None else str(value)
            )
    return inherited


@contextlib.contextmanager
def running_worker(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """`tidegate worker --role label` with these settings, while the block lasts.

    Raises:
        TidegateError: it did not end as a worker should, or the block failed; with its log's end.
    """
    with TemporaryDirectory(prefix="tidegate-bench-") as folder:
        log = Path(folder) / "worker.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "stream", "worker", "--role", "label"],
                cwd=_ROOT,
                env=environment_of(settings),
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            yield process
        except TidegateError as exc:
            raise TidegateError(f"{exc.message}: {_end_of(log)}", hint=exc.hint) from exc
        finally:
            code = _stop(process)
        if code != 0:
            raise TidegateError(f"the worker ended with code {code}: {_end_of(log)}")


def _stop(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _end_of(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-_LOG_SHOWN:]


def run_on_fast_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it on the kind of event loop that a worker has: uvloop's where there is one."""
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.run(coroutine)
    return asyncio.run(coroutine)
