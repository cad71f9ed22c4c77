"""An extractor at the double of an endpoint, and what it is asked."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from apex_mcp.ingestion.enriching import Extractor, open_extractor
from apex_mcp.ingestion.enriching.protocol import Passage, PassageGroup
from apex_mcp.settings import load_settings
from apex_mcp.stores.cache.protocol import RateLimit
from tests.doubles.openai_server import OpenAIServer

KEY = "sk-a-secret-key"
ACME = """\
ACME Corporation Q4 2024 Report
Key Highlights:
- Revenue: $5.2M (up 15% YoY)
- Key Partner: Bosch Technologies
- New Contract: Widget Manufacturing
- The CEO, John Smith, presented the strategic initiatives for 2025.
"""


@asynccontextmanager
async def extractor_at(
    server: OpenAIServer, *, rate_limit: RateLimit | None = None, **changes: Any
) -> AsyncGenerator[Extractor]:
    settings: dict[str, Any] = {
        "openai_base_url": server.base_url,
        "openai_api_key": SecretStr(KEY),
        **changes,
    }
    extractor = open_extractor(load_settings(llm="openai", **settings), rate_limit)
    assert extractor is not None
    try:
        yield extractor
    finally:
        await extractor.close()


def group(*texts: str, first: int = 0, **more: Any) -> PassageGroup:
    """Passages with these texts, numbered from `first`."""
    passages = tuple(Passage(ordinal=number, text=text) for number, text in enumerate(texts, first))
    return PassageGroup(title=more.pop("title", "A note"), passages=passages, **more)


def dated(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)
