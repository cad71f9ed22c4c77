"""Vectors as bytes, for the record and for pipes: float32, little-endian, one after another."""

import math
import sys
from array import array
from collections.abc import Sequence

_ITEM_BYTES = 4


def pack(vector: Sequence[float]) -> bytes:
    """The vector as bytes, for a `bytea` column."""
    return _little_endian(array("f", vector)).tobytes()


def unpack(data: bytes) -> list[float]:
    """The vector that `pack` made into bytes."""
    values = array("f")
    values.frombytes(data)
    return _little_endian(values).tolist()


def unpack_many(data: bytes, dimension: int) -> list[list[float]]:
    """The vectors of one dimension that stand one after another in `data`."""
    size = dimension * _ITEM_BYTES
    return [unpack(data[start : start + size]) for start in range(0, len(data), size)]


def unit(vector: Sequence[float]) -> list[float]:
    """The vector at length 1; a zero vector stays what it is."""
    length = math.hypot(*vector)
    return [value / length for value in vector] if length else list(vector)


def _little_endian(values: "array[float]") -> "array[float]":
    if sys.byteorder == "big":
        values.byteswap()
    return values
