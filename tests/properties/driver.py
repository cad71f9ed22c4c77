"""One namespace of a real memory, with its model beside it: every operation is done to both, then both are compared."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from apex_mcp import ids
from apex_mcp.app import App
from apex_mcp.errors import Conflict, NotFound
from apex_mcp.ids import core_name
from apex_mcp.models import EntityInput, FactInput, IngestionState
from apex_mcp.views import EntityView, ForgetView, ImportView, IngestionView
from tests.e2e.apps import CALLER, ended
from tests.properties.model import Fact, Model, Said, Shown, Split, Version

# In every text: what searches for it finds everything.
COMMON = "heron"
_ORGANIZATIONS = frozenset({"Lovage Inc", "Lovage Corp"})
_ALL = 100


@dataclass(frozen=True)
class Archive:
    """An archive that was made, and what is in it."""

    path: Path
    model: Model


@dataclass
class Driver:
    """Does to a namespace and to its model.

    Attributes:
        moments: when each step was over.
        archives: those made, in order.
        taken: the archives that came in here since the namespace began.
        tried: the last cancelled ingestion of each document.
    """

    app: App
    folder: Path
    namespace: str
    model: Model = field(default_factory=Model)
    moments: list[datetime] = field(default_factory=list[datetime])
    archives: list[Archive] = field(default_factory=list[Archive])
    taken: set[int] = field(default_factory=set[int])
    tried: dict[str, UUID] = field(default_factory=dict[str, UUID])
    copies: int = 0

    @property
    def step(self) -> int:
        """The number of the step that is under way, or that is next."""
        return len(self.moments)

    def over(self) -> None:
        self.moments.append(datetime.now(UTC))

    # --- taking in ---------------------------------------------------------------------------------------------------

    async def remember(self, key: str, names: Collection[str], facts: Collection[Fact]) -> None:
        said = self._new(names, facts)
        self.model.given(key, said)
        view = await self._ended(await self._add(key, said))
        assert view.state is IngestionState.READY, view
        self.model.remember(key, Version(said, said, self.step, self.step))

    async def remember_again(self, key: str) -> None:
        """The same content; it is a new version only where something of the last one was forgotten."""
        current = self.model.current(key)
        if current is None:
            return
        said = current.sent
        self.model.given(key, said)
        view = await self._ended(await self._add(key, said))
        if said == current.said:
            assert view.state is IngestionState.UNCHANGED, view
            return
        assert view.state is IngestionState.READY, view
        self.model.remember(key, Version(said, said, self.step, self.step))

    async def cancel(self, key: str, names: Collection[str], facts: Collection[Fact]) -> None:
        """Take something back at once; it may be too late for that."""
        said = self._new(names, facts)
        self.model.given(key, said)
        view = await self._add(key, said)
        with suppress(Conflict):
            await self.app.memory.cancel_ingestion(
                CALLER, ingestion_id=view.ingestion_id, namespace=self.namespace
            )
        view = await self._ended(view)
        if view.state is IngestionState.READY:
            self.model.remember(key, Version(said, said, self.step, self.step))
            return
        assert view.state is IngestionState.CANCELLED, view
        self.model.cancel(key, said, self.step, view.ingestion_id)
        self.tried[key] = view.ingestion_id

    async def retry(self, key: str) -> None:
        ingestion_id = self.tried.get(key)
        if ingestion_id is None:
            return
        document = self.model.documents.get(key)
        try:
            view = await self.app.memory.retry_ingestion(
                CALLER, ingestion_id=ingestion_id, namespace=self.namespace
            )
        except NotFound:
            assert document is None or ingestion_id not in document.attempts
            return
        except Conflict:
            assert document is not None
            assert document.cancelled is None
            return
        assert document is not None
        assert document.cancelled is not None
        view = await self._ended(view)
        assert view.state is IngestionState.READY, view
        said, accepted = document.cancelled, document.attempts[ingestion_id]
        self.model.remember(key, Version(said, said, accepted, self.step))

    def _new(self, names: Collection[str], facts: Collection[Fact]) -> Said:
        return Said(_word(self.step), frozenset(names), frozenset(facts))

    async def _add(self, key: str, said: Said) -> IngestionView:
        return await self.app.memory.add_memory(
            CALLER,
            text=f"the {COMMON} wades, {said.marker}",
            key=key,
            namespace=self.namespace,
            entities=[EntityInput(name=name, type=_type(name)) for name in sorted(said.names)],
            facts=[FactInput(subject=s, predicate=p, object=o) for s, p, o in sorted(said.facts)],
        )

    async def _ended(self, view: IngestionView) -> IngestionView:
        (over,) = await ended(self.app, [view])
        return over

    # --- forgetting --------------------------------------------------------------------------------------------------

    async def forget_documents(self, keys: Collection[str]) -> None:
        await self._forget(set(keys) & self.model.documents.keys(), keys=sorted(keys))

    async def forget_time(self, after: int, before: int) -> None:
        """What was accepted behind one step, and no later than within another."""
        if not after < before < self.step:
            return
        gone = self.model.accepted_in(after, before)
        await self._forget(gone, after=self.moments[after], before=self.moments[before])

    async def forget_namespace(self) -> None:
        if not self.model.stands:
            with pytest.raises(NotFound):
                await self._ask_to_forget(whole_namespace=True)
            return
        assert (await self._ask_to_forget(whole_namespace=True)).removed
        self.model.forget_namespace()
        self.taken.clear()

    async def forget_entity(self, name: str) -> None:
        named = {one for shown in self.model.entities(self.step) for one in shown.names}
        if name not in named:
            return
        assert (await self._ask_to_forget(entity_id=self._id(name))).removed
        self.model.forget_entity(name, self.step)

    async def _forget(self, gone: Collection[str], **selection: Any) -> None:
        if not gone:
            with pytest.raises(NotFound):
                await self._ask_to_forget(**selection)
            return
        try:
            done = await self._ask_to_forget(**selection)
        except NotFound as error:
            pytest.fail(f"{sorted(gone)} should be there to be forgotten: {error}")
        assert done.removed, done
        _agree("documents forgotten", done.documents, len(gone))
        self.model.forget_documents(gone)

    async def _ask_to_forget(self, **selection: Any) -> ForgetView:
        return await self.app.memory.forget(CALLER, namespace=self.namespace, confirm=True, **selection)

    # --- entities that are one ---------------------------------------------------------------------------------------

    async def unlink(self, one: str, other: str) -> None:
        core, ids_ = core_name(one), {"entity_id": self._id(one), "other_id": self._id(other)}
        if any(shown.names >= {one, other} for shown in self.model.entities(self.step)):
            await self.app.memory.split_entity(CALLER, namespace=self.namespace, **ids_)
            self.model.splits.append(Split(core, self.step))

    async def link(self, one: str, other: str) -> None:
        ids_ = {"entity_id": self._id(one), "other_id": self._id(other)}
        split = self.model.split(core_name(one), self.step)
        if split is None:
            with pytest.raises(Conflict):
                await self.app.memory.join_entity(CALLER, namespace=self.namespace, **ids_)
            return
        await self.app.memory.join_entity(CALLER, namespace=self.namespace, **ids_)
        split.until = self.step

    def _id(self, name: str) -> UUID:
        return ids.entity_id(self.namespace, name)

    # --- upkeep ------------------------------------------------------------------------------------------------------

    async def reindex(self) -> None:
        async for _ in self.app.memory.reindex(CALLER):
            pass

    async def maintain(self) -> None:
        await self.app.maintenance.run()

    async def prune(self) -> None:
        """As maintenance does it where nothing of the past is to be kept."""
        while old := await self.app.record.retention.prune(0):
            await self.app.index.purge(old)
        self.model.prune(self.step)

    # --- archives ----------------------------------------------------------------------------------------------------

    async def export(self) -> None:
        if not self.model.stands:
            return
        path = self.folder / f"{self.namespace}-{len(self.archives)}.zip"
        steps = self.app.memory.export_archive(CALLER, path=path, namespace=self.namespace)
        views = [view async for view in steps]
        made = views[-1].archive
        assert made is not None
        held = self.model.copy()
        _agree(
            "documents and versions in the archive",
            (made.documents, made.versions),
            (len(held.documents), held.versions()),
        )
        self.archives.append(Archive(path, held))

    async def take_back(self, number: int) -> None:
        """An archive of this namespace comes into it again."""
        if not self.archives:
            return
        number %= len(self.archives)
        await self._import(self.archives[number].path, None)
        self.model.take_back(self.archives[number].model, self.step, again=number in self.taken)
        self.taken.add(number)

    async def take_elsewhere(self, number: int) -> None:
        """An archive of this namespace comes into one that held nothing; what is there is compared at once."""
        if not self.archives:
            return
        archive = self.archives[number % len(self.archives)]
        self.copies += 1
        namespace = f"{self.namespace}-{self.copies}"
        result = await self._import(archive.path, namespace)
        assert result.times_kept
        copy = Driver(
            self.app, self.folder, namespace, self.model.taken_elsewhere(archive.model), self.moments
        )
        await copy.as_the_model_says()
        for step in range(self.step):
            await copy.as_it_was(step)
        await self.app.memory.forget(CALLER, namespace=namespace, whole_namespace=True, confirm=True)

    async def _import(self, path: Path, into: str | None) -> ImportView:
        steps = [step async for step in self.app.memory.import_archive(CALLER, path=path, into=into)]
        assert steps[-1].result is not None
        return steps[-1].result

    # --- what must be true -------------------------------------------------------------------------------------------

    async def as_the_model_says(self) -> None:
        """Everything that is current is listed, found and counted, once; and nothing else."""
        said = self.model.visible(self.step)
        listed = await self.app.memory.list_memories(CALLER, namespace=self.namespace, limit=_ALL)
        _agree("documents", sorted(item.key for item in listed.items), sorted(said))
        _agree("number of documents", listed.total, len(said))
        _agree("passages", await self._found(), sorted(one.marker for one in said.values()))
        shown = self.model.entities(self.step)
        _agree("entities", await self._entities(), _plain(shown))
        stats = await self.app.memory.get_stats(CALLER, namespace=self.namespace)
        facts = self.model.facts(self.step)
        _agree(
            "documents, versions, passages, entities and facts in numbers",
            (stats.documents, stats.versions, stats.chunks, stats.entities, stats.facts),
            (len(said), self.model.versions(), len(said), len(shown), len(facts)),
        )
        _agree("that it is a namespace", self.namespace in stats.namespaces, self.model.stands)

    async def as_it_was(self, step: int) -> None:
        """What was current at a step is known of that time, but for what was forgotten or pruned since."""
        known_at = self.moments[step]
        said = self.model.visible(step)
        when = f"as they were after step {step}"
        _agree(f"passages {when}", await self._found(known_at), sorted(one.marker for one in said.values()))
        _agree(f"entities {when}", await self._entities(known_at), _plain(self.model.entities(step)))

    async def _found(self, known_at: datetime | None = None) -> list[str]:
        """The words that tell one passage from another, of all that a search finds."""
        found = await self.app.memory.search(
            CALLER, query=COMMON, namespace=self.namespace, limit=_ALL, known_at=known_at
        )
        return sorted(hit.text.rpartition(" ")[2] for hit in found.hits)

    async def _entities(self, known_at: datetime | None = None) -> list[tuple[object, ...]]:
        found = await self.app.memory.get_entities(
            CALLER, namespace=self.namespace, limit=_ALL, known_at=known_at
        )
        return sorted(_seen(view) for view in found.entities)


def _agree(what: str, memory: object, model: object) -> None:
    """pytest explains no assertion that an exception group of hypothesis carries."""
    assert memory == model, f"{what}: the memory has {memory}, the model {model}"


def _plain(shown: Collection[Shown]) -> list[tuple[object, ...]]:
    return sorted(
        (
            tuple(sorted(one.names)),
            len(one.markers),
            sorted({(core_name(s), p, core_name(o)) for s, p, o in one.facts}),
        )
        for one in shown
    )


def _seen(view: EntityView) -> tuple[object, ...]:
    """A spelling that nothing names any more may still be linked with this one; what is told of it may be shown or not."""
    names = {view.name, *(one.name for one in view.merged_from)}
    facts = [one for one in view.facts if names & {one.subject, one.object}]
    return (
        tuple(sorted(names)),
        len(view.sources),
        sorted((core_name(one.subject), one.predicate, core_name(one.object)) for one in facts),
    )


def _type(name: str) -> str:
    return "Organization" if name in _ORGANIZATIONS else "Person"


def _word(number: int) -> str:
    """A word that no rule takes for anything."""
    letters = ""
    while number or not letters:
        number, digit = divmod(number, 20)
        letters += "bcdfghjklmnpqrstvwxz"[digit]
    return f"quo{letters}"
