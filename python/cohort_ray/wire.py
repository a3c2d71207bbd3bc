# SPDX-License-Identifier: Apache-2.0
"""Messages between the C launcher and the sidecar: a length, then a JSON object.

The length is four bytes, little-endian, and bounded; so is what may stand in the object.
"""
from __future__ import annotations

import json
import socket
import struct
import threading
from typing import Any

MAX_BYTES = 4 << 20

Message = dict[str, Any]


class WireError(Exception):
    """The peer sent what is no message."""


class Channel:
    """One end of the socketpair; send from any thread, receive on one."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._send_lock = threading.Lock()

    def _read(self, count: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < count:
            part = self._peer.recv(count - len(parts))
            if not part:
                return None
            parts += part
        return bytes(parts)

    def receive(self) -> Message | None:
        """The next message; None once the peer is gone."""
        try:
            head = self._read(4)
            if head is None:
                return None
            (size,) = struct.unpack("<I", head)
            if size > MAX_BYTES:
                raise WireError(f"a message of {size} bytes")
            body = self._read(size)
        except ConnectionError:
            return None
        if body is None:
            return None
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise WireError(f"no JSON: {error}") from None
        if not isinstance(message, dict) or not isinstance(message.get("op"), str):
            raise WireError("a message without an op")
        return message

    def send(self, event: str, **fields: Any) -> None:
        """Does nothing once the peer is gone: its end is noticed by receive."""
        body = json.dumps({"event": event, **fields}).encode()
        if len(body) > MAX_BYTES:
            body = json.dumps({"event": "failed", "text": f"{event} is too long"}).encode()
        try:
            with self._send_lock:
                self._peer.sendall(struct.pack("<I", len(body)) + body)
        except OSError:
            pass
