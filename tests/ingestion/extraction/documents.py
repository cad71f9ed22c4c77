"""Small documents to extract from."""

from apex_mcp.ingestion.extraction.rules import extract
from apex_mcp.models import Chunk, ExtractedFact, Extraction, HeadingSpan, ParsedDocument, Place


def parsed(text: str, *, title: str = "", headings: tuple[HeadingSpan, ...] = ()) -> ParsedDocument:
    return ParsedDocument(text=text, title=title, media_type="text/plain", headings=headings)


def extraction(text: str, *, title: str = "") -> Extraction:
    return extract(parsed(text, title=title), ())


def names(text: str, kind: str) -> list[str]:
    """Names of the entities of one kind, in the order of the text."""
    return [entity.name for entity in extraction(text).entities if entity.type == kind]


def facts(text: str, *, title: str = "") -> list[tuple[str, str, str]]:
    return [(fact.subject, fact.predicate, fact.object) for fact in extraction(text, title=title).facts]


def only_fact(text: str, *, title: str = "") -> ExtractedFact:
    (fact,) = extraction(text, title=title).facts
    return fact


def chunks_of(*texts: str) -> tuple[str, tuple[Chunk, ...]]:
    """A text of these passages, an empty line between them, and its chunks."""
    chunks: list[Chunk] = []
    position = 0
    for ordinal, text in enumerate(texts):
        place = Place(start=position, end=position + len(text))
        chunks.append(Chunk(ordinal=ordinal, text=text, place=place, tokens=len(text.split())))
        position += len(text) + 2
    return "\n\n".join(texts), tuple(chunks)
