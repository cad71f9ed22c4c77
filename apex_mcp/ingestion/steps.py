"""The six steps of a document; activities call these and nothing else.

Each can be repeated safely, acts only on what its claim still owns, and ends one member's failure without touching the others.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from apex_mcp.errors import ApexError, Code, InputError, Invariant, from_dict
from apex_mcp.ingestion.contract import RollbackInput, StepInput, StepResult
from apex_mcp.ingestion.drafts import RAW, Draft, Drafts
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.points import points_of
from apex_mcp.ingestion.pool import ChildPool
from apex_mcp.ingestion.prepare import Item, Outcome, prepare_together
from apex_mcp.ingestion.room import require_room
from apex_mcp.ingestion.sources.local import read_file
from apex_mcp.ingestion.staging import Staging
from apex_mcp.models import RETRYABLE, IndexPoint, IngestionState, Lane, Step
from apex_mcp.settings import Settings
from apex_mcp.stores.progress import Progress
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.requests import request_of
from apex_mcp.stores.record.versions import NewVersion, content_hash
from apex_mcp.stores.vectors.packing import pack

# Above this a document is searchable by words first, and its vectors follow.
_MAX_CHUNKS_EMBEDDED_AT_ONCE = 256
_CRASHES = frozenset({Code.PARSER_CRASHED, Code.PARSER_TIMEOUT, Code.PARSER_MEMORY})


class Steps:
    """The steps, over the stores.

    Args:
        settings: for limits.
        record: PostgreSQL.
        index: keeps the vector index in step.
        staging: where large content waits.
        pool: child processes that parse.
        quick_pool: the one for groups of small documents.
        progress: whom to tell.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        record: Record,
        index: IndexKeeper,
        staging: Staging,
        pool: ChildPool,
        quick_pool: ChildPool,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._record = record
        self._index = index
        self._staging = staging
        self._pool = pool
        self._quick_pool = quick_pool
        self._progress = progress
        self._drafts = Drafts(staging)

    async def stage(self, step: StepInput) -> StepResult:
        """Take content from its source; content equal to the current version's ends here."""
        return await self._each(step, Step.STAGE, self._staged)

    async def parse(self, step: StepInput) -> StepResult:
        """Recognise the type, read text and structure, cut into chunks."""
        return await self._each(step, Step.PARSE, self._parsed)

    async def extract(self, step: StepInput) -> StepResult:
        """Find entities and facts by rules, and take those that the caller gave."""
        return await self._each(step, Step.EXTRACT, self._extracted)

    async def embed(self, step: StepInput) -> StepResult:
        """Compute vectors where a local embedder is ready; others follow after the commit."""
        drafts, result = await self._open(step, Step.EMBED)
        going = await self._extracted_all(drafts, result)
        await self._embed(going)
        return _going_on(result, going)

    async def prepare_group(self, step: StepInput) -> StepResult:
        """Stage, parse and extract a group of small documents."""
        drafts, result = await self._open(step)
        return _going_on(result, await self._extracted_all(drafts, result))

    async def write(self, step: StepInput) -> StepResult:
        """Write the hidden points, then commit: from then on the version is current, everywhere."""
        drafts, result = await self._open(step, Step.WRITE)
        going = await self._extracted_all(drafts, result)
        await self._embed(going)
        if going:
            await self._commit(going, UUID(step.claim))
        return _going_on(result, going)

    async def cleanup(self, step: StepInput) -> StepResult:
        """Remove what was staged, unless another run needs it: one that lost its claim comes here as well."""
        wanted = list(map(UUID, step.ingestion_ids))
        for ingestion_id in wanted:
            self._drafts.drop(ingestion_id, UUID(step.claim))
        for ingestion_id in await self._over(wanted):
            await self._drafts.unstage(ingestion_id)
        return StepResult(going_on=step.ingestion_ids)

    async def rollback(self, rollback: RollbackInput) -> None:
        """Purge what a failed or cancelled run wrote, then say how it ended. Staged content is kept for a retry."""
        ingestion_id, claim = UUID(rollback.ingestion_id), UUID(rollback.claim)
        found = await self._record.ingestions.get([ingestion_id])
        if not found or found[0].claim != claim:
            await self._drop_lost([ingestion_id], claim)
            return
        await self._index.purge_run(found[0].document_id, ingestion_id, claim)
        if rollback.code == Code.CANCELLED:
            state, error = IngestionState.CANCELLED, None
        else:
            noted = found[0].failure
            state, error = (
                IngestionState.ROLLED_BACK,
                from_dict(noted) if noted else _unexplained(rollback.code),
            )
        await self._record.ingestions.finish(ingestion_id, state, claim=claim, error=error)
        self._drafts.drop(ingestion_id, claim)
        self._progress.publish([ingestion_id])

    async def send_alone(self, step: StepInput) -> None:
        """Purge what a failed group wrote of those that its claim still owns; each then waits for a run of its own."""
        claim = UUID(step.claim)
        owned = await self._record.ingestions.owned(list(map(UUID, step.ingestion_ids)), claim)
        for ingestion in owned:
            # Before it is released: after that nobody would know what this claim wrote, should the call be repeated.
            await self._index.purge_run(ingestion.document_id, ingestion.id, claim)
            self._drafts.drop(ingestion.id, claim)
        await self._record.outbox.release([one.id for one in owned], claim=claim, alone=True)

    async def note_waiting(self, step: StepInput, error: ApexError) -> None:
        """Note why a step will be tried again, for whoever asks meanwhile."""
        await self._record.ingestions.note_failure(
            list(map(UUID, step.ingestion_ids)), UUID(step.claim), error
        )

    # --- running over the members of a step --------------------------------------------------------------------------

    async def _open(self, step: StepInput, name: Step | None = None) -> tuple[list[Draft], StepResult]:
        """The drafts of those that the claim still owns; the cancelled among them end here.

        The step is noted for a document that runs alone only: a group is over before anyone could read it.
        """
        claim, wanted = UUID(step.claim), list(map(UUID, step.ingestion_ids))
        result = StepResult()
        kept = {id_: draft for id_ in wanted if (draft := self._drafts.get(id_, claim)) is not None}
        # Most steps find the drafts of the step before, and need to know only whether to go on.
        cancelled = await self._record.ingestions.still_owned(list(kept), claim) if kept else {}
        begun = await self._begin([id_ for id_ in wanted if id_ not in kept], claim)
        if lost := set(wanted) - cancelled.keys() - {draft.id for draft in begun}:
            await self._drop_lost(lost, claim)
        drafts: list[Draft] = []
        for draft in [*(draft for id_, draft in kept.items() if id_ in cancelled), *begun]:
            if cancelled.get(draft.id) or draft.ingestion.cancel_requested_at is not None:
                result.ended[str(draft.id)] = Code.CANCELLED
            else:
                drafts.append(draft)
        if name is not None and len(wanted) == 1 and drafts and drafts[0].ingestion.lane is Lane.OWN:
            await self._record.ingestions.set_step(wanted, claim, name)
            self._progress.publish(wanted)
        return drafts, result

    async def _drop_lost(self, ingestion_ids: Collection[UUID], claim: UUID) -> None:
        """What this run still has of ingestions that are not its own any more; of those that were forgotten nothing stays."""
        for ingestion_id in ingestion_ids:
            self._drafts.drop(ingestion_id, claim)
        known = {one.id for one in await self._record.ingestions.get(list(ingestion_ids))}
        for ingestion_id in set(ingestion_ids) - known:
            await self._staging.delete(ingestion_id)

    async def _begin(self, ingestion_ids: Sequence[UUID], claim: UUID) -> list[Draft]:
        """New drafts of those that the claim owns."""
        if not ingestion_ids:
            return []
        owned = await self._record.ingestions.owned(ingestion_ids, claim)
        await self._drop_left_over(set(ingestion_ids) - {one.id for one in owned})
        texts = await self._record.ingestions.contents([one.id for one in owned])
        drafts = [
            Draft(ingestion=one, request=request_of(one, texts.get(one.id)), claim=claim) for one in owned
        ]
        for draft in drafts:
            self._drafts.keep(draft)
        return drafts

    async def _each(
        self, step: StepInput, name: Step, part: Callable[[Draft], Awaitable[None]]
    ) -> StepResult:
        drafts, result = await self._open(step, name)
        return _going_on(result, [draft for draft in drafts if await self._guarded(draft, part, result)])

    async def _guarded(
        self, draft: Draft, part: Callable[[Draft], Awaitable[None]], result: StepResult
    ) -> bool:
        """Run a part; whether the draft goes on. What no retry can cure ends it; what one can is raised."""
        try:
            await part(draft)
        except ApexError as error:
            if error.retryable:
                raise
            await self._note_end(draft, error, result)
            return False
        return not draft.unchanged

    async def _note_end(self, draft: Draft, error: ApexError, result: StepResult) -> None:
        await self._record.ingestions.note_failure([draft.id], draft.claim, error)
        result.ended[str(draft.id)] = error.code

    async def _extracted_all(self, drafts: Sequence[Draft], result: StepResult) -> list[Draft]:
        """Bring every draft as far as extraction: small ones together, the others each by itself."""
        together = [
            draft for draft in drafts if draft.ingestion.lane is Lane.FAST and draft.extraction is None
        ]
        for texts in (False, True):
            group = [draft for draft in together if (draft.request.path is None) is texts]
            if group:
                await self._prepare_together(group, result, in_child=not texts)
        await self._end_unchanged([draft for draft in together if draft.content_hash is not None])
        out = {*result.ended, *result.alone}
        rest = [draft for draft in drafts if str(draft.id) not in out]
        return [draft for draft in rest if await self._guarded(draft, self._extracted, result)]

    async def _prepare_together(self, drafts: Sequence[Draft], result: StepResult, *, in_child: bool) -> None:
        try:
            outcomes = await self._outcomes(drafts, in_child=in_child)
        except InputError as error:
            if error.code not in _CRASHES:
                raise
            result.alone.extend(
                str(draft.id) for draft in drafts
            )  # one of them did it; alone it will show which
            return
        for draft, outcome in zip(drafts, outcomes, strict=True):
            if isinstance(outcome, ApexError):
                await self._note_end(draft, outcome, result)
                continue
            draft.content_hash = content_hash(outcome.digest, draft.given)
            draft.parsed, draft.chunks, draft.extraction = outcome.parsed, outcome.chunks, outcome.extraction

    async def _outcomes(self, drafts: Sequence[Draft], *, in_child: bool) -> list[Outcome | ApexError]:
        limits = self._settings.max_file_bytes, self._settings.max_text_chars
        async with AsyncExitStack() as files:
            items = [Item.of(draft.request, await self._upload(draft, files)) for draft in drafts]
            if not in_child:
                return await asyncio.to_thread(prepare_together, items, *limits)
            return await self._in_child(
                "prepare:prepare_together", items, *limits, bulk=drafts[0].request.bulk, pool=self._quick_pool
            )

    async def _upload(self, draft: Draft, files: AsyncExitStack) -> Path | None:
        """Where what was uploaded with a request can be read; None where nothing was."""
        if draft.request.upload is None:
            return None
        return await files.enter_async_context(self._staging.local_file(draft.id, RAW))

    async def _in_child(self, function: str, *args: object, bulk: bool, pool: ChildPool | None = None) -> Any:
        return await (pool or self._pool).run(
            f"apex_mcp.ingestion.{function}",
            *args,
            timeout_seconds=self._settings.parse_timeout_seconds,
            priority=int(bulk),
        )

    # --- the parts of one draft, each made from the one before it ----------------------------------------------------

    async def _staged(self, draft: Draft) -> None:
        if draft.content_hash is not None:
            return
        request = draft.request
        if request.upload is not None:
            data = await self._staging.get(draft.id, RAW)
            if data is None:
                raise _upload_gone()
            digest = hashlib.sha256(data).hexdigest()
        elif request.path is not None:
            data, digest = await asyncio.to_thread(
                read_file, Path(request.path), max_bytes=self._settings.max_file_bytes
            )
        else:
            data = (request.text or "").encode()
            digest = hashlib.sha256(data).hexdigest()
        draft.content_hash = content_hash(digest, draft.given)
        try:
            await self._end_unchanged([draft])
            if not draft.unchanged and request.upload is None:
                await self._drafts.save_raw(draft, data)
        except BaseException:
            draft.content_hash = None  # nothing is staged yet: the next attempt begins here again
            raise

    async def _parsed(self, draft: Draft) -> None:
        await self._staged(draft)
        if draft.unchanged or draft.parsed is not None or await self._drafts.load_parsed(draft):
            return
        request = draft.request
        async with self._staging.local_file(draft.id, RAW) as path:
            draft.parsed, draft.chunks = await self._in_child(
                "prepare:parse_and_chunk",
                str(path),
                Path(request.path).name if request.path else request.title,
                request.media_type,
                self._settings.max_text_chars,
                bulk=request.bulk,
            )
        await self._drafts.save_parsed(draft)

    async def _extracted(self, draft: Draft) -> None:
        await self._parsed(draft)
        if draft.unchanged or draft.extraction is not None or await self._drafts.load_extraction(draft):
            return
        request = draft.request
        draft.extraction = await self._in_child(
            "prepare:extract_all",
            draft.parsed,
            draft.chunks,
            request.entities,
            request.facts,
            bulk=request.bulk,
        )
        await self._drafts.save_extraction(draft)

    async def _end_unchanged(self, drafts: Sequence[Draft]) -> None:
        """End those whose content is the current version's already.

        That is certain here: whatever was accepted for the document before is over, and what was accepted later waits.
        """
        if not drafts:
            return
        current = await self._record.versions.current_hashes([
            draft.ingestion.document_id for draft in drafts
        ])
        for draft in drafts:
            if current.get(draft.ingestion.document_id) == draft.content_hash:
                draft.unchanged = True
                ended = await self._record.ingestions.finish(
                    draft.id, IngestionState.UNCHANGED, claim=draft.claim
                )
                self._drafts.drop(draft.id, draft.claim)
                # Else it is another run's by now, which needs what came with it.
                if ended:
                    await self._drop_upload(draft)
                    self._progress.publish([draft.id])

    async def _embed(self, drafts: Sequence[Draft]) -> None:
        """Vectors of all chunks of the drafts in one go. Without an embedder at hand the record notes that they are owed."""
        embedder = self._index.local_embedder
        if embedder is None:
            return
        todo = [
            draft
            for draft in drafts
            if draft.vectors is None and len(draft.chunks) <= _MAX_CHUNKS_EMBEDDED_AT_ONCE
        ]
        try:
            vectors = iter(
                await embedder.embed_documents([chunk.text for draft in todo for chunk in draft.chunks])
            )
        except ApexError:
            return  # words are searchable at once; the keeper of the index brings the vectors later
        for draft in todo:
            draft.embedder = embedder.name
            draft.vectors = [pack(next(vectors)) for _ in draft.chunks]

    async def _commit(self, drafts: Sequence[Draft], claim: UUID) -> None:
        require_room(self._settings.home if self._settings.stores_at_home else None)
        # In a thread: a book has thousands of passages, and the daemon goes on meanwhile.
        versions, points = await asyncio.to_thread(_ready, drafts)
        result = await self._index.commit(points, versions, claim)
        for draft in drafts:
            if result.states.get(draft.id) is not IngestionState.READY:
                await self._index.purge_run(draft.ingestion.document_id, draft.id, claim)
        for draft in drafts:
            self._drafts.drop(draft.id, claim)
        self._progress.publish(draft.id for draft in drafts)
        for draft in drafts:
            # One that was cancelled may be tried again, and one of another claim is under way.
            if result.states.get(draft.id) not in (None, IngestionState.CANCELLED):
                await self._drop_upload(draft)

    async def _drop_left_over(self, ingestion_ids: Collection[UUID]) -> None:
        """Of those that are over already: a run that was killed after its commit could not."""
        for ingestion_id in await self._over(ingestion_ids):
            with suppress(ApexError):
                await self._staging.delete(ingestion_id)

    async def _over(self, ingestion_ids: Collection[UUID]) -> list[UUID]:
        """Those that nobody comes for any more: searchable, overtaken, or forgotten."""
        if not ingestion_ids:
            return []
        known = await self._record.ingestions.get(list(ingestion_ids))
        wait = {one.id for one in known if not one.state.finished or one.state in RETRYABLE}
        return [one for one in ingestion_ids if one not in wait]

    async def _drop_upload(self, draft: Draft) -> None:
        """Remove what a request brought, now that the record has it. What this misses goes when its time is over."""
        if draft.request.upload is not None:
            with suppress(ApexError):
                await self._drafts.unstage(draft.id)


