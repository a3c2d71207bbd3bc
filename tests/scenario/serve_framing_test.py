#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Requests whose end two parsers could see at different places get one answer, and the end.

Each stream goes in one piece, and byte by byte; over TLS too.  A second request that hides
behind the first is never answered.
"""
import contextlib
import json
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import unittest

from served import DEADLINE_S, Server

HIDDEN = b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
GET = b"GET /ping HTTP/1.1\r\nHost: a\r\n"
CHUNKS = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = json.dumps({"prompt": "a b"}).encode()
CHUNK = b"%x\r\n%s\r\n" % (len(BODY), BODY)
REFUSED = {
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 38\r\n\r\nabc",
    "the same length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "length and chunks": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "minus": POST + b"Content-Length: -1\r\n\r\n",
    "plus": POST + b"Content-Length: +5\r\n\r\nabcde",
    "a list": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "beyond 64 bits": POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "gzip": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "folded": GET + b"X: a\r\n b\r\n\r\n",
    "NUL": GET + b"X: a\0b\r\n\r\n",
    "bare CR": GET + b"X: a\rY: b\r\n\r\n",
    "bare LF": GET + b"X: a\nY: b\r\n\r\n",
    "LF alone": b"GET /ping HTTP/1.1\nHost: a\n\n",
    "two hosts": GET + b"Host: b\r\n\r\n",
    "LF after a chunk's size": CHUNKS + b"3\nabc\r\n0\r\n\r\n",
    "LF after a chunk": CHUNKS + b"3\r\nabc\n0\r\n\r\n",
    "a chunk too long": CHUNKS + b"3\r\nabcd\r\n0\r\n\r\n",
    "a chunk's size with a sign": CHUNKS + b"+3\r\nabc\r\n0\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "a version to come": b"GET /ping HTTP/3.0\r\nHost: a\r\n\r\n",
    "a head without end": GET + b"X: " + b"a" * 70000,
}


def read_all(client):
    """What comes until the server ends the connection; a reset ends it, too."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while got := client.recv(65536):
            answer += got
    return answer


class Framing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.TemporaryDirectory()
        cls.pem = [str(pathlib.Path(cls.home.name) / name) for name in ("cert.pem", "key.pem")]
        cls.servers = [Server()]
        if shutil.which("openssl"):  # to make a certificate
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj",
                            "/CN=localhost", "-days", "2", "-out", cls.pem[0], "-keyout",
                            cls.pem[1]], check=True, capture_output=True)
            cls.servers.append(Server("--ssl-certfile", cls.pem[0], "--ssl-keyfile", cls.pem[1]))

    @classmethod
    def tearDownClass(cls):
        ends = [server.stop() for server in cls.servers]
        cls.home.cleanup()
        assert not any(ends), ends

    def connect(self, server):
        client = socket.create_connection(("127.0.0.1", server.port), DEADLINE_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if server is self.servers[0]:
            return client
        context = ssl.create_default_context(cafile=self.pem[0])
        context.check_hostname = False
        return context.wrap_socket(client)

    def ask(self, server, stream, by_byte=False):
        with self.connect(server) as client:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError, ssl.SSLError):
                for part in ([stream[i:i + 1] for i in range(len(stream))] if by_byte else [stream]):
                    client.sendall(part)
            return read_all(client)

    def check_refused(self, answer, status=b"400"):
        self.assertEqual(re.findall(rb"HTTP/1\.1 (\d+)", answer), [status], answer)
        self.assertIn(b"\r\nConnection: close\r\n", answer)
        self.assertIn(b"\r\n\r\nInvalid HTTP request received: ", answer)

    def test_one_answer_and_the_end(self):
        for server in self.servers:
            for name, stream in REFUSED.items():
                status = b"431" if "without end" in name else b"400"
                with self.subTest(name, tls=server is not self.servers[0]):
                    self.check_refused(self.ask(server, stream + HIDDEN), status)
                    if len(stream) < 1000:
                        self.check_refused(self.ask(server, stream + HIDDEN, True))

    def test_what_came_before_is_answered(self):
        for server in self.servers:
            for first in (GET + b"\r\n", POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
                          CHUNKS + CHUNK + b"0\r\n\r\n"):
                with self.subTest(first, tls=server is not self.servers[0]):
                    answer = self.ask(server, first + first + REFUSED["two lengths"] + HIDDEN)
                    self.assertEqual(re.findall(rb"HTTP/1\.1 (\d+)", answer),
                                     [b"200", b"200", b"400"], answer)

    def test_what_is_right_is_taken(self):
        """Chunks with extensions and trailers, one request after another, whole and in bytes."""
        last = b"GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        chunks = b"".join(b"%02X;x=y\r\n%c\r\n" % (1, byte) for byte in BODY)
        stream = (b"\r\n" + GET + b"\r\n" + CHUNKS + chunks + b"0\r\nX: y\r\n\r\n" + POST +
                  b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY + last)
        for server in self.servers:
            for by_byte in (False, True):
                answer = self.ask(server, stream, by_byte)
                self.assertEqual(re.findall(rb"HTTP/1\.1 (\d+)", answer), [b"200"] * 4, answer)
                self.assertEqual(answer.count(b'"count":'), 2)
                self.assertIn(b'{"version":', answer)

    def test_large_bodies_pass(self):
        prompt = json.dumps({"prompt": "a b " * 100000}).encode()
        for server in self.servers:
            whole = self.ask(server, POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" %
                             len(prompt) + prompt)
            chunked = self.ask(server, POST + b"Connection: close\r\nTransfer-Encoding: chunked"
                               b"\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(prompt), prompt))
            self.assertTrue(whole.startswith(b"HTTP/1.1 200"), whole[:200])
            self.assertEqual(whole.split(b"\r\n\r\n")[1], chunked.split(b"\r\n\r\n")[1])

    def test_absolute_targets(self):
        for target, status in ((b"http://a/health", b"200"), (b"HTTP://a:80/ping?x", b"200"),
                               (b"http://a", b"200"), (b"http://a/nowhere", b"404")):
            answer = self.ask(self.servers[0], b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n"
                              b"Connection: close\r\n\r\n")
            self.assertEqual(re.findall(rb"HTTP/1\.1 (\d+)", answer), [status], target)


if __name__ == "__main__":
    unittest.main()
