"""Keys of the cache: hashes, ids and revisions, never content."""

import hashlib


def embedding_key(embedder: str, text: str, *, question: bool) -> str:
    """The vector of a text by an embedder; some embed a question otherwise than a passage."""
    return f"vector:{_digest(embedder)}:{'q' if question else 'p'}:{_digest(text)}"


def answer_key(namespace: str, state: str, question: str) -> str:
    """The answer to a question (all its arguments) from one state of a namespace."""
    return f"{answers_of(namespace)}{_digest(state)}:{_digest(question)}"


def answers_of(namespace: str) -> str:
    """What the keys of all answers from a namespace begin with."""
    return f"answer:{_digest(namespace)}:"


def _digest(text: str) -> str:
    # Lone surrogates are text too.
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:40]
