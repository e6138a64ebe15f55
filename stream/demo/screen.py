"""What the demo shows while it runs, on standard error: messages, and one line that changes.

Without a terminal the line is printed now and then instead, and never moves the cursor.
"""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from stream.demo.account import Account, percentiles_ms

_PLAIN_EVERY_S = 10.0
_RATE_OVER_S = 5.0


class Screen:
    """Use as a context manager; `say` prints above the line, `show` changes it."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._rates: deque[tuple[float, int]] = deque()
        self._plain_at_s = time.monotonic() + _PLAIN_EVERY_S

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def is_terminal(self) -> bool:
        """Whether a person is looking."""
        return self._console.is_terminal

    def say(self, message: str, detail: str = "", *, style: str = "green") -> None:
        """One line: a short fact, and what belongs to it."""
        text = Text(f"{message:<10}", style=f"bold {style}")
        text.append(f" {detail}", style="not bold default")
        self._console.print(text)

    def quote(self, lines: list[str]) -> None:
        """The end of a child's log."""
        for line in lines:
            self._console.print(Text(f"    {line}", style="dim"))

    def show(self, account: Account, recent_s: deque[float]) -> None:
        """The state in one line."""
        now_s = time.monotonic()
        self._rates.append((now_s, account.answered))
        while now_s - self._rates[0][0] > _RATE_OVER_S:
            self._rates.popleft()
        since_s, before = self._rates[0]
        rate = (account.answered - before) / (now_s - since_s) if now_s > since_s else 0.0
        parts = [
            f"{account.posted:,} posts in",
            f"{account.labelled:,} labelled",
            f"{rate:,.1f}/s",
            f"{account.dead_lettered:,} dead letters",
        ]
        if (latency := percentiles_ms(list(recent_s))) is not None:
            parts.append(f"latency p50 {latency['p50']:,.0f} ms, p95 {latency['p95']:,.0f} ms")
        line = "  ·  ".join(parts)
        if self._live is not None:
            self._live.update(Text(line, style="cyan", no_wrap=True, overflow="ellipsis"))
            self._live.refresh()
        elif now_s >= self._plain_at_s:
            self._plain_at_s = now_s + _PLAIN_EVERY_S
            self._console.print(line)
