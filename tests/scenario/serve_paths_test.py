#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Paths that are nearly right, and what the log says of any."""
import contextlib
import socket
import unittest

from served import CHATS, COMPLETIONS, DEADLINE_S, Server


class Paths(unittest.TestCase):
    def test_slashes_at_the_end_are_led_back(self):
        with Server("--root-path", "/behind", "--api-key", "a") as server:
            key = {"Authorization": "Bearer a"}
            for method, path in (("POST", COMPLETIONS), ("POST", CHATS), ("GET", "/v1/models"),
                                 ("GET", "/health"), ("GET", "/metrics"), ("POST", "/v1/models")):
                for given in (path + "/", path + "//", "/behind" + path + "/"):
                    status, headers, text = server.ask(method, given, None, key)
                    self.assertEqual((status, headers["Location"], text),
                                     (307, given.rstrip("/"), b""))
            with contextlib.closing(server.connect()) as client:  # each has the query of its own
                for query in "?a=%0d%0a&b?c=", "", "?":
                    client.request("GET", "/behind/v1/models//" + query, headers=key)
                    answer = client.getresponse()
                    self.assertEqual((answer.status, answer.headers["Location"], answer.read()),
                                     (307, "/behind/v1/models" + query, b""))
            self.assertEqual(server.ask("POST", COMPLETIONS + "/", {"prompt": "a"})[0], 401)
            self.assertEqual(server.ask("GET", "/health/")[0], 307)
            for path in ("/nowhere/", "//", "/" + "a" * 100 + "/"):
                self.assertEqual(server.ask("GET", path)[0], 404)
            self.assertEqual(server.stop(), 0)

    def test_who_asks_every_second_is_not_logged(self):
        with Server("--api-key", "a") as server:
            for _ in range(3):
                self.assertEqual(server.ask("GET", "/metrics")[0], 200)
                self.assertEqual(server.ask("GET", "/cohort/status", None,
                                            {"Authorization": "Bearer a"})[0], 200)
            self.assertEqual(server.ask("GET", "/cohort/status")[0], 401)  # this one is
            server.ask("GET", "/version")
            server.wait_for(rb'"GET /version HTTP/1\.1" 200')
            text = server.text()
            self.assertNotIn(b"GET /metrics ", text)
            self.assertEqual(text.count(b"GET /cohort/status "), 1)
            self.assertEqual(server.stop(), 0)

    def test_no_control_character_gets_into_the_log(self):
        with Server() as server, socket.create_connection(("127.0.0.1", server.port),
                                                          DEADLINE_S) as client:
            client.sendall(b"GET /%1b[31m%0aINFO%7f%c2%9b%e2%80%a8%e2%80%ae%ff%c3%a4%22 HTTP/1.1\r\n"
                           b"Host: a\r\nConnection: close\r\n\r\n")
            while client.recv(4096):
                pass
            said = server.wait_for(rb'"GET (\S+) HTTP/1\.1" 404').group(1)
            self.assertEqual(said, rb"/\x1b[31m\x0aINFO\x7f\u009b\u2028\u202e\xff" +
                             "\u00e4?".encode())
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
