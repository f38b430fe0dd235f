"""The web server of `internet`: it says who asked, and by which address it was reached.

Run inside the node. `curl http://198.51.100.7/anything` prints one line of JSON:
{"from": "203.0.113.10", "port": 40001, "to": "198.51.100.7", "path": "/anything"}
"""
import json
import os
import socketserver
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 80


class Mirror(BaseHTTPRequestHandler):
    """Answers with what it knows of the question."""

    timeout = 20  # seconds for a client that says nothing

    def do_HEAD(self):
        """The headers of the answer alone."""
        self.answer()

    def do_GET(self):
        """The answer."""
        self.wfile.write(self.answer())

    def answer(self):
        """Send the headers; the body."""
        (asker, port), (me, _) = self.client_address, self.connection.getsockname()
        body = json.dumps({"from": asker, "port": port, "to": me, "path": self.path}).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, *_):
        """Nobody reads it."""


class Server(ThreadingHTTPServer):
    """For a crowd."""

    request_queue_size = 4096

    def server_bind(self):
        """Without asking a name server who we are."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "internet", PORT

    def handle_error(self, *_):
        """A client that hangs up is no news."""


def main():
    """Listen, say so, and serve until killed."""
    with Server(("0.0.0.0", PORT), Mirror) as server:
        print("ready", flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        server.serve_forever()


if __name__ == "__main__":
    main()
