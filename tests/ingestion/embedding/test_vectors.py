import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex_mcp.stores.vectors.packing import pack, unit, unpack, unpack_many

vectors = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20)


@given(vectors)
def test_a_vector_comes_back_from_its_bytes_unchanged(vector: list[float]) -> None:
    assert unpack(pack(vector)) == vector


def test_bytes_are_little_endian_float32_on_every_machine() -> None:
    assert pack([1.0, -2.5]) == struct.pack("<2f", 1.0, -2.5)


@given(st.lists(st.tuples(*[st.floats(width=32, allow_nan=False)] * 3), max_size=5))
def test_vectors_that_stand_one_after_another_are_told_apart(rows: list[tuple[float, ...]]) -> None:
    assert unpack_many(b"".join(pack(row) for row in rows), 3) == [list(row) for row in rows]


def test_a_unit_vector_has_length_one_and_nothing_stays_nothing() -> None:
    assert math.hypot(*unit([3.0, 4.0])) == pytest.approx(1)
    assert unit([0.0, 0.0]) == [0.0, 0.0]
