"""Names that are looked up in a list."""

from collections.abc import Iterator

from apex_mcp.ingestion.extraction import lexicon
from apex_mcp.ingestion.extraction.mentions import Kind, Mention
from apex_mcp.ingestion.extraction.words import Words


def find_listed(words: Words, list_name: str, kind: Kind) -> Iterator[Mention]:
    """Names of a list that stand alone: not as a part of a longer capitalised name.

    A capitalised function word before it ("In Paris") is no part of a name.
    """
    listed = lexicon.by_first_word(list_name)
    for i, word in enumerate(words.word):
        if word not in listed:
            continue
        for parts in listed[word]:
            last = _match(words, i, parts)
            if last is not None:
                if stands_alone(words, i, last):
                    surface = words.surface(i, last)
                    yield Mention(
                        start=words.start[i],
                        end=words.end[last],
                        kind=kind,
                        name=" ".join(parts),
                        surface=surface,
                    )
                break


def stands_alone(words: Words, first: int, last: int) -> bool:
    """Whether no other capitalised word (but a function word) touches the span from `first` to `last`."""
    stop = lexicon.lowered("function_words")
    start, end, text = words.start[first], words.end[last], words.text
    if (start and text[start - 1] in "-/@_.\\#") or text[end : end + 1] in ("/", "\\", "_", "@"):
        return False
    if text[end : end + 1].isdigit():
        return False
    if text[end : end + 1] == "-" and text[end + 1 : end + 2].isalpha():
        return False
    if words.joined_before(first) and words.low[first - 1] not in stop:
        return False
    return not (words.joined_after(last) and words.low[last + 1] not in stop)


def _match(words: Words, i: int, parts: tuple[str, ...]) -> int | None:
    """The last word of the entry `parts` that begins at word `i`; lower-case parts stand in the gaps."""
    text, position = words.text, words.start[i]
    for number, part in enumerate(parts):
        if number:
            if text[position : position + 1] not in (" ", "\n", "\xa0"):
                return None
            position += 1
        if not text.startswith(part, position):
            return None
        position += len(part)
    while i < len(words) and words.end[i] < position:
        i += 1
    return i if i < len(words) and words.end[i] == position else None
