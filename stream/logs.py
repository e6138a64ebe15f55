"""Logs: events with keys, on standard error; for people on a terminal, JSON elsewhere.

Libraries that log through the standard library come out in the same form. Nothing here or below
logs a post's text above debug, and no secret at any level.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, Final

import structlog

from stream.settings import LogSettings

#: Libraries whose info is noise in a service's log: their warnings are kept.
_QUIET = ("aiokafka", "kafka", "asyncio", "uvloop", "aiohttp")
#: What ends a worker is said once, by us, in better words than theirs; the rest they retry.
_SILENT = ("faust", "mode", "aiokafka.producer.sender")

#: A client without its broker says the same many times a second.
_REPEATING: Final = ("aiokafka", "kafka")
_REPEAT_S: Final = 10.0


class _SayOnce(logging.Filter):
    """Lets a client library's message through once in ten seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG or not record.name.startswith(_REPEATING):
            return True
        said = (record.name, record.msg)
        now = time.monotonic()
        if now - self._said.get(said, -_REPEAT_S) < _REPEAT_S:
            return False
        self._said[said] = now
        return True


def set_up_logs(settings: LogSettings) -> None:
    """Route every log record of this process; calling it again replaces the first call."""
    level = getattr(logging, settings.level.upper())
    terminal = sys.stderr.isatty()
    console = settings.format == "console" or (settings.format == "auto" and terminal)
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    last: list[structlog.typing.Processor]
    if console:
        last = [structlog.dev.ConsoleRenderer(colors=terminal)]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *before],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    handler.addFilter(_SayOnce())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    for name in _SILENT:
        logging.getLogger(name).setLevel(level if level == logging.DEBUG else logging.CRITICAL + 1)


def get_logger(name: str) -> Any:
    """A logger of events with keys: `log.info("labelled", posts=512)`."""
    return structlog.stdlib.get_logger(name)
