#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that are slow, silent or large do not stop others."""
import contextlib
import http.client
import io
import json
import pathlib
import re
import select
import socket
import ssl
import tempfile
import time
import unittest

from served import CHATS, CHAT_TEMPLATE, DEADLINE_S, SANITIZED, Server, certificate, events, metrics

# A token is worth ten kilobytes, so that a client that does not read is soon told no more.
LONG = {"messages": [{"role": "user", "content": "a"}], "logprobs": True, "top_logprobs": 128,
        "stream": True, "temperature": 0, "ignore_eos": True}
N_TOKENS = 150 if SANITIZED else 400  # more than sockets hold
OPTIONS = ("--max-logprobs", "128", "--chat-template", CHAT_TEMPLATE,
           "--distributed-executor-backend", "mp")


class Answer:
    """What a socket brought of an answer: http.client might wait for a chunk that does not come."""

    def __init__(self, client):
        self.client, self.bytes = client, bytearray()

    def more(self, size):
        """False: that was all of the connection."""
        piece = self.client.recv(size)
        self.bytes += piece
        return bool(piece)

    def is_whole(self):
        return self.bytes.endswith(b"\r\n0\r\n\r\n")

    def text(self):
        """Up to its end; http.client checks its chunks."""
        while not self.is_whole():
            assert self.more(1 << 20), bytes(self.bytes[-1000:])
        answer = http.client.HTTPResponse(self)
        answer.begin()
        return answer.read()

    def makefile(self, _mode):
        return io.BytesIO(self.bytes)


def begin(client, **more):
    """The answer to LONG on a socket, whose head was read."""
    body = json.dumps(LONG | more)
    client.sendall(b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                   b"Content-Length: %d\r\n\r\n%s" % (CHATS.encode(), len(body), body.encode()))
    answer = Answer(client)
    while b"\r\n\r\n" not in answer.bytes:
        assert answer.more(1000), answer.bytes
    return answer


def begin_and_pause(server, client, **more):
    """... and all there was of it, so that what follows is sent by the step."""
    answer = begin(client, **more)
    with server.frozen():
        while select.select([client], [], [], 0.2)[0] and answer.more(1 << 20):
            pass
    return answer


def choices(text):
    return [chunk["choices"] for chunk in events(text)]


