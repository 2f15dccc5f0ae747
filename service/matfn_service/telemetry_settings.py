"""Checks of OpenTelemetry's variables: a faulty address ends the start, a faulty sampler is told in the log.

The specification has no use for an endpoint that is no URL, but wants a sampler that is not known to be reported and
ignored (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/, "Enum" and "Numeric").
Nothing of the library is imported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ENDPOINTS", "endpoint_faults", "is_switched_off", "sampler_faults"]

ENDPOINTS: Final = tuple(
    f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT" for signal in ("", "TRACES_", "METRICS_")
)  # one of them has to be set
_OFF: Final = "OTEL_SDK_DISABLED"
_SAMPLER, _RATIO = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
_RATIO_SAMPLERS: Final = ("traceidratio", "parentbased_traceidratio")
_SAMPLERS: Final = (
    "always_on",
    "always_off",
    "parentbased_always_on",
    "parentbased_always_off",
    *_RATIO_SAMPLERS,
)  # those that the library knows


def is_switched_off(environment: Mapping[str, str]) -> bool:
    """Whether nothing of OpenTelemetry is wanted, whatever else is set."""
    return environment.get(_OFF, "").strip().lower() == "true"


def endpoint_faults(environment: Mapping[str, str]) -> Iterator[str]:
    """A line for each address of a collector that is none; one with a password in it is not told."""
    for name in ENDPOINTS:
        written = environment.get(name, "")
        if written and not is_switched_off(environment) and not _is_url(written):
            shown = "..." if "@" in written else written
            yield f"{name}={shown}: must be a URL such as http://collector:4318, with http or https, and no query"


def _is_url(written: str) -> bool:
    try:
        parts = urlsplit(written)
        port = parts.port
    except ValueError:  # brackets without an address, or a port that is none
        return False
    is_plain = not any(sign.isspace() for sign in written) and not parts.query and not parts.fragment
    return is_plain and parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


def sampler_faults(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Faults of the sampler's settings, each with what is done instead."""
    sampler = environment.get(_SAMPLER, "").strip().lower()
    if sampler and sampler not in _SAMPLERS:
        yield f"{_SAMPLER}={sampler} is none of {', '.join(_SAMPLERS)}", "it is parentbased_always_on"
    ratio = environment.get(_RATIO, "")
    if sampler in _RATIO_SAMPLERS and not _is_share(ratio):
        yield f"{_RATIO}={ratio} is no number from 0 to 1", "all traces are recorded"


def _is_share(written: str) -> bool:
    try:
        return 0 <= float(written) <= 1
    except ValueError:
        return False
