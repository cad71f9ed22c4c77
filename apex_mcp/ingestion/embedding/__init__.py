"""Embedding: texts to unit vectors, by a model on this machine or by an OpenAI-compatible endpoint."""

from pathlib import Path

from apex_mcp.errors import Code, Rejected
from apex_mcp.ingestion.embedding.protocol import (
    Embedder,
    EmbedderState,
    FetchProgress,
    OnProgress,
    Readiness,
    prepare_until_ready,
)
from apex_mcp.settings import Settings

__all__ = [
    "Embedder",
    "EmbedderState",
    "FetchProgress",
    "OnProgress",
    "Readiness",
    "open_embedder",
    "prepare_until_ready",
]

# One process for one model: it uses the cores by threads, and its memory is the user's choice of a model.
_CHILD_MEMORY_MB = 8192


def open_embedder(
    settings: Settings, models_folder: Path, *, of_record: str | None = None
) -> Embedder | None:
    """The embedder that the settings ask for, not yet prepared; None for `none`.

    Opening is quick and asks nobody: `prepare` fetches and loads. The caller closes it. A model's folder that is gone, or not
    complete, costs the vectors only: the embedder's state says so, and `prepare` refuses.

    Args:
        settings: which one, and its endpoint and key.
        models_folder: where models that are fetched are kept: `models` in the data folder.
        of_record: name of the embedder whose vectors the record holds.

    Raises:
        Rejected: the settings cannot work as they are (`settings_invalid`).
    """
    match settings.embedder.strip():
        case "none":
            return None
        case "openai":
            return _open_openai(settings)
        case setting:
            return _open_local(setting, models_folder, settings.idle_stop_seconds, of_record)


def _open_openai(settings: Settings) -> Embedder:
    from apex_mcp.ingestion.embedding.openai_compatible import OpenAICompatibleEmbedder, check_base_url

    check_base_url(settings.openai_base_url)
    key = settings.openai_api_key
    # Other endpoints may need none; this one answers nothing without.
    if not key and "//api.openai.com" in settings.openai_base_url:
        raise Rejected(
            "APEX_EMBEDDER=openai needs a key",
            code=Code.SETTINGS_INVALID,
            next_step="set APEX_OPENAI_API_KEY, or APEX_OPENAI_BASE_URL for an endpoint that needs none",
        )
    return OpenAICompatibleEmbedder(
        base_url=settings.openai_base_url, model=settings.openai_embedding_model, api_key=key
    )


def _open_local(setting: str, models_folder: Path, idle_seconds: float, of_record: str | None) -> Embedder:
    from apex_mcp.ingestion.embedding.local import LocalEmbedder
    from apex_mcp.ingestion.embedding.missing import MissingModel
    from apex_mcp.ingestion.embedding.models import find_model, require_model
    from apex_mcp.ingestion.pool import ChildPool

    folder = Path(setting).expanduser()
    if folder.is_absolute():
        try:
            require_model(folder)
        except Rejected as error:
            return MissingModel(of_record or f"fastembed:{folder.name}", error)
    model = find_model(setting, models_folder)
    # Loading takes a second, which a question would pay: the child stays as long as an idle daemon would.
    pool = ChildPool(size=1, memory_mb=_CHILD_MEMORY_MB, name="embedder", idle_seconds=idle_seconds)
    return LocalEmbedder(model, pool)
