"""Answers as CloudEvents, as KServe's logger sends them: a request event and a response event of one id, over HTTP in binary mode.

    ce-type    org.kubeflow.serving.inference.request, ...response
    ce-id      the request's id, the same for both
    ce-source, ce-inferenceservicename, ce-namespace, ce-component, ce-endpoint, ce-metadata
    data       {"instances": [{field: value, ...}, ...]}, {"predictions": [{"pctr", "logit"}, ...]}

Attributes after kserve 0.20, pkg/logger/worker.go. Two departures: KServe's agent copies the bytes of V1 and V2, here every protocol's requests
become V1's, defaults filled in and personal fields hashed; and a broker that fails is asked again, where the agent gives the event up.
The queue is bounded and offers never wait: while a broker is away the newest answers are dropped, and counted.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import orjson
from pydantic import BaseModel, Field

from clickmill.contract import FeatureContract
from clickmill.errors import UsageError
from clickmill.prediction_log import Answered, Kept, Salt, is_kept, to_table
from serving.metrics import Metrics

log = logging.getLogger(__name__)

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"
_JSON = "application/json"
_TOLD_EVERY_SECONDS = 30.0
_PLAIN = "!#$&'()*+,/:;=?@[]^`{|}<>\\"
"""What stands in an attribute's header as it is, beside letters, digits and `_.-~` (CloudEvents 1.0.2, HTTP binding, 3.1.3.2)."""

Event = tuple[dict[str, str], bytes]
"""Headers and body of a POST."""


@dataclass(frozen=True)
class _Problem:
    """Why a broker did not take an event, and whether it ever will."""

    words: str
    final: bool


