"""The documents of an archive, as their versions tell of them one by one."""

from uuid import UUID

from apex_mcp import ids
from apex_mcp.archiving.lines import VersionLine


class Histories:
    """Of each document every version names the one before it, and the last alone is its newest.

    An id is kept of every document, and of every version of those whose newest one has not come yet.
    """

    def __init__(self) -> None:
        self._finished: set[UUID] = set()
        self._versions: dict[UUID, dict[UUID, None]] = {}

    def __len__(self) -> int:
        """Number of documents."""
        return len(self._finished) + self.unfinished

    @property
    def unfinished(self) -> int:
        """Number of documents whose newest version has not come."""
        return len(self._versions)

    def fault(self, version: VersionLine) -> str | None:
        """What the version that comes now contradicts those before it in."""
        document = ids.document_id(version.namespace, version.key)
        if document in self._finished:
            return "it comes after the newest version of its document"
        earlier = self._versions.setdefault(document, {})
        if version.previous != next(reversed(earlier), None) or version.id in earlier:
            return "it does not follow the version of its document before it"
        earlier[version.id] = None
        if version.newest:
            self._finished.add(document)
            del self._versions[document]
        return None
