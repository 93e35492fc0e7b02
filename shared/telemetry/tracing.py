"""Traces by OpenTelemetry: with the extra `otel` installed, the standard OTEL_ variables turn them on."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import Any

from shared.telemetry import logs

WHERE = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Variables that say where traces go. One of them must be set."""

STOP_SECONDS = 2.0
"""How long a role that stops goes on sending spans; a collector that is gone must not hold it up."""

log = logs.logger()

_otel: Any = None
_provider: Any = None
_tracer: Any = None


def asked_for() -> bool:
    """Whether the OTEL_ variables ask for traces."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or _exporters() == ["none"]
    return not off and any(map(os.environ.get, WHERE))


def set_up(role: str) -> None:
    """Set up tracing, once, when a role starts. Unless traces are asked for nothing is imported."""
    global _otel, _provider, _tracer  # noqa: PLW0603 as OpenTelemetry's own provider, it is one for the process
    if _provider or not asked_for():
        return
    try:
        from shared.telemetry import otel  # noqa: PLC0415
    except ImportError:
        log.warning("no traces, though OTEL_ variables ask for them: the extra `otel` is not installed")
        return
    if unknown := [each for each in _exporters() if each not in otel.EXPORTERS]:
        log.warning("no traces: OTEL_TRACES_EXPORTER names unknown exporters", unknown=unknown)
        return
    _otel, _provider = otel, otel.provider(role, _exporters())
    _tracer = _provider.get_tracer("cqrs")


def stop() -> None:
    """Send the spans that are left."""
    if _provider:
        last = Thread(target=_provider.shutdown, daemon=True)
        last.start()
        last.join(STOP_SECONDS)


def on() -> bool:
    """Whether this process traces."""
    return _tracer is not None


@contextmanager
def span(name: str, **attributes: str) -> Iterator[str]:
    """A span around code that leaves work to other processes; gives them its `traceparent`. Only if tracing is on."""
    with _tracer.start_as_current_span(name, kind=_otel.PRODUCER, attributes=_named(attributes)):
        yield _otel.traceparent()


def traceparent() -> str | None:
    """The current span's `traceparent`; None without one."""
    return _otel.traceparent() if _tracer else None


def record(name: str, *, parent: str | None, began: int, **attributes: str | int) -> None:
    """Record a span that ends now. `parent`: traceparent of the span that left this work; `began`: ns since 1970."""
    if _tracer:
        context, kind = _otel.context(parent), _otel.CONSUMER
        its = _named(attributes)
        _tracer.start_span(name, context=context, kind=kind, start_time=began, attributes=its).end(time.time_ns())


def _named(attributes: Mapping[str, str | int]) -> dict[str, str | int]:
    return {f"cqrs.{name}": value for name, value in attributes.items()}


def _exporters() -> list[str]:
    given = os.environ.get("OTEL_TRACES_EXPORTER", "").split(",")
    return [each.strip() for each in given if each.strip()] or ["otlp"]
