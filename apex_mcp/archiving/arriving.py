"""What stands in an archive as the record takes it: under the ids that it gets here."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from apex_mcp import ids
from apex_mcp.archiving.lines import EndLine, EntityLine, FactLine, LinkLine, SplitLine, VersionLine
from apex_mcp.archiving.reading import Bundle
from apex_mcp.models import (
    Chunk,
    Extraction,
    HeadingSpan,
    PageSpan,
    ParsedDocument,
    Place,
)
from apex_mcp.stores.record.graph_rows import GraphRows
from apex_mcp.stores.record.import_ending import ArchivedEnd, ArchivedSplit
from apex_mcp.stores.record.import_plan import ArchivedVersion
from apex_mcp.stores.record.linking import Told
from apex_mcp.stores.record.versions import NewVersion


class Arrivals:
    """Makes them for one namespace.

    Args:
        namespace: where all goes.
        embedder: whose vectors the archive holds.
        first: number behind which the archive's entities come, in the order of the record's.
    """

    def __init__(self, namespace: str, *, embedder: str | None, first: int) -> None:
        self._namespace = namespace
        self._embedder = embedder
        self._first = first

    def version_id(self, key: str, archived: UUID) -> UUID:
        """The id here of a version of the document `key`."""
        document = ids.document_id(self._namespace, key)
        return ids.version_id(document, ids.imported_ingestion_id(document, archived), archived)

    def entity_id(self, normalised: str) -> UUID:
        """The id here of an entity."""
        return ids.entity_id_of(self._namespace, normalised)

    def version(self, bundle: Bundle) -> ArchivedVersion:
        """A version with all that hangs on it."""
        line = bundle.version
        document = ids.document_id(self._namespace, line.key)
        id_ = self.version_id(line.key, line.id)
        new = NewVersion(
            id=id_,
            ingestion_id=ids.imported_ingestion_id(document, line.id),
            document_id=document,
            namespace=self._namespace,
            content_hash=line.content_hash,
            title=line.title,
            uri=line.uri,
            source_type=line.source_type,
            document_time=line.document_time,
            metadata=line.metadata,
            parsed=_parsed(line),
            chunks=_chunks(bundle),
            extraction=Extraction(),
            embedder=self._embedder if bundle.vectors is not None else None,
            vectors=bundle.vectors if self._embedder is not None else None,
        )
        return ArchivedVersion(
            version=new,
            key=line.key,
            number=line.number,
            document_created_at=line.document_created_at,
            previous=self.version_id(line.key, line.previous) if line.previous is not None else None,
            newest=line.newest,
            newest_hash=line.newest_hash,
            accepted_at=line.accepted_at,
            committed_at=line.committed_at,
            revision=line.revision_from,
            enriched_from=line.enriched_from,
            text_graph=self._graph(new, bundle, layer=0),
            model_graph=self._graph(new, bundle, layer=1),
            answers=self._answers(new, bundle),
            usage=line.usage,
        )

    def told(self, line: LinkLine) -> Told:
        """A link of two entities."""
        version = self.version_id(line.key, line.version)
        return Told(version, self.entity_id(line.a), self.entity_id(line.b), line.reason)

    def end(self, line: EndLine) -> ArchivedEnd:
        """The end of a fact."""
        return ArchivedEnd(
            version_id=self.version_id(line.key, line.version),
            fact_id=self._fact_id(line.subject, line.predicate, line.object, line.valid_at),
            by_fact_id=self._fact_id(line.by_subject, line.by_predicate, line.by_object, line.by_valid_at),
            invalid_at=line.invalid_at,
        )

    def split(self, line: SplitLine) -> ArchivedSplit:
        """Two that are kept apart."""
        return ArchivedSplit(
            a_id=self.entity_id(line.a),
            b_id=self.entity_id(line.b),
            revision_from=line.revision_from,
            revision_to=line.revision_to,
            created_at=line.created_at,
        )

    def _graph(self, version: NewVersion, bundle: Bundle, *, layer: int) -> GraphRows:
        return GraphRows(
            entities=[self._entity(version, line) for line in bundle.entities if line.layer == layer],
            facts=[self._fact(version, line) for line in bundle.facts if line.layer == layer],
        )

    def _entity(self, version: NewVersion, line: EntityLine) -> dict[str, Any]:
        return {
            "id": str(self.entity_id(line.entity)),
            "namespace": self._namespace,
            "version_id": str(version.id),
            "normalised": line.entity,
            "core": line.core,
            "arrival": self._first + line.arrival,
            "name": line.name,
            "type": line.type,
            "aliases": line.aliases,
            "alias_keys": [ids.normalise_name(alias) for alias in line.aliases],
            "chunk_ids": [str(version.chunk_id(ordinal)) for ordinal in line.chunks],
        }

    def _fact(self, version: NewVersion, line: FactLine) -> dict[str, Any]:
        return {
            "id": str(self._fact_id(line.subject, line.predicate, line.object, line.valid_at)),
            "namespace": self._namespace,
            "version_id": str(version.id),
            "subject": line.subject,
            "subject_id": str(self.entity_id(line.subject)),
            "predicate": line.predicate,
            "object_id": str(ids.entity_id(self._namespace, line.object)),
            "object_text": line.object,
            "chunk_id": str(version.chunk_id(line.chunk)),
            "sentence": line.sentence,
            "valid_at": line.valid_at.isoformat() if line.valid_at else None,
            "invalid_at": line.invalid_at.isoformat() if line.invalid_at else None,
        }

    def _fact_id(self, subject: str, predicate: str, object_: str, valid_at: datetime | None) -> UUID:
        return ids.fact_id(
            self._namespace,
            self.entity_id(subject),
            predicate,
            str(ids.entity_id(self._namespace, object_)),
            valid_at.astimezone(UTC).isoformat() if valid_at else "",
        )

    def _answers(self, version: NewVersion, bundle: Bundle) -> list[dict[str, Any]]:
        return [
            {
                "version_id": version.id,
                "key": line.key,
                "namespace": self._namespace,
                "answer": {
                    "content": line.content,
                    # Whose cost it was.
                    "asked_by": str(version.id) if line.asked else "",
                },
                "created_at": line.created_at,
            }
            for line in bundle.answers
        ]


def _parsed(line: VersionLine) -> ParsedDocument:
    return ParsedDocument(
        text=line.text,
        title=line.title,
        media_type=line.media_type,
        pages=tuple(PageSpan(number=number, start=start, end=end) for number, start, end in line.pages),
        headings=tuple(
            HeadingSpan(level=level, title=title, start=start, end=end)
            for level, title, start, end in line.headings
        ),
        warnings=tuple(line.warnings),
    )


def _chunks(bundle: Bundle) -> tuple[Chunk, ...]:
    return tuple(
        Chunk(
            ordinal=line.ordinal,
            text=line.text,
            place=Place(
                start=line.start,
                end=line.end,
                page_from=line.page_from,
                page_to=line.page_to,
                heading_path=tuple(line.heading_path),
            ),
            tokens=line.tokens,
        )
        for line in bundle.chunks
    )