class Slow(unittest.TestCase):
    def connect(self, at):
        """It has room for little that it was sent and did not read."""
        client = socket.socket(socket.AF_UNIX if isinstance(at, str) else socket.AF_INET)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(DEADLINE_S)
        client.connect(at)
        return client

    @contextlib.contextmanager
    def served(self, *options, uds=None, files=None):
        """A server, and a function that connects to it."""
        if uds:
            options += ("--uds", uds)
        if files:
            options += ("--ssl-certfile", files[0], "--ssl-keyfile", files[1])
        with Server(*OPTIONS, *options) as server:
            def connect():
                client = self.connect(uds or ("127.0.0.1", server.port))
                if not files:
                    return client
                trusted = ssl.create_default_context(cafile=files[0])
                return trusted.wrap_socket(client, server_hostname="127.0.0.1")

            def talk():
                connection = http.client.HTTPConnection("a")
                connection.sock = connect()
                return connection
            server.connect = talk
            with contextlib.closing(connect()) as client:
                yield server, client
            self.assertEqual(server.stop(), 0)

    def await_tokens(self, server, wanted):
        end = time.monotonic() + DEADLINE_S
        while metrics(server)[0]["vllm:generation_tokens_total"].popitem()[1] < wanted:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def check_pauses(self, server, client):
        """Whenever it stops reading, it gets every byte in order, and its connection lives."""
        n_before = metrics(server)[0]["vllm:generation_tokens_total"].popitem()[1]
        whole = choices(begin(client, max_tokens=N_TOKENS).text())
        answer = begin_and_pause(server, client, max_tokens=N_TOKENS)
        self.await_tokens(server, n_before + 2 * N_TOKENS)  # all has been said, and little was sent
        self.assertEqual(choices(answer.text()), whole)
        answer = begin(client, max_tokens=N_TOKENS)
        while not answer.is_whole() and answer.more(20000):  # while it is said
            time.sleep(0.001)
        self.assertEqual(choices(answer.text()), whole)

    def test_a_reader_that_pauses_gets_every_byte_in_order(self):
        with tempfile.TemporaryDirectory() as home:
            files = certificate(home)
            for way in {}, {"uds": f"{home}/socket"}, {"files": files} if files else {}:
                with self.subTest(**way), self.served(**way) as (server, client):
                    self.check_pauses(server, client)

    def test_a_reader_that_stops_is_let_go(self):
        with tempfile.TemporaryDirectory() as home:
            for way in {}, {"uds": f"{home}/socket"}:
                with self.subTest(**way), self.served("--idle-timeout", "2",
                                                      **way) as (server, client):
                    begin_and_pause(server, client, max_tokens=N_TOKENS)
                    server.wait_for(b"POST " + CHATS.encode())  # is logged when it is over

    def test_a_reader_of_http_1_0_gets_what_is_no_chunks(self):
        with self.served() as (server, client):
            body = json.dumps(LONG | {"max_tokens": 3})
            client.sendall(b"POST %s HTTP/1.0\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n%s" %
                           (CHATS.encode(), len(body), body.encode()))
            with client.makefile("rb") as file:
                head, text = file.read().split(b"\r\n\r\n", 1)
            self.assertNotIn(b"chunked", head)
            self.assertEqual(len(choices(text)), 4)  # the role comes first

    def test_a_stream_wakes_no_other_thread(self):
        with Server() as server:
            http_thread = next(
                task for task in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir()
                if (task / "comm").read_text(encoding="ascii") == "cohort-http\n")

            def n_wakes():
                return int(re.search(r"\nvoluntary_ctxt_switches:\s+(\d+)",
                                     (http_thread / "status").read_text()).group(1))
            before, begun = n_wakes(), time.monotonic()
            connection, answer = server.begin(prompt="a", max_tokens=1000, ignore_eos=True,
                                              stream=True)
            self.assertEqual(len(answer.read().split(b"\n\n")), 1001)
            # Wakes for the request and for its end, and two a second by the clock.
            self.assertLess(n_wakes() - before, 200 + 2 * (time.monotonic() - begun))
            connection.close()
            self.assertEqual(server.stop(), 0)

    def test_clients_that_do_not_go_on_are_let_go(self):
        with Server("--idle-timeout", "2", "--request-timeout", "2") as server:
            whole = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
            clients = []
            for start in (b"", b"POST /v1/comp", whole):
                clients.append(socket.create_connection(("127.0.0.1", server.port), DEADLINE_S))
                clients[-1].sendall(start)
            end = time.monotonic() + DEADLINE_S
            with contextlib.suppress(ConnectionError):
                while time.monotonic() < end:  # however steadily it comes
                    clients[-1].sendall(b" ")
                    time.sleep(0.05)
            self.assertLess(time.monotonic(), end)
            for client in clients:
                with contextlib.closing(client), contextlib.suppress(ConnectionError):
                    answer = client.recv(1000)  # nothing, or that it was too slow
                    self.assertTrue(not answer or b" 408 " in answer, answer)
            server.complete(prompt="a", max_tokens=2)
            self.assertEqual(server.stop(), 0)

    def test_a_client_that_does_not_read_is_given_up(self):
        with self.served() as (server, client):
            begin(client, max_tokens=1900, n=1000)
            server.wait_load(0)

    def test_a_long_body_does_not_stop_others(self):
        body = b'{"prompt":"%s"}' % (b"a bc " * 1000000)  # takes a good part of a second; ten do not end here
        head = (b"POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body))
        with Server() as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), DEADLINE_S))
                       for _ in range(10)]
            for client in clients:
                client.sendall(head + body)
            server.complete(prompt="a", max_tokens=2)
            self.assertEqual(select.select(clients[-1:], [], [], 0)[0], [], "it came first")
            self.assertTrue(clients[0].recv(100).startswith(b"HTTP/1.1 200 OK"))
            stack.close()
            self.assertEqual(server.stop(), 0)

    def test_silent_and_slow_connections_do_not_stop_others(self):
        head = b"POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        body = b'{"prompt":"a b"}'
        whole = head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        # 500 that say nothing, and 300 that stop in a line, between lines and in the body.
        stops = [0] * 500 + [7] * 100 + [len(head)] * 100 + [len(whole) - 3] * 100
        with Server("--idle-timeout", "3600", "--request-timeout", "3600") as server:
            clients = []
            for stop in stops:
                clients.append(socket.create_connection(("127.0.0.1", server.port), DEADLINE_S))
                clients[-1].sendall(whole[:stop])
            server.complete(prompt="a", max_tokens=2)
            for turn in range(3):  # a byte now and then
                for i, client in enumerate(clients):
                    if 0 < stops[i] < len(whole) - 3:
                        client.sendall(whole[stops[i]:stops[i] + 1])
                        stops[i] += 1
                server.complete(prompt="a", max_tokens=2 + turn)
            for i, client in enumerate(clients):
                client.sendall(whole[stops[i]:])
            for client in clients:
                self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 200"))
                client.close()
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