class EventSettings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Where events go and what is logged."""

    url: str
    """The broker, or whatever else takes CloudEvents by POST."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the requests that is logged, decided by the request's id."""
    features: Kept = Kept.VALUES
    """What is logged of the features. With NOTHING there are only response events."""
    namespace: str = ""
    """Of the InferenceService; left out where empty."""
    endpoint: str = "default"
    """KServe's word for the part of a rollout that answered: default or canary."""
    pending_rows: int = Field(default=50_000, ge=1)
    """Most candidates that wait in memory; beyond it answers are dropped and counted. 50,000 of 40 fields are about 100 MB."""
    senders: int = Field(default=4, ge=1)
    """Threads that send. Each waits for the broker's answer before its next event: at 10 ms, 4 send 400 events a second."""
    timeout_seconds: float = Field(default=5.0, gt=0)
    """What a broker may take to accept one event."""
    first_pause_seconds: float = Field(default=0.1, gt=0)
    """Before an event is tried again; doubled with each failure."""
    longest_pause_seconds: float = Field(default=10.0, gt=0)
    """Where doubling ends."""

    @classmethod
    def at(cls, url: str, environment: Mapping[str, str] = os.environ, **settings: Any) -> EventSettings:
        """Settings for a broker; POD_NAMESPACE of the environment gives the namespace. Raises UsageError for what is no URL."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UsageError(
                f"--log-events {url}: give the URL of a broker, say http://broker-ingress.knative-eventing/ads/default"
            )
        return cls(url=url, namespace=environment.get("POD_NAMESPACE", ""), **settings)


class CloudEventsSink:
    """Takes answers from any thread; sends them from its own."""

    def __init__(self, model: str, *, settings: EventSettings, salt: Salt | None, metrics: Metrics) -> None:
        self._model, self._settings, self._salt = model, settings, salt
        outcomes = ("sent", "refused", "dropped", "lost")
        self._sent, self._refused, self._dropped, self._lost = (
            metrics.log_events.labels(model, outcome) for outcome in outcomes
        )
        self._retries = metrics.log_event_retries.labels(model)
        self._pending_gauge = metrics.log_events_pending.labels(model)
        self._per_answer = 1 if settings.features is Kept.NOTHING else 2
        self._queue: deque[tuple[FeatureContract, Answered]] = deque()
        self._pending_rows = 0
        self._changed = threading.Condition()
        self._closing = False
        self._give_up_at = float("inf")
        self._told = -_TOLD_EVERY_SECONDS
        self._threads = [
            threading.Thread(target=self._run, name=f"cloud-events-{number}", daemon=True)
            for number in range(settings.senders)
        ]

    def start(self) -> None:
        """Start the sending threads."""
        for thread in self._threads:
            thread.start()

    def wants(self, request_id: str) -> bool:
        """Whether a request belongs to the share: asked before its rows are made."""
        return is_kept(request_id, self._settings.share)

    def offer(self, answer: Answered, contract: FeatureContract) -> None:
        """Send an answer if its request belongs to the share and there is room. Never waits, never raises."""
        if not self.wants(answer.request_id):
            return
        with self._changed:
            room = self._pending_rows + answer.rows <= self._settings.pending_rows and not self._closing
            if room:
                self._pending_rows += answer.rows
                self._queue.append((contract, answer))
                self._changed.notify()
        if room:
            self._pending_gauge.inc(self._per_answer)
        else:
            self._dropped.inc(self._per_answer)

    def close(self, timeout: float) -> None:
        """Send what waits; what the broker does not take within `timeout` seconds is counted as dropped."""
        with self._changed:
            self._closing = True
            self._give_up_at = time.monotonic() + timeout
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, self._give_up_at - time.monotonic()))
        with self._changed:
            left = len(self._queue)
            self._queue.clear()
        if left:
            self._dropped.inc(left * self._per_answer)
            log.warning("CloudEvents: %d answers could not be sent before the end", left)

    def _run(self) -> None:
        with httpx.Client(timeout=self._settings.timeout_seconds, trust_env=False) as client:
            while (taken := self._take()) is not None:
                contract, answer = taken
                try:
                    events = self._events(answer, contract)
                except Exception:  # a bug must cost this answer, not the sink
                    log.exception("CloudEvents: an answer could not be turned into events")
                    self._lost.inc(self._per_answer)
                else:
                    for event in events:
                        self._send(client, event)
                self._pending_gauge.dec(self._per_answer)
                with self._changed:
                    self._pending_rows -= answer.rows

    def _take(self) -> tuple[FeatureContract, Answered] | None:
        """The oldest answer, when there is one; None at the end."""
        with self._changed:
            while not self._queue:
                if self._closing:
                    return None
                self._changed.wait()
            return self._queue.popleft()

    def _send(self, client: httpx.Client, event: Event) -> None:
        pause = self._settings.first_pause_seconds
        while True:
            problem = _try(client, self._settings.url, event)
            if problem is None:
                self._sent.inc()
                return
            if problem.final:
                self._tell(f"refused an event for good: {problem.words}")
                self._refused.inc()
                return
            self._tell(f"{problem.words}; tried again until it answers")
            # the jitter keeps senders that failed together from coming back together
            if not self._wait(pause * random.uniform(0.5, 1.5)):
                self._dropped.inc()
                return
            self._retries.inc()
            pause = min(2 * pause, self._settings.longest_pause_seconds)

    def _wait(self, seconds: float) -> bool:
        """Pause; False when the end comes first."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._closing, seconds):
                return True
        if time.monotonic() + seconds >= self._give_up_at:
            return False
        time.sleep(seconds)
        return True

    def _tell(self, words: str) -> None:
        now = time.monotonic()
        if now - self._told >= _TOLD_EVERY_SECONDS:
            self._told = now
            log.warning("CloudEvents: %s: %s", self._settings.url, words)

    def _events(self, answer: Answered, contract: FeatureContract) -> list[Event]:
        table = to_table([answer], contract, self._settings.features, self._salt)
        predictions = [
            {"pctr": pctr, "logit": logit}
            for pctr, logit in zip(table["pctr"].to_pylist(), table["logit"].to_pylist(), strict=True)
        ]
        response = self._event(RESPONSE, answer, {"predictions": predictions})
        if self._settings.features is Kept.NOTHING:
            return [response]
        if self._settings.features is Kept.VALUES:
            rows = table["features"].to_pylist()
            instances = [{name: value for name, value in row.items() if value is not None} for row in rows]
        else:
            instances = table.select(["features_md5"]).to_pylist()
        return [self._event(REQUEST, answer, {"instances": instances}), response]

    def _event(self, kind: str, answer: Answered, data: Any) -> Event:
        settings = self._settings
        attributes = {
            "specversion": "1.0",
            "id": answer.request_id,
            "type": kind,
            "source": f"/clickmill/{self._model}",
            "time": _rfc3339(answer.time_us),
            "inferenceservicename": self._model,
            "namespace": settings.namespace,
            "component": "predictor",
            "endpoint": settings.endpoint,
        }
        headers = {f"ce-{name}": quote(value, safe=_PLAIN) for name, value in attributes.items() if value}
        # as KServe's agent has it: JSON of lists, and its quotes as they are
        told = {"bundle": [answer.bundle]} | ({"fallback": [answer.fallback]} if answer.fallback else {})
        headers["ce-metadata"] = orjson.dumps(told).decode()
        return {**headers, "content-type": _JSON}, orjson.dumps(data)


def _try(client: httpx.Client, url: str, event: Event) -> _Problem | None:
    """Send an event once; None when it was taken."""
    headers, body = event
    try:
        status = client.post(url, content=body, headers=headers).status_code
    except httpx.HTTPError as error:
        return _Problem(f"no answer ({error or type(error).__name__})", final=False)
    if 200 <= status < 300:
        return None
    return _Problem(f"HTTP {status}", final=400 <= status < 500 and status not in (408, 429))


def _rfc3339(time_us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)).isoformat()
