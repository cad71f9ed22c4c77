"""Notes that state what a test says, committed to a real record."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from apex_mcp import ids
from apex_mcp.models import ExtractedEntity, ExtractedFact, Extraction
from apex_mcp.stores.record import Record
from tests.record.notes import claim, note, version


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def entity(name: str, type_: str = "Thing", *aliases: str) -> ExtractedEntity:
    return ExtractedEntity(name=name, type=type_, aliases=aliases, chunks=(0,))


def fact(
    subject: str, predicate: str, object_: str, *, since: str | None = None, until: str | None = None
) -> ExtractedFact:
    return ExtractedFact(
        subject=subject,
        predicate=predicate,
        object=object_,
        sentence=f"{subject} {predicate.replace('_', ' ')} {object_}.",
        chunk=0,
        valid_at=day(since) if since else None,
        invalid_at=day(until) if until else None,
    )


async def tell(
    record: Record,
    key: str,
    *said: ExtractedEntity | ExtractedFact,
    namespace: str = "default",
    dated: str | None = None,
) -> UUID:
    """Commit a version of the note `key` that names and states this; subjects and objects that no entity names are
    named as well, unless they begin with a digit: those are values. The version's id."""
    entities = [one for one in said if isinstance(one, ExtractedEntity)]
    facts = [one for one in said if isinstance(one, ExtractedFact)]
    known = {ids.normalise_name(one.name) for one in entities}
    for name in [name for one in facts for name in (one.subject, one.object)]:
        if not name[0].isdigit() and ids.normalise_name(name) not in known:
            known.add(ids.normalise_name(name))
            entities.append(entity(name))
    text = f"{key}: {' '.join(one.sentence for one in facts)} {', '.join(f'{one.name} ({one.type})' for one in entities)} {dated}"
    (ingestion,) = await record.ingestions.accept([note(key, text, namespace)])
    token, claimed = await claim(record)
    assert claimed == [ingestion]
    (owned,) = await record.ingestions.get([ingestion])
    new = replace(
        version(owned, token, text),
        extraction=Extraction(entities=tuple(entities), facts=tuple(facts)),
        document_time=day(dated) if dated else None,
    )
    result = await record.versions.commit([new], token)
    assert [str(state) for state in result.states.values()] == ["ready"]
    return new.id


async def forget(record: Record, versions: Sequence[UUID]) -> None:
    """Remove versions with all that hangs on them."""
    await record.purges.delete_rows(versions)


def id_of(name: str, namespace: str = "default") -> UUID:
    return ids.entity_id(namespace, name)
