"""One taxonomy of errors. Every error says what happened, what was left unchanged, and what to do next.

    ApexError
    ├── InputError      the caller can fix it: a bad argument, a bad file, a path outside the roots
    ├── NotFound        an id or name that nothing has
    ├── Conflict        the state does not allow it: already finished, overtaken, another owner
    ├── Unavailable     a component does not answer now; the same call may work later (retryable)
    ├── Rejected        a provider or a limit said no; trying again changes nothing by itself
    └── Invariant       our own bug: something that must hold does not

Drivers' errors are translated once per backend, where the driver is called, with the cause kept. ApexErrors become a retry
posture in the worker, and a tool error at the MCP door. Messages never carry content, secrets or paths of ours.
"""

from enum import StrEnum
from typing import Any, ClassVar


class Code(StrEnum):
    """Stable codes; `docs/errors.md` has a heading for each."""

    # input: arguments
    INVALID_ARGUMENT = "invalid_argument"
    INVALID_NAMESPACE = "invalid_namespace"
    # input: places
    PATH_NOT_FOUND = "path_not_found"
    PATH_IS_FOLDER = "path_is_folder"
    PATH_OUTSIDE_ROOTS = "path_outside_roots"
    PATH_NOT_READABLE = "path_not_readable"
    NO_ROOTS = "no_roots"
    SOURCE_NOT_SUPPORTED = "source_not_supported"
    # input: content
    EMPTY_CONTENT = "empty_content"
    NO_TEXT = "no_text"
    TOO_LARGE = "too_large"
    UNSUPPORTED_TYPE = "unsupported_type"
    TYPE_MISMATCH = "type_mismatch"
    PASSWORD_PROTECTED = "password_protected"
    MALFORMED = "malformed"
    # input: archives and backups
    FILE_EXISTS = "file_exists"
    ARCHIVE_INVALID = "archive_invalid"
    ARCHIVE_NEWER = "archive_newer"
    # parsing
    PARSER_CRASHED = "parser_crashed"
    PARSER_TIMEOUT = "parser_timeout"
    PARSER_MEMORY = "parser_memory"
    # not found, conflict
    NOT_FOUND = "not_found"
    ALREADY_FINISHED = "already_finished"
    NOT_RETRYABLE = "not_retryable"
    NOT_MERGED = "not_merged"
    NOT_SPLIT = "not_split"
    ALREADY_RUNNING = "already_running"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    CANCELLED = "cancelled"
    RECORD_OWNED = "record_owned"
    # unavailable
    RECORD_UNAVAILABLE = "record_unavailable"
    VECTORS_UNAVAILABLE = "vectors_unavailable"
    GRAPH_UNAVAILABLE = "graph_unavailable"
    CACHE_UNAVAILABLE = "cache_unavailable"
    STAGING_UNAVAILABLE = "staging_unavailable"
    TEMPORAL_UNAVAILABLE = "temporal_unavailable"
    EMBEDDER_UNAVAILABLE = "embedder_unavailable"
    MODEL_UNAVAILABLE = "model_unavailable"
    PARSER_UNAVAILABLE = "parser_unavailable"
    DAEMON_UNAVAILABLE = "daemon_unavailable"
    DAEMON_RESTARTED = "daemon_restarted"
    STARTING = "starting"
    DISK_FULL = "disk_full"
    # rejected
    PROVIDER_REJECTED = "provider_rejected"
    MODEL_ANSWER_UNUSABLE = "model_answer_unusable"
    BUDGET_SPENT = "budget_spent"
    SETTINGS_INVALID = "settings_invalid"
    DATA_FOLDER_UNUSABLE = "data_folder_unusable"
    POSTGRES_VERSION = "postgres_version"
    SCHEMA_NEWER = "schema_newer"
    UNAUTHORIZED = "unauthorized"
    # ours
    INVARIANT = "invariant"


class ApexError(Exception):
    """Base of all errors that may reach a caller.

    Args:
        message: what happened; lower case, no full stop.
        code: stable code, never reworded.
        unchanged: what was left unchanged ("nothing was stored").
        next_step: what the caller can do now.
        retry_after_seconds: when the same call may work, for retryable errors.
        details: values as fields, safe to show (no content, no secrets).
    """

    default_code: ClassVar[Code] = Code.INVARIANT
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: Code | None = None,
        unchanged: str = "nothing was changed",
        next_step: str = "",
        retry_after_seconds: float | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.unchanged = unchanged
        self.next_step = next_step
        self.retry_after_seconds = retry_after_seconds
        self.details = details or {}

    def __str__(self) -> str:
        parts = [f"{self.code}: {self.message}", self.unchanged, self.next_step]
        return "; ".join(part for part in parts if part)

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross process borders (the parser pool), so they pickle whole."""
        return (_rebuild, (type(self), self.to_dict()))

    def to_dict(self) -> dict[str, Any]:
        """The error as plain data: for the wire, the record and the command line's `--json`."""
        return {
            "code": str(self.code),
            "message": self.message,
            "unchanged": self.unchanged,
            "next_step": self.next_step,
            "retryable": self.retryable,
            "retry_after_seconds": self.retry_after_seconds,
            "details": self.details,
        }


def _rebuild(kind: type[ApexError], data: dict[str, Any]) -> ApexError:
    return kind(
        data["message"],
        code=Code(data["code"]),
        unchanged=data["unchanged"],
        next_step=data["next_step"],
        retry_after_seconds=data["retry_after_seconds"],
        details=data["details"],
    )


class InputError(ApexError):
    """The caller can fix it."""

    default_code = Code.INVALID_ARGUMENT


class NotFound(ApexError):
    """Nothing has this id or name."""

    default_code = Code.NOT_FOUND


class Conflict(ApexError):
    """The present state does not allow it."""

    default_code = Code.ALREADY_FINISHED


class Unavailable(ApexError):
    """A component does not answer now; the same call may work later."""

    default_code = Code.RECORD_UNAVAILABLE
    retryable = True


class Rejected(ApexError):
    """A provider, a limit or a setting said no."""

    default_code = Code.PROVIDER_REJECTED


class Invariant(ApexError):
    """Our own bug."""

    default_code = Code.INVARIANT


KINDS: dict[str, type[ApexError]] = {
    kind.__name__: kind for kind in (InputError, NotFound, Conflict, Unavailable, Rejected, Invariant)
}


def from_dict(data: dict[str, Any], kind: str = "Rejected") -> ApexError:
    """Rebuild an error that crossed a socket as `to_dict` data, as the class named `kind`."""
    return _rebuild(KINDS.get(kind, Rejected), data)
