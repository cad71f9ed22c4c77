"""Numbers as people read them."""


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun: `1 entity`, `2 entities`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def byte_size(count: int) -> str:
    """A number of bytes in the unit that says something: `512 bytes`, `3.4 kB`, `12.0 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return counted(count, "byte")
