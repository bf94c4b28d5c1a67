"""The people of a drill, and the dead man's switch: two webhooks that note what reaches them."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from monitoring.drills.timeline import Kind, Timeline

SILENCE_SECONDS = 8.0
"""After which the switch calls: four times the pause between two beats."""


class Pager:
    """Listens from `start` to `stop`. An alert is noted once, until it is resolved."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._told: set[str] = set()
        self.beat: float | None = None
        """When the dead man's switch last heard something."""
        self._silent = False
        pager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.end_headers()
                pager.hear(self.path, body)

            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="pager", daemon=True)

    @property
    def url(self) -> str:
        """Base; `/people` and `/dead-man` are listened to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def hear(self, path: str, body: dict[str, Any]) -> None:
        """A webhook's body."""
        if path == "/dead-man":
            if not any(alert["status"] == "firing" for alert in body["alerts"]):
                return  # Alertmanager says that it hears nothing from Prometheus any more
            self.beat = time.time()
            if self._silent:
                self._silent = False
                self._timeline.note(Kind.SILENCE, "the dead man's switch hears alerts again", name="over")
            return
        for alert in body["alerts"]:
            labels = alert["labels"]
            key = f"{labels}"
            if alert["status"] == "resolved":
                self._told.discard(key)
            elif key not in self._told:
                self._told.add(key)
                words = f"people are told: {labels['alertname']}: {alert['annotations'].get('summary', '')}"
                self._timeline.note(
                    Kind.TOLD,
                    words,
                    name=labels["alertname"],
                    action=labels.get("action", ""),
                    bundle=labels.get("bundle", ""),
                )

    def listen_for_silence(self) -> None:
        """Called every moment: notes once that nothing was heard for too long."""
        if self.beat is not None and not self._silent and time.time() - self.beat > SILENCE_SECONDS:
            self._silent = True
            self._timeline.note(
                Kind.SILENCE,
                f"the dead man's switch has heard nothing for {SILENCE_SECONDS:g} s and calls people",
                name="begun",
            )


__all__ = ["SILENCE_SECONDS", "Pager"]
