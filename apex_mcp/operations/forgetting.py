"""Forgetting: what would go, and that it goes."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from apex_mcp.caller import Caller
from apex_mcp.errors import InputError, NotFound
from apex_mcp.ingestion.accepting import check_namespace
from apex_mcp.ingestion.decoding import clean_text
from apex_mcp.left_overs import replaced_memories
from apex_mcp.operations.base import Operations, aware
from apex_mcp.stores.record.forgetting import Archive, Forgetting, Selection
from apex_mcp.stores.record.forgetting_entities import EntityProspect
from apex_mcp.stores.record.forgetting_prospects import Prospect, ShownDocument
from apex_mcp.views import ArchiveView, ForgetView, ForgottenDocument

_MOST_NAMED = 500
_NOTHING = "nothing was forgotten"
_WAIT_SECONDS = 8.0
_LOOK_SECONDS = 0.05


class Forgettings(Operations):
    """Documents, entities, times and namespaces, as if they had never been there."""

    async def forget(
        self,
        caller: Caller,
        *,
        document_ids: Sequence[UUID] = (),
        keys: Sequence[str] = (),
        entity_id: UUID | None = None,
        after: datetime | None = None,
        before: datetime | None = None,
        whole_namespace: bool = False,
        namespace: str | None = None,
        confirm: bool = False,
    ) -> ForgetView:
        """Forget documents (by id or key), an entity, what was stored in a time, or a whole namespace.

        Without `confirm` nothing changes: the answer says what would go, and what would stay. With it what goes is invisible
        when this returns; rows and indexes are waited for some seconds, and go on being removed after. A graph whose server
        is away is not waited for.

        Raises:
            InputError: not exactly one kind of thing is named.
            NotFound: there is nothing of it; nothing was forgotten.
            Unavailable: the record does not answer; asking again is safe.
        """
        name = check_namespace(namespace or caller.namespace)
        given = [bool(document_ids or keys), entity_id is not None, bool(after or before), whole_namespace]
        if given.count(True) != 1:
            raise InputError(
                "name either documents, or an entity, or a time, or the whole namespace",
                unchanged=_NOTHING,
                next_step="give ids or keys of documents, an entity's id, `after` and `before`, or the whole namespace",
            )
        if entity_id is not None:
            return await self._forget_entity(caller, name, entity_id, confirm=confirm)
        selection = Selection(
            namespace=name,
            document_ids=list(dict.fromkeys(document_ids)),
            keys=[clean_text(key).strip() for key in keys],
            after=aware(after),
            before=aware(before),
            whole=whole_namespace,
        )
        return await self._forget_documents(caller, selection, confirm=confirm)

    async def _forget_documents(self, caller: Caller, selection: Selection, *, confirm: bool) -> ForgetView:
        if len(selection.document_ids) + len(selection.keys) > _MOST_NAMED:
            raise InputError(
                f"at most {_MOST_NAMED} documents can be named in one call",
                unchanged=_NOTHING,
                next_step="name them in several calls, or the time in which they were stored",
            )
        store, name = self._record.forgetting, selection.namespace
        known = await store.by_request(caller.request_id) if confirm else None
        prospect = await store.look(selection)
        if known is None and prospect is None:
            raise _nothing_of(selection)
        archives = await store.archives(name, since=prospect.since if prospect else None)
        done = known
        if confirm and done is None:
            done = await store.forget(
                selection, request_id=caller.request_id, graph_in_use=self._graph.on_server
            )
            if done is None:
                raise _nothing_of(selection)
        view = self._view(name, selection.kind, done and await self._removed(name, done), archives)
        return view if prospect is None else view.model_copy(update=_of_documents(prospect, done))

    async def _forget_entity(
        self, caller: Caller, namespace: str, entity_id: UUID, *, confirm: bool
    ) -> ForgetView:
        store = self._record.forgetting
        known = await store.by_request(caller.request_id) if confirm else None
        prospect = await store.look_at_entity(namespace, entity_id)
        if known is None and prospect is None:
            raise _no_entity(entity_id)
        archives = await store.archives(namespace, since=None)
        done = known
        if confirm and done is None:
            done = await store.forget_entity(
                namespace, entity_id, request_id=caller.request_id, graph_in_use=self._graph.on_server
            )
            if done is None:
                raise _no_entity(entity_id)
        view = self._view(namespace, "entity", done and await self._removed(namespace, done), archives)
        return view if prospect is None else view.model_copy(update=_of_entity(prospect))

    async def _removed(self, namespace: str, done: Forgetting) -> Forgetting:
        """The forgetting, once everything is rid of it, or as it is when that takes long."""
        self._progress.publish(done.ingestion_ids)
        # Whoever removes, and whoever tells a graph.
        self._bell.ring()
        if self._answers is not None:
            await self._answers.drop(namespace)
        deadline = time.monotonic() + _WAIT_SECONDS
        done = await self._until(lambda one: one.removed_at is not None, done, deadline)
        if done.graph_waits and await self._graph.lacks() is None:
            done = await self._until(lambda one: one.removed, done, deadline)
        return done

    async def _until(
        self, far: Callable[[Forgetting], bool], done: Forgetting, deadline: float
    ) -> Forgetting:
        while not far(done) and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_SECONDS)
            done = await self._record.forgetting.get(done.id) or done
        return done

    def _replaced(self) -> list[tuple[str, datetime]]:
        """What restores moved aside in the data folder."""
        return replaced_memories(self._home) if self._home is not None else []

    def _view(
        self, namespace: str, kind: str, done: Forgetting | None, archives: Sequence[Archive]
    ) -> ForgetView:
        began = done.forgotten_at if done else datetime.now(UTC)
        return ForgetView(
            namespace=namespace,
            kind=done.kind if done else kind,
            forgotten=done is not None,
            removed=done is not None and done.removed,
            waits_for=_waits_for(done) if done else "",
            erased_by=began + timedelta(hours=self._settings.erase_hours),
            documents=done.documents if done else 0,
            versions=done.versions if done else 0,
            entities=done.entities if done else 0,
            facts=done.facts if done else 0,
            archives=[
                ArchiveView(kind=one.kind, name=one.name, made_at=one.made_at, documents=one.documents)
                for one in archives
            ]
            + [
                ArchiveView(kind="replaced", name=name, made_at=made_at) for name, made_at in self._replaced()
            ],
        )


def _waits_for(done: Forgetting) -> str:
    waits = [("indexes and tables", done.removed_at is None), ("the graph in Neo4j", done.graph_waits)]
    return " and ".join(name for name, still in waits if still)


def _of_documents(prospect: Prospect, done: Forgetting | None) -> dict[str, object]:
    counts = done or prospect
    return {
        "documents": counts.documents,
        "versions": counts.versions,
        "passages": prospect.chunks,
        "entities": prospect.entities.going,
        "entities_shared": prospect.entities.staying,
        "facts": prospect.facts.going,
        "facts_shared": prospect.facts.staying,
        "ingestions_cancelled": len(done.ingestion_ids) if done else prospect.unfinished,
        "first_documents": _shown(prospect.first),
        "first_entities": list(prospect.entities.first_going),
        "first_entities_shared": list(prospect.entities.first_staying),
        "first_facts": list(prospect.facts.first_going),
    }


def _of_entity(prospect: EntityProspect) -> dict[str, object]:
    return {
        "entities": len(prospect.members),
        "facts": prospect.facts,
        "first_entities": list(prospect.members.values()),
        "first_facts": list(prospect.first_facts),
        "mentioned_in": _shown(prospect.mentioned_in),
        "mentioning": prospect.mentioning,
    }


def _shown(documents: Sequence[ShownDocument]) -> list[ForgottenDocument]:
    return [ForgottenDocument(document_id=one.id, key=one.key, title=one.title) for one in documents]


def _nothing_of(selection: Selection) -> NotFound:
    what = {
        "documents": "none of these documents is there",
        "time_range": "no document was stored in this time",
        "namespace": f"there is no namespace {selection.namespace}",
    }[selection.kind]
    return NotFound(
        f"{what}; it may have been forgotten already",
        unchanged=_NOTHING,
        next_step="list_memories shows what is there, with ids; give the `namespace` that it was stored in",
    )


def _no_entity(entity_id: UUID) -> NotFound:
    return NotFound(
        f"no entity has the id {entity_id}; it may have been forgotten already",
        unchanged=_NOTHING,
        next_step="call get_entities with a name to find its id",
    )
