"""Apps and clients whose entities and facts come from the double of a model."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from apex_mcp.app import App
from apex_mcp.models import EnrichmentState
from apex_mcp.views import EntityView, IngestionView
from tests.doubles.openai_server import OpenAIServer
from tests.e2e.apps import CALLER, app_without_worker, remember, working
from tests.waiting import eventually

KEY = "not-a-secret"


def asking(model: OpenAIServer, **more: Any) -> dict[str, Any]:
    """Settings that ask the double."""
    return {"llm": "openai", "openai_base_url": model.base_url, "openai_api_key": KEY, **more}


def environment(model: OpenAIServer, **more: str) -> dict[str, str]:
    """The same as a user sets it."""
    given = {"APEX_LLM": "openai", "APEX_OPENAI_BASE_URL": model.base_url, "APEX_OPENAI_API_KEY": KEY}
    return {**given, **more}


@asynccontextmanager
async def enriching_app(path: Path, model: OpenAIServer, **more: Any) -> AsyncGenerator[App]:
    """The app with its worker."""
    async with app_without_worker(path, **asking(model, **more)) as app, working(app):
        yield app


async def look(app: App, view: IngestionView) -> IngestionView:
    return await app.memory.get_ingestion(CALLER, ingestion_id=view.ingestion_id)


async def until(app: App, view: IngestionView, state: EnrichmentState, seconds: float = 60) -> IngestionView:
    """The ingestion, once its enrichment is in this state."""

    async def reached() -> bool:
        return (await look(app, view)).enrichment == state

    await eventually(reached, seconds)
    return await look(app, view)


async def enriched(app: App, text: str, **more: Any) -> IngestionView:
    """Store a note, and wait until the model has read it."""
    return await until(app, await remember(app, text, **more), EnrichmentState.DONE)


async def entity(app: App, name: str, namespace: str, **more: Any) -> EntityView | None:
    """The entity that is shown under a name, or has it as an alias."""
    found = await app.memory.get_entities(CALLER, query=name, namespace=namespace, **more)
    return found.entities[0] if found.entities else None


async def facts(app: App, name: str, namespace: str) -> set[tuple[str, str]]:
    """What is said of an entity now: (predicate, object)."""
    shown = await entity(app, name, namespace)
    return {(fact.predicate, fact.object) for fact in shown.facts} if shown else set()