def _going_on(result: StepResult, drafts: Sequence[Draft]) -> StepResult:
    result.going_on[:] = [str(draft.id) for draft in drafts]
    return result


def _upload_gone() -> ApexError:
    return InputError(
        "the file's content is no longer staged",
        code=Code.PATH_NOT_FOUND,
        unchanged="nothing of it was stored",
        next_step="ingest the file again",
    )


def _unexplained(code: str) -> ApexError:
    return Invariant(
        "the ingestion failed for an unexpected reason",
        unchanged="nothing of it was stored",
        next_step="call retry_ingestion; `apex-mcp logs` has more under this code",
        details={"failure": code},
    )


def _version(draft: Draft) -> NewVersion:
    assert draft.parsed is not None
    assert draft.extraction is not None
    assert draft.content_hash is not None
    request = draft.request
    return NewVersion(
        id=draft.version_id,
        ingestion_id=draft.id,
        document_id=draft.ingestion.document_id,
        namespace=request.namespace,
        content_hash=draft.content_hash,
        title=" ".join((request.title or draft.parsed.title).split())[:300],
        uri=request.uri,
        source_type=request.source_type,
        document_time=draft.document_time,
        metadata={**draft.parsed.metadata, **request.metadata},
        parsed=draft.parsed,
        chunks=draft.chunks,
        extraction=draft.extraction,
        embedder=draft.embedder,
        vectors=draft.vectors,
    )


def _ready(drafts: Sequence[Draft]) -> tuple[list[NewVersion], list[IndexPoint]]:
    """What goes to the record and to the index."""
    versions = [_version(draft) for draft in drafts]
    points = [
        point
        for draft, version in zip(drafts, versions, strict=True)
        for point in points_of(version, draft.ingestion.accepted_at)
    ]
    return versions, points
