"""What a model adds to a version after its text is searchable: entities, facts, links between entities."""

from apex_mcp.ingestion.enriching.protocol import Extractor
from apex_mcp.settings import Settings
from apex_mcp.stores.cache.protocol import RateLimit

__all__ = ["Extractor", "open_extractor"]


def open_extractor(settings: Settings, rate_limit: RateLimit | None = None) -> Extractor | None:
    """The extractor that the settings ask for; None where no model is asked. Nothing is sent before the first question.

    Args:
        settings: which model, where, and how often.
        rate_limit: spreads requests over all processes that share it; None where nothing is shared.

    Raises:
        Rejected: the address or the ontology is not valid (`settings_invalid`).
    """
    if settings.llm == "none":
        return None
    # openai and graphiti-core take a second and a half to load: only where a model is asked.
    from apex_mcp.ingestion.embedding.openai_compatible import check_base_url
    from apex_mcp.ingestion.enriching.chat import ChatEndpoint
    from apex_mcp.ingestion.enriching.graphiti_extractor import GraphitiExtractor
    from apex_mcp.ingestion.enriching.ontology import load_ontology

    check_base_url(settings.openai_base_url)
    ontology = load_ontology(settings)
    endpoint = ChatEndpoint(
        base_url=settings.openai_base_url,
        api_key=settings.openai_api_key,
        timeout_seconds=settings.llm_timeout_seconds,
        concurrency=settings.llm_concurrency,
        thought_tokens=settings.llm_thought_tokens,
        rate_limit=rate_limit,
        requests_per_minute=settings.llm_requests_per_minute,
    )
    return GraphitiExtractor(
        endpoint=endpoint,
        model=settings.llm_model,
        small_model=settings.llm_small_model,
        ontology=ontology,
    )
