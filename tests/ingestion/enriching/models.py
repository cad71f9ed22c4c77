"""An extractor at the double of an endpoint, and what it is asked."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from apex_mcp.errors import ApexError
from apex_mcp.ingestion.enriching import Extractor, open_extractor
from apex_mcp.ingestion.enriching.protocol import Passage, PassageGroup
from apex_mcp.settings import load_settings
from apex_mcp.stores.cache.protocol import RateLimit
from tests.doubles.openai_server import OpenAIServer

KEY = "sk-a-secret-key"
NOTHING: dict[str, Any] = {"extracted_entities": [], "edges": []}
SECRET_TEXT = "Jane Doe works at Initech Corp. since 2023-03-01."
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


async def failure(server: OpenAIServer, **changes: Any) -> ApexError:
    """How extracting fails; nothing of text or key may be in it."""
    async with extractor_at(server, **changes) as extractor:
        with pytest.raises(ApexError) as caught:
            await extractor.extract(group(SECRET_TEXT))
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "Initech" not in f"{chain!r}{chain}"
        assert KEY not in f"{chain!r}{chain}"
        chain = chain.__cause__
    return caught.value
