"""The windows of one partition of one topic: records in, what is to be written out.

The invariant: a book is a function of the records up to `next_offset`, each counted once, however
often and in whatever batches they are handed to it, and whatever a crash has left on the
changelog. Three things make it so. A record below `next_offset` is skipped. A checkpoint writes
the cells first and, once these are confirmed, a marker with the offset they stand for; only then
may the offset be committed. Cells of a checkpoint whose marker is missing are ahead of it: each
bears its own offset, and skips what it has counted already when records are read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from stream.aggregates.cell import Cell, Delta, Sum, revision_of
from stream.aggregates.facts import (
    READERS,
    STEP_S,
    Contribution,
    Facts,
    Group,
    Of,
    UnreadableRecordError,
)
from stream.aggregates.merge import OTHER, WIDTHS_S, By, WindowKey
from stream.aggregates.posts import Posts
from stream.outcomes import Metric

#: A window that is over for this long is kept as bytes until it is touched again.
_COOL_S: Final = 60


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a book keeps.

    Args:
        correctable_s: a window takes late and corrected posts for this long after its end.
        correctable_posts: how many posts can be corrected, at most: the newest ones.
        groups: most groups of a dimension in one window; what comes later counts in `(other)`.
    """

    correctable_s: int = 1800
    correctable_posts: int = 50_000
    groups: Mapping[By, int] = field(
        default_factory=lambda: {"source": 100, "language": 150, "label": 100, "tag": 500}
    )


class Counters(msgspec.Struct, array_like=True, gc=False):
    """What was not counted as it came, since the partition was first read.

    `late` records had a window that was closed, and did not count in it. `uncorrected` ones took
    back or replaced a post that is not known any more, or never was, or whose window is closed.
    `repeated` ones answered a place of a post that had been answered. `unreadable` ones were no
    record of ours. `folded` counts additions to a group `(other)`.
    """

    late: int = 0
    uncorrected: int = 0
    repeated: int = 0
    unreadable: int = 0
    folded: int = 0


class Marker(msgspec.Struct, array_like=True, gc=False):
    """Part of a stored segment; in the last part of all, what the book stands at."""

    part: int
    parts: int
    posts: bytes
    next_offset: int
    watermark: int
    floor: tuple[int, int]
    counters: Counters


class Change(NamedTuple):
    """A record for the changelog; a value of None deletes the key."""

    key: bytes
    value: bytes | None


class Checkpoint(NamedTuple):
    """What to write: `cells` and `metrics` first, `markers` when these are confirmed."""

    cells: list[Change]
    metrics: list[Metric]
    markers: list[Change]


_encode = msgspec.msgpack.Encoder().encode
_decode_marker = msgspec.msgpack.Decoder(Marker).decode


