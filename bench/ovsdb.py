"""A database server of Open vSwitch, spoken to directly (RFC 7047): without a process for every question."""
from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

PATIENCE = 120.0


class Ovsdb:
    """A connection to one server."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(PATIENCE)
        self._sock.connect(str(path))
        self._decoder = json.JSONDecoder()
        self._heard = ""

    def transact(self, database: str, *operations: dict[str, Any]) -> list[dict[str, Any]]:
        """The results of one transaction. RuntimeError if the server refuses it."""
        request = {"method": "transact", "params": [database, *operations], "id": 1}
        self._sock.sendall(json.dumps(request).encode())
        while True:
            answer = self._message()
            if answer.get("method") == "echo":
                self._sock.sendall(json.dumps({"result": answer["params"], "error": None, "id": "echo"}).encode())
            elif answer.get("id") == 1:
                wrong = answer["error"] or next((one for one in answer["result"] if one and "error" in one), None)
                if wrong:
                    raise RuntimeError(f"{database}: {wrong}")
                return list(answer["result"])

    def _message(self) -> dict[str, Any]:
        while True:
            try:
                found, end = self._decoder.raw_decode(self._heard.lstrip())
            except ValueError:
                data = self._sock.recv(1 << 20).decode()
                if not data:
                    raise RuntimeError("the database server hangs up") from None
                self._heard += data
            else:
                self._heard = self._heard.lstrip()[end:]
                return dict(found)

    def close(self) -> None:
        self._sock.close()


def select(table: str, *columns: str) -> dict[str, Any]:
    """All rows of a table."""
    return {"op": "select", "table": table, "where": [], "columns": ["_uuid", *columns]}


def update(table: str, uuid: Any, row: dict[str, Any]) -> dict[str, Any]:
    """Columns of one row."""
    return {"op": "update", "table": table, "where": [["_uuid", "==", uuid]], "row": row}
