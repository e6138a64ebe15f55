"""A Faust table whose changelog is read in batches and whose state somebody else keeps.

Faust assigns the changelog's partitions beside those of the inputs, and recovers them before the
first event; what is read goes to the `Keeper`. The invariant: after every rebalance the keeper
forgets everything and gets the whole changelog again, because another worker may have written to
it meanwhile. Writing is the owner's: Faust's own way neither waits for the broker nor batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from faust.tables.table import Table
from faust.types import TP

from stream.kafka.ledger import Span

if TYPE_CHECKING:
    from stream.app import TidegateApp
    from stream.topics import Topic


class Keeper(Protocol):
    """Who keeps a table's state. All calls come on the event loop."""

    def forget(self) -> None:
        """A rebalance: nothing of what is kept counts any more."""

    def restore(self, partition: int, key: bytes, value: bytes | None) -> None:
        """One record of the changelog, in the order of each partition."""

    def recovered(self, partitions: frozenset[int]) -> None:
        """These partitions are ours, and their changelog has been read to its end."""


class KeptTable(Table[bytes, bytes]):
    """The table; make it with `add_table`."""

    keeper: Keeper
    _failure: asyncio.Task[None] | None = None

    def persisted_offset(self, tp: TP) -> int | None:  # noqa: ARG002 - Faust's
        """Nothing is kept over a rebalance: begin at the beginning."""
        return -1

    async def on_rebalance(
        self,
        assigned: set[TP],  # noqa: ARG002 - Faust's
        revoked: set[TP],  # noqa: ARG002
        newly_assigned: set[TP],  # noqa: ARG002
        generation_id: int = 0,  # noqa: ARG002
    ) -> None:
        """Before recovery."""
        self.keeper.forget()

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Hand records of the changelog to the keeper."""
        try:
            for event in batch:
                spans: list[Span] = event.value
                for span in spans:
                    for record in span.records:
                        self.keeper.restore(
                            span.partition.partition, record.key or b"", record.value
                        )
        except Exception as exc:  # noqa: BLE001 - Faust would log it, and wait for ever
            self._failure = asyncio.ensure_future(self.app.crash(exc))

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:  # noqa: ARG002
        """After recovery, before the first event."""
        try:
            self.keeper.recovered(frozenset(tp.partition for tp in active_tps))
        except Exception as exc:  # noqa: BLE001 - as above
            await self.app.crash(exc)


def add_table(app: TidegateApp, changelog: Topic, keeper: Keeper) -> KeptTable:
    """A table of this app; `changelog` must be among its role's `changelogs`."""
    topic = app.topic(
        app.full_name(changelog),
        key_serializer="raw",
        value_serializer="raw",
        partitions=app.settings.kafka.partitions,
        compacting=True,
        internal=True,
        allow_empty=True,
    )
    table = KeptTable(
        app,
        name=changelog.name,
        key_type=bytes,
        value_type=bytes,
        partitions=app.settings.kafka.partitions,
        changelog_topic=topic,
        # With 1 Faust goes on reading the changelog when it is recovered.
        recovery_buffer_size=2,
    )
    table.keeper = keeper
    app.tables.add(table)
    return table
