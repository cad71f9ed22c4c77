"""The engine of the embedded index with its state: one shard, or two while a built one catches up. Lives in `edge_child.py`.

Every method is one command of the daemon's, and short: what is long comes in slices, so that searches come in between.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from filelock import FileLock

from apex_mcp.models import Candidate, ForeignPoint, Holding, IndexFilter, IndexPoint, PointId, Retirement
from apex_mcp.stores.vectors.edge_errors import DAMAGED, unavailable
from apex_mcp.stores.vectors.edge_files import State, file_damage, read_files, read_state
from apex_mcp.stores.vectors.edge_shard import Shard, point

# Slices, each a few to twenty milliseconds of the engine's work.
_RETIRE_SLICE = 50
_DELETE_SLICE = 200
_SCROLL_SLICE = 1_000
_CATCH_UP_SLICE = 100
# The engine is flushed between slices, so that no flush has too much to write.
_FLUSH_AFTER = 10_000
# A build is worth its minutes when so many points, and so large a part of all, changed since the last.
_BUILD_AFTER = 20_000
_BUILD_PART = 0.2
# The process of a daemon that was killed may still be at its last command.
_LOCK_SECONDS = 30


class Engine:
    """The shard in a folder. Nothing but `open` works before it was opened."""

    _shard: Shard
    _state: State

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / "index.lock")
        self._dirty = 0
        self._changed = 0
        self._removed = 0
        # While a copy is being built: ids written since it was taken, what it will have settled, and itself once loaded.
        self._touched: set[PointId] | None = None
        self._settled = 0
        self._built: Shard | None = None
        self._old: Shard | None = None

    def open(self, wanted: State) -> tuple[State, str | None]:
        """Open what is there, or start as `wanted`; what was wrong with it, if it was damaged."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock.acquire(timeout=_LOCK_SECONDS)
        state, damage = read_state(self._folder)
        shard: Shard | None = None
        if state is not None and _fits(state, wanted):
            shard, damage = _load(self._folder, state)
        if state is None or shard is None:
            shard = Shard.create(self._folder / wanted.shard, wanted.dimension)
            state = replace(wanted, files=read_files(self._folder / wanted.shard))
            state.write(self._folder)
        for leftover in self._folder.glob("shard-*"):
            if leftover.name != state.shard:
                shutil.rmtree(leftover, ignore_errors=True)
        self._state, self._shard, self._changed = state, shard, state.changed
        return state, damage

    def ping(self) -> None:
        """Nothing but an answer."""

    def add_dense(self, embedder: str, dimension: int) -> State:
        """Make room for dense vectors in an index of words."""
        self._flush_shard()
        self._shard.add_dense(dimension)
        return self._note_flushed(replace(self._state, embedder=embedder, dimension=dimension))

    def upsert(self, points: Sequence[IndexPoint]) -> None:
        """Add or replace a slice of points."""
        ready = [point(one) for one in points]
        self._count([one.id for one in points])
        self._shard.upsert(ready)
        self._flush_if_much()

    def retire(self, retirement: Retirement, start: PointId | None) -> PointId | None:
        """Mark a slice of a version's points as past; where the next slice starts."""
        ids, following = self._shard.page([retirement.version_id], limit=_RETIRE_SLICE, start=start)
        if ids:
            self._count(ids)
            self._shard.retire(ids, retirement)
            self._flush_if_much()
        return following

    def delete(self, version_ids: Sequence[UUID]) -> bool:
        """Remove a slice of the versions' points; whether there were any."""
        ids, _ = self._shard.page(version_ids, limit=_DELETE_SLICE)
        if ids:
            self._count(ids)
            self._remove(ids)
            self._flush_if_much()
        return bool(ids)

    def delete_points(self, point_ids: Sequence[PointId]) -> None:
        """Remove a slice of points, whatever they are."""
        self._count(point_ids)
        self._remove(point_ids)
        self._flush_if_much()

    def search_words(
        self, query: str, where: IndexFilter, limit: int, offset: int
    ) -> list[tuple[bytes, float]]:
        """Candidates by BM25."""
        return _plain(self._shard.search_words(query, where, limit=limit, offset=offset))

    def search_dense(
        self, vector: Sequence[float], where: IndexFilter, limit: int, offset: int
    ) -> list[tuple[bytes, float]]:
        """Candidates by cosine."""
        return _plain(self._shard.search_dense(vector, where, limit=limit, offset=offset))

    def count(self, namespace: str | None, version_id: UUID | None) -> int:
        """Number of points, retired ones included."""
        return self._shard.count(namespace, version_id)

    def inventory_page(
        self, version_ids: Sequence[UUID] | None, start: PointId | None
    ) -> tuple[Mapping[Holding | ForeignPoint, int], PointId | None]:
        """How a slice of the points is held, and where the next one starts."""
        dense = self._state.dimension is not None
        return self._shard.inventory_page(version_ids, dense=dense, limit=_SCROLL_SLICE, start=start)

    def flush(self, position: str | None, filled: str | None = None) -> State:
        """Make everything durable, then note `position`, or how far the index is filled."""
        if not self._dirty and filled is None and position in (None, self._state.position):
            return self._state
        self._flush_shard()
        self._dirty = 0
        return self._note_flushed(
            replace(
                self._state,
                changed=self._changed,
                position=self._state.position if position is None else position,
                filled=self._state.filled if filled is None else filled,
            )
        )

    def damage(self) -> str | None:
        """What is wrong with the files; None where nothing is."""
        return file_damage(self._folder, self._state)

    def needs_build(self) -> bool:
        """Whether searches would gain enough from a build."""
        return self._changed > max(_BUILD_AFTER, _BUILD_PART * self._shard.size())

    def begin_build(self) -> State:
        """Flush, for a copy to be taken, and keep in mind what is written from now on."""
        state = self.flush(None)
        self._settled, self._touched = self._changed, set()
        return state

    def load_built(self, name: str) -> None:
        """Open the built copy beside the shard in use."""
        if self._touched is None:
            raise unavailable("restarted")  # what was written meanwhile is not known
        self._built = Shard.load(self._folder / name)

    def catch_up(self) -> int:
        """Bring a slice of what was written meanwhile to the built copy; how much is left."""
        assert self._built is not None
        assert self._touched is not None
        touched = self._touched
        self._built.take(self._shard, [touched.pop() for _ in range(min(len(touched), _CATCH_UP_SLICE))])
        return len(touched)

    def swap(self, name: str) -> State:
        """Go on with the built shard, on disk and here. All or nothing, so in one go."""
        assert self._built is not None
        assert not self._touched
        built = self._built
        built.flush()
        changed = self._changed - self._settled
        state = self._note_flushed(replace(self._state, shard=name, changed=changed), of=built)
        self._old, self._shard, self._built, self._touched = self._shard, built, None, None
        self._changed, self._dirty, self._removed = changed, 0, 0
        return state

    def end_build(self, *, failed: bool) -> None:
        """Let go of the shard that is not in use. A build that failed is not due again at once: it would fail again."""
        if self._touched is not None and failed:
            self._changed -= self._settled
        self._touched = None
        for shard in (self._built, self._old):
            if shard is not None:
                shard.close()
        self._built = self._old = None

    def close(self) -> State:
        """Flush and release the files."""
        try:
            # What is damaged is seen when it is opened next.
            return self.flush(None) if self._dirty and not self.damage() else self._state
        finally:
            self._shard.close()
            self._lock.release()

    def _count(self, ids: Sequence[PointId]) -> None:
        if self._touched is not None:
            self._touched.update(ids)
        self._changed += len(ids)
        self._dirty += len(ids)

    def _remove(self, ids: Sequence[PointId]) -> None:
        self._removed += len(ids)
        self._shard.delete(ids)

    def _flush_if_much(self) -> None:
        if self._dirty >= _FLUSH_AFTER:
            self._flush_shard()
            self._dirty = 1  # the state is yet to be written

    def _flush_shard(self) -> None:
        if self.damage():
            raise unavailable(DAMAGED)  # before it is noted as what there should be
        if self._removed:
            # Of a flush that is cut short the removals may be what is left.
            points = max(0, self._state.points - self._removed)
            self._note(replace(self._state, points=points, words=False))
            self._removed = 0
        self._shard.flush()

    def _note_flushed(self, state: State, of: Shard | None = None) -> State:
        shard = of or self._shard
        files = read_files(self._folder / state.shard)
        return self._note(replace(state, points=shard.size(), words=shard.has_words(), files=files))

    def _note(self, state: State) -> State:
        state.write(self._folder)
        self._state = state
        return state


def _fits(state: State, wanted: State) -> bool:
    same_vectors = state.embedder == wanted.embedder and wanted.dimension in (None, state.dimension)
    return state.record_id == wanted.record_id and (
        state.dimension is None or wanted.embedder is None or same_vectors
    )


def _load(folder: Path, state: State) -> tuple[Shard | None, str | None]:
    if damage := file_damage(folder, state):
        return None, damage
    try:
        shard = Shard.load(folder / state.shard)
        damage = "too few points" if shard.size() < state.points else shard.broken_index(words=state.words)
        if damage:
            shard.close()
            return None, damage
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001  (the engine's panics are no Exceptions)
        return None, type(error).__name__
    return shard, None


def _plain(candidates: Sequence[Candidate]) -> list[tuple[bytes, float]]:
    # A tenth of what pickling candidates takes.
    return [(one.chunk_id.bytes, one.score) for one in candidates]
