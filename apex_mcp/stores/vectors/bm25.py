"""How words become BM25 vectors: one tokenizer for every vector index, so that scores agree among them.

English stemming and stop words, accents folded. What that would miss in other scripts is prepared before:
scripts written without spaces, and Korean with its particles, are cut into single characters and pairs (as Lucene's
CJK analyser does), so that any word of them is found inside a sentence; points and marks of Hebrew and Arabic are
dropped, because queries rarely have them. In other languages a word is found by its exact form.
"""

import re
import unicodedata
from itertools import pairwise

from qdrant_edge import Bm25, Bm25Config, SparseVector

# Chunks have 120 to 400 tokens; without stop words that is about this many terms.
_AVERAGE_TERMS = 120
# A query is a question, not a document; each term costs time in every search.
_MAX_QUERY_CHARS = 4_000

_MODEL = Bm25(Bm25Config(language="english", ascii_folding=True, avg_len=_AVERAGE_TERMS))

# Thai, Lao, Myanmar, Khmer; kana, Han and Hangul.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003134f]+"
)
_HEBREW_AND_ARABIC_MARKS = re.compile(
    "[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670]"
)


def embed_passage(text: str) -> SparseVector:
    """Term weights of a stored passage; empty when it has no words."""
    return _MODEL.embed_document(_prepare(text, single_characters=True))


def embed_query(text: str) -> SparseVector:
    """The terms of a query; empty when it has none but stop words."""
    return _MODEL.embed_query(_prepare(text[:_MAX_QUERY_CHARS], single_characters=False))


def _prepare(text: str, *, single_characters: bool) -> str:
    if text.isascii():
        return text
    # Lone surrogates cannot cross into the engine.
    text = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode())
    text = _HEBREW_AND_ARABIC_MARKS.sub("", text)
    return _UNSPACED.sub(lambda run: _pairs(run[0], single_characters=single_characters), text)


def _pairs(run: str, *, single_characters: bool) -> str:
    # Marks (of tone, of vowels) would end a token.
    letters = [letter for letter in run if not unicodedata.category(letter).startswith("M")]
    pairs = [first + second for first, second in pairwise(letters)]
    return f" {' '.join([*letters, *pairs] if single_characters or not pairs else pairs)} "
