"""What all operations stand on."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from apex_mcp.ingestion.accepting import Door
from apex_mcp.ingestion.embedding.protocol import Embedder
from apex_mcp.ingestion.enriching.ontology import Ontology
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.staging import Staging
from apex_mcp.ingestion.uploading import Uploads
from apex_mcp.ingestion.verifying import Verifier
from apex_mcp.presenting import present_ingestion
from apex_mcp.retrieval.cached import AnswerCache
from apex_mcp.retrieval.search import Searcher
from apex_mcp.settings import Settings
from apex_mcp.stats import Stats
from apex_mcp.stores.bell import Bell
from apex_mcp.stores.graph.best import BestGraph
from apex_mcp.stores.health import Health
from apex_mcp.stores.progress import Progress
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.ingestions import Ingestion
from apex_mcp.views import IngestionView


class Operations:
    """The parts that operations use.

    Args:
        settings: limits.
        ontology: the words for kinds of things and of facts.
        record: PostgreSQL.
        index: the vector index and its keeper.
        embedder: or None for words only.
        graph: what is near an entity.
        progress: news of ingestions.
        bell: rung when something was accepted.
        health: the components' conditions.
        staging: where files go as they are accepted, if other machines share it.
        verifier: compares every index with the record.
        answers: given before; None where a search is no dearer than asking whether it was.
        verify_redis: raises where the Redis that is set does not answer.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        ontology: Ontology,
        record: Record,
        index: IndexKeeper,
        embedder: Embedder | None,
        graph: BestGraph,
        progress: Progress,
        bell: Bell,
        health: Health,
        staging: Staging,
        verifier: Verifier,
        answers: AnswerCache | None,
        verify_redis: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._record = record
        self._index = index
        self._graph = graph
        self._settings = settings
        self._ontology = ontology
        self._progress = progress
        self._bell = bell
        self._health = health
        self._verifier = verifier
        self._answers = answers
        self._home = settings.home if settings.stores_at_home else None
        self._door = Door(settings, ontology)
        self._uploads = Uploads(self._door, staging if settings.staging else None)
        self._searcher = Searcher(record, index, embedder)
        self._stats = Stats(
            settings=settings,
            record=record,
            index=index,
            embedder=embedder,
            graph=graph,
            health=health,
            verify_redis=verify_redis,
        )

    def _present(self, ingestion: Ingestion) -> IngestionView:
        return present_ingestion(ingestion, self._health)


def aware(time_: datetime | None) -> datetime | None:
    """Times without a zone are taken as UTC."""
    return time_.replace(tzinfo=UTC) if time_ is not None and time_.tzinfo is None else time_
