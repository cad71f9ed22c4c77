"""What a cache offers. Losing it, or any part of it at any time, costs speed only."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Cache(Protocol):
    """Bytes under keys, for a while.

    - No call raises: a cache that does not answer has nothing, and keeps nothing.
    - Keys are made by `keys.py` and hold no content: hashes, ids and revisions.
    """

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values, in the order of the keys; None for what is not there."""
        ...

    async def set_many(self, values: dict[str, bytes], *, ttl_seconds: float) -> None:
        """Keep values; what is there is replaced."""
        ...

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Keep these no longer; what is not there is no error. What cannot be reached now goes when its time is over."""
        ...

    async def delete_beginning(self, start: str) -> None:
        """Keep nothing any longer whose key begins so; looks at every key, so for rare occasions."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Lock(Protocol):
    """Keeps several processes from doing the same costly thing at once. Never what correctness rests on."""

    def hold(self, name: str, *, seconds: float) -> AbstractAsyncContextManager[bool]:
        """Try to hold a name, for `seconds` at most; True if it is held now, or the lock cannot be asked."""
        ...


class RateLimit(Protocol):
    """Spreads calls over time, over all processes that share it."""

    async def wait_turn(self, name: str, *, per_minute: int) -> None:
        """Return when a call may go out; at once where `per_minute` is 0."""
        ...
