"""Who asks: what a connection may read and which memory it means when it names none."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One connection's rights.

    Attributes:
        roots: folders that files may be read from: the client's own and `APEX_ROOTS`.
        namespace: the memory used when a call names none.
        base: folder that relative paths start from, where the client has one (the first root otherwise).
        vouched: the user typed the paths (command line); the roots do not limit them.
        remote: the client may be on another machine, so what it says of folders means nothing here.
        request_id: the pump's id of one request; the same id asks for the same ingestion, however often it is sent.
    """

    roots: tuple[Path, ...] = ()
    namespace: str = "default"
    base: Path | None = None
    vouched: bool = False
    remote: bool = False
    request_id: str | None = None
