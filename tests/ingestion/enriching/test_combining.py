"""What several answers about one document come to."""

from datetime import UTC, datetime

from apex_mcp.ingestion.enriching.combining import combine
from apex_mcp.models import ExtractedEntity, ExtractedFact, Extraction


def fact(
    subject: str, object_: str, chunk: int, sentence: str = "s", valid_at: datetime | None = None
) -> ExtractedFact:
    return ExtractedFact(
        subject=subject,
        predicate="works_at",
        object=object_,
        sentence=sentence,
        chunk=chunk,
        valid_at=valid_at,
    )


def test_a_name_of_two_parts_is_one_entity_of_the_type_that_most_say() -> None:
    combined = combine([
        Extraction(entities=(ExtractedEntity(name="Acme", type="Topic", aliases=("The Firm",), chunks=(0,)),)),
        Extraction(entities=(ExtractedEntity(name="ACME", type="Organization", aliases=("Acme", "A."), chunks=(3, 2)),)),
        Extraction(entities=(ExtractedEntity(name="acme.", type="Organization", chunks=(5,)),)),
    ])  # fmt: skip
    assert combined.entities == (
        ExtractedEntity(name="Acme", type="Organization", aliases=("The Firm", "A."), chunks=(0, 2, 3, 5)),
    )


def test_a_statement_of_two_parts_is_one_fact_unless_its_time_differs() -> None:
    names = (ExtractedEntity(name="Ada", type="Person"), ExtractedEntity(name="Acme", type="Organization"))
    may = datetime(2024, 5, 1, tzinfo=UTC)
    combined = combine([
        Extraction(entities=names, facts=(fact("Ada", "Acme", 0, "first"),)),
        Extraction(entities=names, facts=(fact("ada", "ACME", 1, "again"), fact("Ada", "Acme", 2, valid_at=may))),
    ])  # fmt: skip
    assert [(one.sentence, one.chunk, one.valid_at) for one in combined.facts] == [
        ("first", 0, None), ("s", 2, may),
    ]  # fmt: skip


def test_a_fact_about_nobody_is_left_out() -> None:
    assert combine([Extraction(facts=(fact("Ada", "Acme", 0),))]) == Extraction()
