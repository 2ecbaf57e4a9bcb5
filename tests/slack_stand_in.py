"""A stand-in for Slack's webhooks on loopback, which answers as Slack's own are known to."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Seen:
    """What came in.

    Attributes:
        url: the server's.
        paths: of the requests, in their order.
        bodies: of each request.
        headers: of each request, by lower-case name.
    """

    url: str = ""
    paths: list[str] = field(default_factory=list)
    bodies: list[object] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)


@contextmanager
def slack(words: Mapping[str, tuple[int, str]]) -> Iterator[Seen]:
    """Serve webhooks: the answer is that of the first key that the path ends with, else that of one that is alive."""
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            seen.paths.append(self.path)
            seen.bodies.append(json.loads(body))
            seen.headers.append({name.lower(): value for name, value in self.headers.items()})
            found = [answer for end, answer in words.items() if self.path.endswith(end)]
            status, word = found[0] if found else (400, "no_text")
            self.send_response(status)
            self.send_header("Content-Length", str(len(word)))
            self.end_headers()
            self.wfile.write(word.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        seen.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield seen
        finally:
            server.shutdown()
