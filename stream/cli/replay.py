"""`tidegate replay`: a file's posts to the topic `posts`, every line accounted for."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
import typer

from stream.cli.options import (
    FileArgument,
    FormatOption,
    JsonOption,
    KafkaOption,
    TextOption,
    chosen_format,
)
from stream.errors import ConfigError, SourceError
from stream.settings import KafkaSettings, load_settings
from stream.sources.chunks import STDIN, check_readable
from stream.sources.files import FileSource

app = typer.Typer()


class ReplayAccount(msgspec.Struct, kw_only=True):
    """What became of the lines: `lines` = `posts` + `bad`, blank ones apart.

    Of the bad ones, `dead_lettered` went to `dead-letters` at once; the others went to `posts` as
    they were, and the worker writes their dead letters.
    """

    lines: int = 0
    posts: int = 0
    bad: int = 0
    blank: int = 0
    dead_lettered: int = 0
    rounds: int = 0
    seconds: float = 0.0
    interrupted: bool = False


@app.command("replay")
def replay(
    file: FileArgument,
    *,
    kafka: KafkaOption = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Posts a second; default: as fast as it goes.", show_default=False
        ),
    ] = None,
    loop: Annotated[
        bool,
        typer.Option(
            "--loop", help="Again and again; ids of the second round end in #2, and so on."
        ),
    ] = False,
    topic_create: Annotated[bool, typer.Option(help="Create the topics that are missing.")] = True,
    text: TextOption = False,
    form: FormatOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a file's posts to Kafka.

    A line that cannot be a post is sent too: it comes out as a dead letter with the reason.
    Ctrl-C ends it when what is on the way has arrived.
    """
    from stream.kafka.closing import silence_clients

    silence_clients()
    settings = load_settings({"kafka.bootstrap": kafka})
    source = FileSource(file, chosen_format(form, text=text))
    if loop and file == STDIN:
        raise ConfigError("standard input cannot be read in a loop", hint="name a file")
    # Before the broker: of two mistakes this is the one that stands on the command line.
    check_readable(file)
    if topic_create:
        from stream.kafka.admin import open_admin

        with open_admin(settings.kafka) as admin:
            admin.create_missing()
    account = ReplayAccount()
    try:
        asyncio.run(_replay(settings.kafka, source, account, rate=rate, loop=loop))
    except SourceError:
        if account.lines:  # half a file was sent: what became of it comes before what is wrong
            _print(account, as_json)
        raise
    _print(account, as_json)
    if account.interrupted and not loop:
        raise typer.Exit(130)


async def _replay(
    kafka: KafkaSettings,
    source: FileSource,
    account: ReplayAccount,
    *,
    rate: float | None,
    loop: bool,
) -> None:
    from stream.cli.progress import progress_of
    from stream.sources.ahead import read_ahead
    from stream.sources.feeder import Feeder
    from stream.sources.pace import Pace

    started_s = time.monotonic()
    async with Feeder(kafka) as feeder:

        async def send_all(done: Callable[[int], None]) -> None:
            pace = Pace(rate)
            while True:
                account.rounds += 1
                async for batch in read_ahead(source.batches()):
                    async for piece in pace.slices(batch):
                        await feeder.send(piece, account.rounds)
                        done(feeder.counts.posts + feeder.counts.bad)
                if not loop or source.lines == 0:
                    return

        try:
            with progress_of(source, "sending") as done:
                account.interrupted = await _until_signal(send_all(done))
        finally:
            await feeder.flush()
            account.posts, account.bad = feeder.counts.posts, feeder.counts.bad
            account.lines = account.posts + account.bad
            account.blank = source.blank
            account.dead_lettered = feeder.counts.dead_lettered
            account.seconds = round(time.monotonic() - started_s, 3)


async def _until_signal(work: Awaitable[None]) -> bool:
    """Run the work; whether Ctrl-C or SIGTERM ended it early."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    interrupted = False

    def stop() -> None:
        nonlocal interrupted
        interrupted = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not interrupted:
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return interrupted


def _print(account: ReplayAccount, as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(account) + b"\n")
        sys.stdout.flush()
        return
    rate = account.lines / account.seconds if account.seconds else 0.0
    words = [f"{account.posts:,} posts sent in {account.seconds:,.1f} s ({rate:,.0f} lines/s)"]
    if account.bad:
        words.append(f"{account.bad:,} bad lines on their way to the dead letters")
    if account.blank:
        words.append(f"{account.blank:,} blank lines skipped")
    typer.echo("; ".join(words), err=True)
