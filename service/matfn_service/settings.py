"""Every setting of the server, read from environment variables named `MATFN_` and the field's name in capitals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from matfn_service.cors import origins_in
from matfn_service.memory_limit import memory_limit
from matfn_service.memory_plan import (
    default_batch_bytes,
    default_message_bytes,
    default_queue_bytes,
    default_request_bytes,
    default_shared_bytes,
    fronts_bytes,
    held_bytes,
    kept_bytes,
    resting_bytes,
    worker_bytes,
)
from matfn_service.tenants import ApiKey, keys_in

if TYPE_CHECKING:
    from typing import Any

__all__ = ["Settings"]

_MIB: Final = 2**20
_MEMORY_SHARE: Final = 3 / 4  # the rest is for what the ledger does not know of


class Settings(BaseSettings):
    """The server's settings; each field's description is its line in the operations manual."""

    model_config = SettingsConfigDict(
        env_prefix="MATFN_", env_ignore_empty=True, frozen=True, extra="ignore", allow_inf_nan=False
    )

    host: str = Field(
        default="127.0.0.1", description="Address to listen on; one other machines can reach wants MATFN_API_KEYS."
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one and logs it.")
    uds: Path | None = Field(default=None, description="Unix socket to listen on instead of host and port.")
    grpc_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port of the Open Inference Protocol over gRPC on the same host, which needs matfn[grpc]; 0 takes a"
        " free one and logs it; unset: none.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where kernels run; auto takes a GPU if there is one."
    )
    lanes: int | None = Field(
        default=None, ge=1, le=1024, description="Deprecated name of MATFN_WORKERS, read where that is unset."
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        validate_default=True,
        description="Computing processes on a CPU; unset: one a core.",
    )
    fronts: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that hold connections and bodies, the service's own among them (see Fronts). They share"
        " MATFN_MEMORY, and listen on a host and port only.",
    )
    api_keys: Annotated[tuple[ApiKey, ...], NoDecode] = Field(
        default=(),
        description="Keys callers must send as `Authorization: Bearer KEY`, with commas between, each with name"
        " and limits if it has some (see Keys); empty: open.",
    )
    api_keys_file: Path | None = Field(
        default=None, description="File with the keys instead, one a line, written alike (see Keys)."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Origins whose web pages may call this server, such as `https://example.org`, with commas between,"
        " or `*` for any; empty: none.",
    )
    max_order: int = Field(default=8192, ge=1, description="Largest number of rows or columns of a matrix.")
    max_items: int = Field(default=65536, ge=1, description="Largest number of matrices in one call.")
    max_elements: int = Field(
        default=2**28,
        ge=1,
        description="Largest number of entries in all inputs of one call after broadcasting, and in all its outputs.",
    )
    memory: int = Field(
        default_factory=lambda _: int(memory_limit() * _MEMORY_SHARE),
        ge=_MIB,
        description="Memory of the service and its workers, in bytes; unset: three quarters of the container's or the"
        " machine's.",
    )
    batch_bytes: int = Field(
        default_factory=lambda given: default_batch_bytes(_memory_beside_fronts(given), given["workers"]),
        ge=1,
        description="Inputs and outputs of one batch, in bytes; unset: 256 MiB, or what MATFN_MEMORY allows.",
    )
    queue_bytes: int = Field(
        default_factory=lambda given: default_queue_bytes(_held(given)),
        ge=1024,
        description="Inputs and outputs of all calls that wait or run, in bytes; beyond: 429; unset: 4 GiB, or what"
        " MATFN_MEMORY allows.",
    )
    max_request_bytes: int = Field(
        default_factory=lambda given: default_request_bytes(given["queue_bytes"]),
        ge=1024,
        description="Largest request body, in bytes; unset: 576 MiB, or a third of MATFN_QUEUE_BYTES.",
    )
    grpc_message_bytes: int = Field(
        default_factory=lambda given: default_message_bytes(given["max_request_bytes"]),
        ge=1024,
        le=2**31 - 1,
        description="Largest message over gRPC, in bytes; each that takes long to arrive is charged as much; unset: an"
        " eighth of MATFN_MAX_REQUEST_BYTES, 4 to 64 MiB.",
    )
    queue_seconds: float = Field(
        default=120.0, gt=0, description="Predicted device seconds that may wait; beyond: 429."
    )
    shared_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Memory shared with clients on the unix socket, in bytes, 0 for none; unset: four times"
        " MATFN_MAX_REQUEST_BYTES, or what MATFN_MEMORY allows.",
    )
    shared_client_bytes: int | None = Field(
        default=None, ge=0, description="The part of it that one client process may have; unset: half."
    )
    batch_seconds: float = Field(default=0.1, gt=0, description="Predicted device seconds of one batch.")
    aging_seconds: float = Field(
        default=10.0, gt=0, description="Seconds of waiting that weigh as much as one level of priority."
    )
    drain_seconds: float = Field(
        default=20.0, gt=0, description="Time from SIGTERM to the exit, in which queued work is answered."
    )
    body_seconds: float = Field(default=300.0, gt=0, description="Time in which a request's body must have arrived.")
    write_idle_seconds: float = Field(
        default=30.0, gt=0, description="How long a caller may read nothing of its answer; then it is dropped."
    )
    write_rate: int = Field(
        default=64 * 2**10,
        ge=0,
        description="Bytes a second at which a caller must read its answer, on average after MATFN_WRITE_IDLE_SECONDS;"
        " 0: any.",
    )
    max_connections: int = Field(
        default=4096, ge=1, description="Connections at the same time, where descriptors allow; beyond: 503 and closed."
    )
    keep_alive_seconds: int = Field(default=75, ge=1, description="How long an idle connection stays open.")
    profile: Path | None = Field(
        default=None,
        description="Profile to choose methods by, of `matfn calibrate`; unset: that shipped for this machine.",
    )
    site: Path | None = Field(
        default=None,
        description="Archive of the documentation site, written by `make docs` and served at /docs/; unset: the"
        " package's own, if it has one.",
    )
    cache_dir: Path | None = Field(
        default=None, description="Where kernels compiled for a GPU are kept; unset: in the user's home."
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="Log lines for people or for machines."
    )
    access_log: Literal["off", "info", "json"] = Field(
        default="off",
        description="A line for each request: info, as the log's own lines at level info; json, as JSON in any log.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )

    @field_validator("workers", mode="after")
    @classmethod
    def _read_deprecated(cls, value: int | None, info: ValidationInfo) -> int | None:
        return info.data.get("lanes") if value is None else value

    @model_validator(mode="before")
    @classmethod
    def _read_keys(cls, values: dict[str, object]) -> dict[str, object]:
        """Takes the keys from their file, if they are in one; keys that come to nothing must not open the server."""
        path, written = values.get("api_keys_file"), values.get("api_keys")
        if isinstance(path, (str, Path)):
            if written:
                raise ValueError("MATFN_API_KEYS and MATFN_API_KEYS_FILE are both set: keep one of them")
            return {**values, "api_keys": _keys_of(f"MATFN_API_KEYS_FILE={path}", _text_of(Path(path)))}
        if isinstance(written, str) and written:
            source = "MATFN_API_KEYS" if written.strip(" ,\n") else f"MATFN_API_KEYS={written}"
            return {**values, "api_keys": _keys_of(source, written)}
        return values

    @model_validator(mode="before")
    @classmethod
    def _read_origins(cls, values: dict[str, object]) -> dict[str, object]:
        written = values.get("cors_origins")
        if not isinstance(written, str):
            return values
        try:
            return {**values, "cors_origins": origins_in(written)}
        except ValueError as error:
            raise ValueError(f"MATFN_CORS_ORIGINS={written}: {error}") from None

    @property
    def held_bytes(self) -> int:
        """Bytes that all requests together may be charged."""
        return held_bytes(self.memory - fronts_bytes(self.fronts), self.workers, self.batch_bytes)

    @property
    def kept_bytes(self) -> int:
        """Bytes of memory for large bodies and answers that are kept for the next ones."""
        return kept_bytes(self.held_bytes)

    @property
    def worker_bytes(self) -> int:
        """Bytes that a worker has for what it computes."""
        return worker_bytes(self.batch_bytes)

    @property
    def most_shared_bytes(self) -> int:
        """Memory that is shared with clients, all together."""
        if self.shared_bytes is not None:
            return self.shared_bytes
        return default_shared_bytes(self.max_request_bytes, self.held_bytes)

    @property
    def most_shared_client_bytes(self) -> int:
        """Memory that is shared with one client process."""
        return self.most_shared_bytes // 2 if self.shared_client_bytes is None else self.shared_client_bytes

    @model_validator(mode="after")
    def _memory_holds_the_processes(self) -> Self:
        resting = resting_bytes(self.workers) + fronts_bytes(self.fronts)
        if "memory" in self.model_fields_set and self.memory <= resting:
            raise ValueError(
                f"MATFN_MEMORY={self.memory} is no more than the {resting} bytes of the processes before they compute:"
                " raise it or lower MATFN_WORKERS or MATFN_FRONTS"
            )
        return self

    @model_validator(mode="after")
    def _fronts_listen_on_a_port(self) -> Self:
        if self.fronts > 1 and self.uds is not None:
            raise ValueError(
                f"MATFN_FRONTS={self.fronts} with MATFN_UDS={self.uds}: callers on a unix socket share memory with one"
                " process; unset one of the two"
            )
        return self

    @model_validator(mode="after")
    def _queue_holds_a_request(self) -> Self:
        if self.queue_bytes < self.max_request_bytes:
            raise ValueError(
                f"MATFN_QUEUE_BYTES={self.queue_bytes} is below MATFN_MAX_REQUEST_BYTES={self.max_request_bytes}:"
                " raise the first or lower the second"
            )
        return self

    @model_validator(mode="after")
    def _request_holds_a_message(self) -> Self:
        if self.max_request_bytes < self.grpc_message_bytes:
            raise ValueError(
                f"MATFN_GRPC_MESSAGE_BYTES={self.grpc_message_bytes} exceeds"
                f" MATFN_MAX_REQUEST_BYTES={self.max_request_bytes}: lower the first or raise the second"
            )
        return self


def _memory_beside_fronts(given: dict[str, Any]) -> int:
    memory: int = given["memory"] - fronts_bytes(given["fronts"])
    return memory


def _held(given: dict[str, Any]) -> int:
    return held_bytes(_memory_beside_fronts(given), given["workers"], given["batch_bytes"])


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(f"MATFN_API_KEYS_FILE={path}: {reason}") from None


def _keys_of(source: str, text: str) -> tuple[ApiKey, ...]:
    try:
        keys = keys_in(text)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    if not keys:
        raise ValueError(f"{source}: there is no key in it")
    return keys
