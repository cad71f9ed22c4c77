"""Where a record's vector indexes are: folders of one process, or collections of a server that many share."""

from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import UUID

from apex_mcp.stores.vectors.protocol import VectorIndex


class KeptIndex(VectorIndex, Protocol):
    """A vector index with what its keeper needs."""

    @property
    def dimension(self) -> int | None:
        """Of the dense vectors; None while there are words only."""
        ...

    @property
    def made(self) -> str | None:
        """What tells it from another one of its name; None where that cannot be: it is in a folder, or not there."""
        ...

    @property
    def generation(self) -> int:
        """How often what was written since the last flush was lost."""
        ...

    async def ready(self) -> int:
        """See to it that the index works; its generation then.

        Raises:
            Unavailable: it does not.
        """
        ...

    async def damage(self) -> str | None:
        """What is wrong with its files, told without reading them; None where nothing is, or they are a server's.

        Raises:
            Unavailable: it does not work.
        """
        ...

    async def enable_dense(self, embedder: str, dimension: int) -> None:
        """Take this embedder's vectors from now on, in an index that has words only; again changes nothing.

        Raises:
            Invariant: it has vectors of another embedder.
        """
        ...

    async def flush(self, position: str | None = None, *, generation: int = 0) -> None:
        """Make everything durable, then note `position`.

        Raises:
            Unavailable: something was lost since `generation`, so that the position would not be true.
        """
        ...

    def filled(self, start: str) -> UUID | None:
        """The last version that was written of the filling that began at this position, as noted; None where nothing was."""
        ...

    async def note_filled(self, version_id: UUID, *, start: str, generation: int) -> None:
        """Make everything durable, then note how far the filling that began at `start` has come.

        Raises:
            Unavailable: something was lost since `generation`, so that it would not be true.
        """
        ...

    async def maintain(self) -> bool:
        """Build what makes searches quick, if it is worth it; whether it was."""
        ...

    async def abandon(self) -> None:
        """Let go of it as it was flushed last."""
        ...


class IndexHome(Protocol):
    """The indexes of one record, by name."""

    @property
    def shared(self) -> bool:
        """Whether other processes read and write the same indexes: then one at a time does their upkeep."""
        ...

    async def open(
        self,
        name: str,
        *,
        record_id: UUID,
        embedder: str | None,
        dimension: int | None,
        on_lost: Callable[[], None],
        on_empty: Callable[[], Awaitable[None]],
    ) -> KeptIndex:
        """Open an index, or make it. One of another record, or with other vectors, starts again empty.

        Args:
            name: the index's.
            record_id: the record that it is an index of.
            embedder: whose vectors it is given; None for words only, which leaves vectors that are there alone.
            dimension: of these vectors; None while it is not known.
            on_lost: called when the index's `generation` has risen.
            on_empty: called before an index that others may search is made, or made anew; if it fails, none is made.

        Raises:
            Unavailable: it cannot be used.
        """
        ...

    async def remove(self, name: str) -> None:
        """Remove an index in which nobody searches, at once; nothing where it is not there.

        Raises:
            Unavailable: it cannot be removed now.
        """
        ...

    async def remove_others(self, *names: str) -> None:
        """Remove every index but the named ones, some of them at a later call, when no search may be left in them."""
        ...
