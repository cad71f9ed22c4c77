"""What is done so that a fault point is reached, and what must be true afterwards, whatever happened there."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import anyio

from apex_mcp.errors import ApexError
from apex_mcp.models import EntityInput, FactInput
from tests.chaos.documents import Shape, content, marks
from tests.chaos.stores import NEVER
from tests.faults.living import Died, Living
from tests.faults.numbers import next_number
from tests.ingestion.documents import make_docx
from tests.waiting import eventually

Ask = Callable[[], None]

# Nothing happens between these and a point beside them: who dies or sleeps there leaves behind the same.
REPEATED = frozenset({
    "step.prepare_group.after",
    "step.generate_embeddings.after",
    "step.write_to_databases.after",
    "step.stage_document.after",
    "step.parse_document.after",
    "step.extract_entities.after",
    "step.cleanup_staging.after",
    "record.commit.before",
    "record.purge_tombstone.after",
    "index.delete.after",
    "record.purge_rows.after",
})


class Stories:
    """Tells stories to one living process; each has documents of its own."""

    def __init__(self, living: Living) -> None:
        self.living = living
        self.place = living.place
        self._files = Path(self.place.settings["home"]).parent / "files"

    # --- what is done ------------------------------------------------------------------------------------------------

    async def note(self, number: int, ask: Ask) -> None:
        """A text of several passages, in a group."""
        ask()
        await self._add(number, 1)

    async def update(self, number: int, ask: Ask) -> None:
        """A second version under the same key."""
        await self._add(number, 1)
        await self.until_searchable(number, 1)
        ask()
        await self._add(number, 2)

    async def file(self, number: int, ask: Ask) -> None:
        """A Word document, in a workflow of its own with all six steps."""
        ask()
        words = " ".join([marks(number, 1).document, *marks(number, 1).all])
        path = self._files / f"{number}.docx"
        path.write_bytes(make_docx([("", words)]))
        await self._send("ingest_document", source=str(path), key=f"log/{number}")

    async def damaged(self, number: int, ask: Ask) -> None:
        """A file that no retry can cure."""
        ask()
        path = self._files / f"{number}.docx"
        path.write_bytes(b"PK\x03\x04 nothing else came over")
        await self._send("ingest_document", source=str(path), key=f"log/{number}")

    async def cancelled(self, number: int, ask: Ask) -> None:
        """A text that is cancelled when its points are written and nothing is committed."""
        ask()
        self.place.ask("record.commit.before", "stop")
        await self._add(number, 1)
        await self.living.stopped()
        self.place.change(
            "UPDATE ingestions i SET cancel_requested_at = clock_timestamp() FROM documents d "
            "WHERE d.id = i.document_id AND d.key = %s",
            f"log/{number}",
        )
        self.living.wake()

    async def flushed(self, number: int, ask: Ask) -> None:
        """A text, made durable in the index too."""
        await self._add(number, 1)
        await self.until_searchable(number, 1)
        ask()
        with suppress(ApexError):
            await self.living.call("flush")

    async def statement(self, number: int, text: str, ask: Ask) -> None:
        """A text that a model reads."""
        ask()
        await self._send("add_memory", text=text, key=f"log/{number}")

    async def _add(self, number: int, version: int) -> None:
        made = content(Shape.LONG_NOTE, number, version)
        given = {
            **made.arguments,
            "entities": [EntityInput(**one) for one in made.arguments["entities"]],
            "facts": [FactInput(**one) for one in made.arguments["facts"]],
        }
        await self._send(made.tool, **given)

    async def _send(self, operation: str, **arguments: Any) -> None:
        """As a client sends: again under the same key, until somebody has acknowledged it."""
        arguments["idempotency_key"] = f"{arguments['key']}-{uuid4()}"
        while True:
            with suppress(ApexError):
                await self.living.call(operation, **arguments)
                return
            await anyio.sleep(0.05)

    # --- what must be true -------------------------------------------------------------------------------------------

    async def until_searchable(self, number: int, version: int) -> None:
        """Wait for a version, and see to it that at no moment part of it shows."""
        await eventually(lambda: self._whole(number, version))

    async def all_is_well(self) -> None:
        """Nothing is under way any more, and nothing is in a store that does not belong there."""

        async def well() -> bool:
            return not [what for what, query in NEVER.items() if self.place.rows(query)[0][0]]

        await eventually(well)
        sizes = dict(self.place.rows("SELECT id, chunk_count FROM versions"))
        points = await self.living.call("points")
        assert points == sizes, (
            f"the index holds {points.items() - sizes.items()} and lacks {sizes.items() - points.items()}"
        )

    async def idle(self) -> None:
        """Wait until a note that is sent now is searchable: what the process woke up to is over by then."""
        number = next_number()
        await self.note(number, lambda: None)
        await self.until_searchable(number, 1)

    async def enriched(self, number: int) -> bool:
        """Whether the model's part of a document is published."""
        query: LiteralString = (
            "SELECT count(*) FROM enrichments e JOIN versions v ON v.id = e.version_id "
            "JOIN documents d ON d.id = v.document_id WHERE d.key = %s AND e.state = 'done'"
        )
        return bool(self.place.rows(query, f"log/{number}")[0][0])

    async def entities(self, name: str) -> list[dict[str, Any]]:
        return (await self.living.call("get_entities", query=name))["entities"]

    def state(self, number: int) -> tuple[str, str]:
        """How the newest ingestion of a document ended, and why."""
        [(state, reason)] = self.place.rows(
            "SELECT i.state, coalesce(i.failure ->> 'code', '') FROM ingestions i JOIN documents d ON d.id = i.document_id "
            "WHERE d.key = %s ORDER BY i.seq DESC LIMIT 1",
            f"log/{number}",
        )
        return state, reason

    async def found(self, word: str) -> int:
        """Number of passages with a word."""
        hits = (await self.living.call("search", query=word))["hits"]
        return sum(word in hit["text"] for hit in hits)

    async def _whole(self, number: int, version: int) -> bool:
        # The last mark first: what shows it is there by then, and the others are asked for after.
        end, middle, begin = [await self.found(mark) for mark in reversed(marks(number, version).all)]
        assert max(end, middle, begin) <= 1, f"document {number} is there twice"
        assert end <= middle <= begin, f"document {number} is partially visible"
        return bool(end)


async def tolerating_death(work: Awaitable[object]) -> None:
    """Do something during which the process may die."""
    with suppress(Died):
        await work


# A story calls the second when the fault is to be asked for.
Story = Callable[[Stories, int, Ask], Awaitable[None]]
