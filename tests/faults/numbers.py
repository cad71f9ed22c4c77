"""Numbers of documents, each given once."""

import itertools

_numbers = itertools.count(1)


def next_number() -> int:
    return next(_numbers)
