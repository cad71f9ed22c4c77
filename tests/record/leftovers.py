"""What every table of a record says, to find what should not be there any more; and what is to stay away."""

from collections.abc import Collection

from apex_mcp import ids
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.tombstones import Kind, all_keys, find


async def everything(record: Record) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    tables = await record.database.fetch_all(
        "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public' "
        "AND table_name NOT IN ('forget_keys', 'alembic_version')"
    )
    return {
        row["name"]: [
            one["said"]
            for one in await record.database.fetch_all(f"SELECT t::text AS said FROM {row['name']} t")
        ]
        for row in tables
    }


async def tables_with(record: Record, words: str) -> list[str]:
    """The tables in which these words stand, in whatever case."""
    return sorted(
        name
        for name, rows in (await everything(record)).items()
        if any(words.casefold() in row.casefold() for row in rows)
    )


async def forgotten_keys(record: Record, namespace: str, keys: Collection[str]) -> set[str]:
    """Those of the documents' keys that no archive brings back."""
    async with record.database.connection() as connection:
        return await find(connection, await all_keys(connection), Kind.DOCUMENT, namespace, keys)


async def forgotten_names(record: Record, namespace: str, names: Collection[str]) -> set[str]:
    """Those of the names, as they are compared, that are not extracted any more."""
    normalised = [ids.normalise_name(name) for name in names]
    async with record.database.connection() as connection:
        return await find(connection, await all_keys(connection), Kind.ENTITY, namespace, normalised)
