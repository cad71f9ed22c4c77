"""Names in a question: runs of its words that may be an entity's name, to be looked up in the record."""

import re

_WORD = re.compile(r"[^\W_][\w.&'-]*", re.UNICODE)
_MAX_WORDS = 24
_LONGEST_NAME = 4


def possible_names(query: str) -> list[str]:
    """Every run of one to four words of the question, the first 24 words counting; single words of two letters or more."""
    words = [match.group().rstrip(".'") for match in _WORD.finditer(query)][:_MAX_WORDS]
    runs = (
        words[start : start + length]
        for length in range(1, _LONGEST_NAME + 1)
        for start in range(len(words) - length + 1)
    )
    return list(dict.fromkeys(" ".join(run) for run in runs if len(run) > 1 or len(run[0]) > 1))
