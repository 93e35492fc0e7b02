"""Traces by OpenTelemetry, for who has the extra `otel` and says by the standard OTEL_ variables where they go."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from shared.telemetry import logs

WHERE = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""One of them must be set."""

STOP_WITHIN = 2.0
"""Seconds to send what is left when a role stops; a collector that is gone must not hold it up."""

log = logs.logger()

_otel: Any = None
_provider: Any = None
_tracer: Any = None


def asked_for() -> bool:
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or _exporters() == ["none"]
    return not off and any(map(os.environ.get, WHERE))


def set_up(role: str) -> None:
    """Once, when a role starts. If nobody asks for traces nothing is imported."""
    global _otel, _provider, _tracer  # noqa: PLW0603 as OpenTelemetry's own provider, it is one for the process
    if _provider or not asked_for():
        return
    try:
        from shared.telemetry import otel  # noqa: PLC0415
    except ImportError:
        log.warning("no traces, though OTEL_ variables ask for them: the extra `otel` is not installed")
        return
    if unknown := [each for each in _exporters() if each not in otel.EXPORTERS]:
        log.warning("no traces: OTEL_TRACES_EXPORTER has what isn't known here", unknown=unknown)
        return
    _otel, _provider = otel, otel.provider(role, _exporters())
    _tracer = _provider.get_tracer("cqrs")


def stop() -> None:
    """Send what is left."""
    if _provider:
        last = Thread(target=_provider.shutdown, daemon=True)
        last.start()
        last.join(STOP_WITHIN)


def on() -> bool:
    return _tracer is not None


@contextmanager
def span(name: str) -> Iterator[str]:
    """Around what leaves work for others, who are to have its `traceparent`; only where tracing is on."""
    with _tracer.start_as_current_span(name, kind=_otel.PRODUCER):
        yield _otel.traceparent()


def traceparent() -> str | None:
    """Of the span that is current."""
    return _otel.traceparent() if _tracer else None


def record(name: str, *, parent: str | None, began: int, **attributes: str | int) -> None:
    """A span that ends now, of work that others left; `began` is in nanoseconds since 1970."""
    if _tracer:
        context, kind = _otel.context(parent), _otel.CONSUMER
        its = {f"cqrs.{key}": value for key, value in attributes.items()}
        _tracer.start_span(name, context=context, kind=kind, start_time=began, attributes=its).end(time.time_ns())


def _exporters() -> list[str]:
    given = os.environ.get("OTEL_TRACES_EXPORTER", "").split(",")
    return [each.strip() for each in given if each.strip()] or ["otlp"]
