# SPDX-License-Identifier: Apache-2.0
"""The sidecar's end of the messages (cohort_ray/wire.py): what comes in is checked, what goes out
is bounded."""
from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator

import pytest

import support  # before cohort_ray: it says where that lies  # pylint: disable=unused-import

from cohort_ray import wire


@pytest.fixture(name="ends")
def both_ends() -> Iterator[tuple[socket.socket, wire.Channel]]:
    """A bare end, and the channel at the other."""
    bare, own = socket.socketpair()
    bare.settimeout(10)
    with bare, own:
        yield bare, wire.Channel(own)


def framed(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


def test_messages_come_in_order_and_then_the_end(ends: tuple[socket.socket, wire.Channel]) -> None:
    bare, channel = ends
    bare.sendall(framed(b'{"op": "a", "n": 1}') + framed('{"op": "b\u00f6"}'.encode()))
    bare.close()
    assert channel.receive() == {"op": "a", "n": 1}
    assert channel.receive() == {"op": "b\u00f6"}
    assert channel.receive() is None
    assert channel.receive() is None


@pytest.mark.parametrize("part", [b"\x05", b"\x05\0\0\0", b"\x05\0\0\0{\"op"])
def test_half_a_message_is_the_end(ends: tuple[socket.socket, wire.Channel], part: bytes) -> None:
    bare, channel = ends
    bare.sendall(part)
    bare.close()
    assert channel.receive() is None


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"7", b"[]", b'"op"', b"{}", b'{"op": 1}', b'{"op": null}',
             b'{"op": "h\xf6"}', b"[" * 100_000, b'{"op":' * 100_000],
    ids=lambda body: repr(body[:12]))
def test_what_is_no_message_is_refused(
    ends: tuple[socket.socket, wire.Channel], body: bytes
) -> None:
    bare, channel = ends
    bare.settimeout(None)
    import threading  # pylint: disable=import-outside-toplevel

    sender = threading.Thread(target=bare.sendall, args=(framed(body),))
    sender.start()  # what is long does not fit into the socket
    with pytest.raises(wire.WireError):
        channel.receive()
    sender.join()


def test_a_length_beyond_the_bound_is_refused_unread(
    ends: tuple[socket.socket, wire.Channel]
) -> None:
    bare, channel = ends
    bare.sendall(struct.pack("<I", wire.MAX_BYTES + 1))
    with pytest.raises(wire.WireError, match="bytes"):
        channel.receive()


def read(bare: socket.socket) -> dict[str, object]:
    size: int = struct.unpack("<I", bare.recv(4, socket.MSG_WAITALL))[0]
    message: dict[str, object] = json.loads(bare.recv(size, socket.MSG_WAITALL))
    return message


def test_events_go_out_framed(ends: tuple[socket.socket, wire.Channel]) -> None:
    bare, channel = ends
    channel.send("seated", rank=1, text="\udcff")  # what Python read with surrogateescape
    assert read(bare) == {"event": "seated", "rank": 1, "text": "\udcff"}


def test_an_event_beyond_the_bound_is_a_failure(ends: tuple[socket.socket, wire.Channel]) -> None:
    bare, channel = ends
    channel.send("looked", nodes="x" * wire.MAX_BYTES)
    assert read(bare) == {"event": "failed", "text": "looked is too long"}


def test_a_peer_that_is_gone_is_no_error(ends: tuple[socket.socket, wire.Channel]) -> None:
    bare, channel = ends
    bare.close()
    for _ in range(3):
        channel.send("ended", rank=0)
    assert channel.receive() is None
