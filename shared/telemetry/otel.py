"""The parts of OpenTelemetry in use. Imported only where it is installed and asked for."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, urlencode

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.errors.visible import without_secrets

PRODUCER, CONSUMER = SpanKind.PRODUCER, SpanKind.CONSUMER

EXPORTERS: dict[str, type[SpanExporter]] = {"otlp": OTLPSpanExporter, "console": ConsoleSpanExporter}

REDACTED = "REDACTED"

_harmless = {"name": re.compile("[a-z_]+"), "value": re.compile("[0-9]*|true|false")}

_propagator = TraceContextTextMapPropagator()


def provider(role: str, exporters: Iterable[str]) -> TracerProvider:
    """Make the process's provider of tracers. OpenTelemetry reads the OTEL_ variables, except those for exporters."""
    name, _, __ = role.partition("@")
    own = {"service.name": f"cqrs-{name}", "service.instance.id": role}
    resource = Resource.create({**own, **OTELResourceDetector().detect().attributes})
    made = TracerProvider(resource=resource, shutdown_on_exit=False)  # that would wait for a collector that is gone
    made.add_span_processor(_Redacting())
    for each in exporters:
        made.add_span_processor(BatchSpanProcessor(EXPORTERS[each]()))
    trace.set_tracer_provider(made)
    return made


class _Redacting(SpanProcessor):
    """Takes keys and tokens out of what spans say of a request, and what may be personal out of its query."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 its caller names it
        for name, value in (span.attributes or {}).items():
            if isinstance(value, str):
                shown = _redacted(value) if name == "url.query" else without_secrets(value)
                if shown != value:
                    span.set_attribute(name, shown)


def _redacted(query: str) -> str:
    """The query with only those values that tell nothing of a person: numbers, true and false."""
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode([(_if_harmless("name", name), _if_harmless("value", value)) for name, value in pairs])


def _if_harmless(what: str, text: str) -> str:
    return text if _harmless[what].fullmatch(text) else REDACTED


def traceparent() -> str | None:
    """The current span's `traceparent`; None without one."""
    carrier: dict[str, Any] = {}
    _propagator.inject(carrier)
    return carrier.get("traceparent")


def context(parent: str | None) -> Context:
    """The context of a span whose parent has this `traceparent`."""
    return _propagator.extract({"traceparent": parent} if parent else {}, Context())