class Book:
    """What is counted of one partition; used from one thread at a time.

    Args:
        of: which topic.
        partition: which partition of it.
        bounds: how much is kept.
    """

    def __init__(self, of: Of, partition: int, bounds: Bounds | None = None) -> None:
        self.of = of
        self.partition = partition
        self.bounds = bounds or Bounds()
        self.counters = Counters()
        #: Records below this are in the book.
        self.next_offset = 0
        #: The end of the newest step that a post was in: how late it is.
        self.watermark = 0
        self._read = READERS[of]
        self._posts = Posts(self.bounds.correctable_posts, self.bounds.correctable_s + WIDTHS_S[-1])
        self._cells: dict[WindowKey, Cell | bytes] = {}
        #: Keys of cells by window, that is start and width.
        self._windows: dict[tuple[int, int], list[WindowKey]] = {}
        self._members: dict[tuple[int, int, By], int] = {}
        self._cooled: set[tuple[int, int]] = set()
        self._sums: dict[int, dict[Group, Sum]] = {}
        self._touched: dict[WindowKey, Cell] = {}
        self._written_next = 0
        #: Keys that the next checkpoint deletes: never in the one in which they go, whose marker
        #: may be lost.
        self._gone: list[bytes] = []
        #: Up to here some cells are ahead of the marker.
        self._ahead_until = 0
        self._segment_keys: dict[int, list[bytes]] = {}
        self._restored: dict[int, dict[int, Marker]] = {}

    # -- counting

    def add(self, records: Iterable[tuple[int, bytes | None]]) -> int:
        """Count records, given as offset and value, in the order of their offsets.

        Returns how many were new.
        """
        count, read = 0, self._read
        for offset, value in records:
            if offset < self.next_offset:
                continue
            self.next_offset = offset + 1
            count += 1
            try:
                facts = read(value, offset)
            except UnreadableRecordError:
                self.counters.unreadable += 1
                continue
            self._count(facts, offset)
        return count

    def _count(self, facts: Facts, offset: int) -> None:
        post_id, new = facts.post_id, facts.contribution
        old = self._posts.get(post_id)
        if old is None:
            if self._posts.may_have_been_forgotten(new):
                self.counters.late += 1
                return
            if facts.known_before:
                self.counters.uncorrected += 1
        elif new.version <= old.version:
            self.counters.repeated += 1
            return
        self._posts.put(post_id, new)
        self.watermark = max(self.watermark, new.start + STEP_S)
        if old is not None and old[1:] == new[1:]:
            return  # an edit that changes nothing that is counted
        if (
            offset >= self._ahead_until
            and self._is_open(new.start, STEP_S)
            and (old is None or self._is_open(old.start, STEP_S))
        ):
            self._sum(self._sums, facts, old)
        else:
            self._count_apart(facts, old, offset)

    def _sum(
        self, sums: dict[int, dict[Group, Sum]], facts: Facts, old: Contribution | None
    ) -> None:
        """Note a post for the next checkpoint; the hot path."""
        new = facts.contribution
        if new.groups:
            step = sums.get(new.start)
            if step is None:
                step = sums[new.start] = {}
            for group in new.groups + new.tags if new.tags else new.groups:
                total = step.get(group)
                if total is None:
                    total = step[group] = Sum()
                total.added.append(facts)
        if old is not None and old.groups:
            step = sums.setdefault(old.start, {})
            for group in old.groups + old.tags:
                step.setdefault(group, Sum()).back.append((old.mark, old.action))

    def _count_apart(self, facts: Facts, old: Contribution | None, offset: int) -> None:
        """Count one post in each of its cells that is open and has not counted it yet."""
        self._apply_sums()  # in the order of the records
        new = facts.contribution
        if new.groups and not self._is_open(new.start, STEP_S):
            self.counters.late += 1
        if old is not None and old.groups and not self._is_open(old.start, STEP_S):
            self.counters.uncorrected += 1
        sums: dict[int, dict[Group, Sum]] = {}
        self._sum(sums, facts, old)
        self._apply(sums, offset)

    def _is_open(self, start: int, width_s: int) -> bool:
        return start - start % width_s + width_s + self.bounds.correctable_s > self.watermark

    def _apply_sums(self) -> None:
        sums, self._sums = self._sums, {}
        self._apply(sums, None)

    def _apply(self, sums: dict[int, dict[Group, Sum]], offset: int | None) -> None:
        """Add sums to the cells of every width; `offset`: of the one record they are of."""
        for start, step in sums.items():
            for (by, group), total in step.items():
                delta = Delta(total, whole=self.of == "labels" or by == "action")
                for width_s in WIDTHS_S:
                    if offset is not None and not self._is_open(start, width_s):
                        continue
                    cell = self._cell(start - start % width_s, width_s, by, group, len(total.added))
                    if offset is not None and offset < cell.revision:
                        continue
                    cell.add(delta)
                    self._touched[cell.key] = cell

    def _cell(self, start: int, width_s: int, by: By, group: str, added: int) -> Cell:
        key = WindowKey(start, width_s, by, group)
        cell = self._cells.get(key)
        if cell is None:
            members = self._members.get((start, width_s, by), 0)
            if members >= self.bounds.groups.get(by, members + 1):
                self.counters.folded += added
                key = WindowKey(start, width_s, by, OTHER)
                cell = self._cells.get(key)
        if cell is None:
            cell = Cell(key)
            self._enter(key, cell)
        elif isinstance(cell, bytes):
            cell = self._cells[key] = Cell(key, cell)
        return cell

    def _enter(self, key: WindowKey, cell: Cell | bytes) -> None:
        self._cells[key] = cell
        self._windows.setdefault((key.start, key.width_s), []).append(key)
        if key.group != OTHER:
            member = (key.start, key.width_s, key.by)
            self._members[member] = self._members.get(member, 0) + 1

    # -- writing

    @property
    def dirty(self) -> bool:
        """Whether anything was counted, or skipped, since the last checkpoint."""
        return self.next_offset > self._written_next

    def checkpoint(self) -> Checkpoint:
        """What has changed since the last one. It stands at `next_offset`."""
        self._apply_sums()
        gone, self._gone = self._gone, []
        cells = [Change(key, None) for key in gone]
        metrics = []
        for key, cell in self._touched.items():
            stored, state = cell.store(self.next_offset)
            cells.append(Change(self._cell_key(key), stored))
            metrics.append(cell.metric(state, self.of, self.partition))
        self._expire()
        self._cool()
        self._touched = {}
        markers = self._markers()
        self._written_next = self.next_offset
        return Checkpoint(cells, metrics, markers)

    def _expire(self) -> None:
        for start, width_s in list(self._windows):
            if self._is_open(start, width_s):
                continue
            for key in self._windows.pop((start, width_s)):
                del self._cells[key]
                self._members.pop((start, width_s, key.by), None)
                self._gone.append(self._cell_key(key))
            self._cooled.discard((start, width_s))

    def _cool(self) -> None:
        """Keep the cells of windows that are over as bytes: they are many, and seldom touched."""
        for start, width_s in self._windows:
            if start + width_s + _COOL_S > self.watermark or (start, width_s) in self._cooled:
                continue
            self._cooled.add((start, width_s))
            for key in self._windows[start, width_s]:
                cell = self._cells[key]
                if isinstance(cell, Cell):
                    self._cells[key] = cell.store(cell.revision)[0]

    def _markers(self) -> list[Change]:
        number = self._posts.number
        parts = self._posts.close_segment()
        for forgotten in self._posts.trim(self.watermark):
            self._gone.extend(self._segment_keys.pop(forgotten))
        keys = [self._segment_key(number, part) for part in range(len(parts))]
        self._segment_keys[number] = keys
        return [
            Change(
                key,
                _encode(
                    Marker(
                        part,
                        len(parts),
                        posts,
                        self.next_offset,
                        self.watermark,
                        self._posts.floor,
                        self.counters,
                    )
                ),
            )
            for part, (key, posts) in enumerate(zip(keys, parts, strict=True))
        ]

    # -- recovering

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Take in a record of the changelog; end with `restored`.

        Raises:
            ValueError: it is not a record of ours.
        """
        kind, rest = key[:2], key[3:].decode()
        if kind == self._CELL + self.of[:1].encode():
            width_s, start, by, group = rest.split("/", 3)
            cell = WindowKey(int(start), int(width_s), by, group)  # type: ignore[arg-type] # ours
            if value is None:
                self._cells.pop(cell, None)
            else:
                self._cells[cell] = value
        elif kind == self._SEGMENT + self.of[:1].encode():
            number, _, part = rest.partition("/")
            segment = self._restored.setdefault(int(number), {})
            if value is None:
                segment.pop(int(part), None)
            else:
                segment[int(part)] = _decode_marker(value)
        else:
            raise ValueError(f"no key of this book: {key!r}")

    def restored(self) -> None:
        """The changelog has been read: stand where its last marker stands."""
        segments, self._restored = self._restored, {}
        for number in sorted(segments):
            parts = segments[number]
            last = next((m for m in parts.values() if m.part == m.parts - 1), None)
            count = 0 if last is None else last.parts
            # What is left of a checkpoint that was not finished, or of an earlier attempt at it.
            self._gone.extend(self._segment_key(number, part) for part in parts if part >= count)
            if last is None:
                continue
            self._posts.restore_segment(number, [parts[part].posts for part in range(count)])
            self._segment_keys[number] = [self._segment_key(number, p) for p in range(count)]
            self.next_offset, self.watermark = last.next_offset, last.watermark
            self._posts.floor, self.counters = last.floor, last.counters
        self._written_next = self.next_offset
        for forgotten in self._posts.trim(self.watermark):
            self._gone.extend(self._segment_keys.pop(forgotten))
        cells, self._cells = self._cells, {}
        for key, cell in cells.items():
            assert isinstance(cell, bytes)
            if self._is_open(key.start, key.width_s):
                self._enter(key, cell)
                if revision_of(cell) > self.next_offset:
                    self._ahead_until = max(self._ahead_until, revision_of(cell))
                    # Its record on `metrics` may be what the crash came before.
                    self._touched[key] = self._cells[key] = Cell(key, cell)
            else:
                self._gone.append(self._cell_key(key))

    _CELL: Final = b"c"
    _SEGMENT: Final = b"s"

    def _cell_key(self, key: WindowKey) -> bytes:
        """A cell's key on the changelog, whose partition number is the book's."""
        name = f"{self.of[0]}/{key.width_s}/{key.start}/{key.by}/{key.group}"
        return self._CELL + name.encode()

    def _segment_key(self, number: int, part: int) -> bytes:
        return self._SEGMENT + f"{self.of[0]}/{number}/{part}".encode()
