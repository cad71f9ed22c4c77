"""Where Temporal is, and how to reach it: the bundled server, or one of the user's."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from temporalio.api.failure.v1 import Failure
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.converter import DataConverter, DefaultFailureConverter, PayloadConverter
from temporalio.service import RPCError, RPCStatusCode, TLSConfig

from apex_mcp.addresses import is_host_and_port
from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.settings import Settings


class _CodesOnly(DefaultFailureConverter):
    """Failures go to Temporal as codes: words and stack traces of an error, or of its cause, hold paths and may hold values."""

    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        super().to_failure(exception, payload_converter, failure)
        one = failure
        while True:
            one.stack_trace = ""
            # Of the other kinds the words are Temporal's.
            if one.HasField("application_failure_info"):
                one.message = one.application_failure_info.type
            if not one.HasField("cause"):
                return
            one = one.cause


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalPlace:
    """A Temporal server.

    Attributes:
        own: the user's, which others may use as well; else the bundled one.
    """

    address: str
    namespace: str = "default"
    tls: bool | TLSConfig = False
    api_key: str | None = None
    own: bool = False

    async def connect(self, *, lazy: bool = False) -> Client:
        """A client; a worker needs one that is not lazy. A lazy one connects at its first call.

        Raises:
            Unavailable: the server does not answer.
            Rejected: it has no such namespace (`settings_invalid`); of a lazy one `verify` finds out.
        """
        try:
            client = await Client.connect(
                self.address,
                namespace=self.namespace,
                tls=self.tls,
                api_key=self.api_key,
                lazy=lazy,
                data_converter=replace(DataConverter.default, failure_converter_class=_CodesOnly),
            )
        except (RPCError, RuntimeError) as error:
            raise Unavailable(
                "Temporal does not answer",
                code=Code.TEMPORAL_UNAVAILABLE,
                next_step="`apex-mcp doctor` shows what is wrong",
                retry_after_seconds=2,
            ) from error
        if self.own and not lazy:
            with suppress(RPCError):  # whoever may poll may not always ask for it
                await self.verify(client)
        return client

    async def verify(self, client: Client) -> None:
        """Ask for the namespace.

        Raises:
            RPCError: the server does not answer, or not to this question.
            Rejected: there is no such namespace (`settings_invalid`).
        """
        try:
            await client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=self.namespace)
            )
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            raise Rejected(
                f"Temporal has no namespace {self.namespace}",
                code=Code.SETTINGS_INVALID,
                next_step="correct APEX_TEMPORAL_NAMESPACE, or make the namespace on the server",
                details={"settings": ["temporal_namespace"]},
            ) from error


def users_temporal(settings: Settings) -> TemporalPlace:
    """The server that the settings name.

    Raises:
        Rejected: the address is none, or a certificate cannot be read or is only half there (`settings_invalid`).
    """
    key = settings.temporal_api_key
    return TemporalPlace(
        address=_address(settings.temporal_address or ""),
        namespace=settings.temporal_namespace,
        tls=_tls(settings),
        api_key=key.get_secret_value() if key else None,
        own=True,
    )


def _address(given: str) -> str:
    if not is_host_and_port(given):
        raise Rejected(
            "APEX_TEMPORAL_ADDRESS (TEMPORAL_ADDRESS) is not an address of Temporal",
            code=Code.SETTINGS_INVALID,
            unchanged="nothing was started",
            next_step="write it as host:port, without http://; APEX_TEMPORAL_TLS=true asks for TLS",
            details={"settings": ["temporal_address"]},
        )
    return given


def _tls(settings: Settings) -> bool | TLSConfig:
    files = (settings.temporal_tls_ca, settings.temporal_tls_cert, settings.temporal_tls_key)
    if (settings.temporal_tls_cert is None) is not (settings.temporal_tls_key is None):
        raise _unfit("a client's certificate and its key belong together")
    if any(files):
        authority, certificate, private_key = (_read(file) for file in files)
        return TLSConfig(
            server_root_ca_cert=authority, client_cert=certificate, client_private_key=private_key
        )
    # A key travels in every call, so it never goes out in the clear.
    return settings.temporal_tls or settings.temporal_api_key is not None


def _read(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unfit(f"{file.name} cannot be read") from error


def _unfit(what: str) -> Rejected:
    return Rejected(
        f"the settings of Temporal's TLS do not fit: {what}",
        code=Code.SETTINGS_INVALID,
        unchanged="nothing was started",
        next_step="correct APEX_TEMPORAL_TLS_CA, APEX_TEMPORAL_TLS_CERT and APEX_TEMPORAL_TLS_KEY",
    )
