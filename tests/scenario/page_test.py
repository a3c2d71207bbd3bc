#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The status page in headless Chromium, against a real server; skipped where it is missing.

The browser is driven by its own protocol over two pipes.

usage: page_test.py [picture MODEL_DIR FILE.png]      picture: keeps what docs/ shows instead
"""
import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import serve_test
from serve_test import DEADLINE_S, Server, generate

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One headless Chromium with one page."""

    def __init__(self, home):
        to_read, self.to_write = os.pipe()
        self.to_read, to_write = os.pipe()
        for fd, number in ((to_read, 3), (to_write, 4)):
            os.set_inheritable(fd, True)
        words = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                 "--disable-dev-shm-usage", "--disable-background-networking",
                 "--disable-component-update", "--disable-extensions", "--disable-sync",
                 "--remote-debugging-pipe", f"--user-data-dir={home}/profile",
                 "--window-size=1000,1100", "about:blank"]
        script = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self.process = subprocess.Popen(["bash", "-c", script, "browser", *words],
                                        pass_fds=(to_read, to_write), start_new_session=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL,
                                        env=os.environ | {"HOME": str(home)})
        os.close(to_read)
        os.close(to_write)
        self.buffer, self.number, self.session, self.events = b"", 0, None, []
        pages = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in pages if one["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page,
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def receive(self):
        while b"\0" not in self.buffer:
            piece = os.read(self.to_read, 1 << 16)
            if not piece:
                raise AssertionError("the browser ended")
            self.buffer += piece
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise AssertionError(answer["error"])
                return answer["result"]
            self.events.append(answer)

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True,
                           returnByValue=True)
        if "exceptionDetails" in result:
            raise AssertionError(result["exceptionDetails"])
        return result["result"].get("value")

    def wait(self, expression):
        """Its value, once it is true."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            value = self.value(expression)
            if value:
                return value
            time.sleep(0.02)
        raise AssertionError(f"never true: {expression}; the page says: " +
                             self.value("document.body.innerText"))

    def seen(self, method):
        return [event["params"] for event in self.events if event.get("method") == method]

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        os.close(self.to_read)
        os.close(self.to_write)


class Page(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        home = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.browser = Browser(pathlib.Path(home))
        self.stack.callback(self.browser.close)

    def serve(self, *options):
        server = self.stack.enter_context(Server("--served-model-name", "tiny", *options))
        self.browser.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
        return server

    def say(self, text, tokens=9):
        self.browser.value(f"""document.getElementById("kind").value = "completion";
            document.getElementById("kind").dispatchEvent(new Event("change"));
            document.getElementById("tokens").value = {tokens};
            document.getElementById("temperature").value = 0;
            document.getElementById("input").value = {json.dumps(text)};
            document.getElementById("form").requestSubmit();""")

    def test_cohort_is_shown_and_text_is_streamed(self):
        server = self.serve("-tp", "2")
        self.browser.wait("document.querySelectorAll('.rank').length === 2")
        self.browser.wait("document.getElementById('state')?.textContent === 'ok'")
        self.assertEqual(self.browser.value("document.getElementById('keybox').offsetWidth"), 0)
        text = self.browser.value("document.body.innerText")
        for rank in range(2):
            self.assertIn(f"rank {rank}", text)
            self.assertIn(f"pid {server.worker(rank)}", text)
        self.assertIn("shared memory", text)
        self.assertEqual(self.browser.value("document.title"), "tiny \u2013 Cohort")
        self.say("a b c")
        expected, = generate([{"prompt": "a b c", "max_tokens": 9}])
        self.browser.wait(f"document.querySelectorAll('.said')[1]?.textContent === "
                          f"{json.dumps(expected)}")
        self.browser.wait("[...document.querySelectorAll('#figures b')].length >= 8")
        self.browser.wait("Number(document.querySelector('.rank dl').innerText"
                          ".match(/#(\\d+)/)?.[1]) >= 9")
        self.browser.wait("document.querySelectorAll('#chart polyline')[1]?.getAttribute("
                          "'points').split(' ').length >= 2")
        self.assertEqual(self.browser.seen("Runtime.exceptionThrown"), [])
        asked = [one["request"]["url"] for one in self.browser.seen("Network.requestWillBeSent")]
        self.assertTrue(all(url.startswith((f"http://127.0.0.1:{server.port}/", "about:"))
                            or "favicon" in url for url in asked), asked)

    def test_markup_from_outside_stays_text(self):
        self.serve()
        self.browser.wait("document.getElementById('state')?.textContent === 'ok'")
        self.say("<img src=x onerror='window.hit=1'><b>bold</b>")
        self.browser.wait("document.querySelectorAll('.said').length === 2")
        self.assertEqual(self.browser.value("document.querySelectorAll('#log img, #log b').length"),
                         0)
        self.assertIsNone(self.browser.value("window.hit"))

    def test_refusals_and_a_dead_worker_are_told(self):
        server = self.serve("-tp", "2")
        self.browser.wait("document.getElementById('state')?.textContent === 'ok'")
        self.say("a", tokens=10 ** 6)
        self.browser.wait("document.querySelector('.said.error')?.textContent"
                          ".includes('max_tokens=1000000')")
        os.kill(server.worker(1), signal.SIGKILL)
        self.browser.wait("document.getElementById('state')?.textContent === 'failed'")
        self.assertRegex(self.browser.value("document.getElementById('why').textContent"),
                         "rank 1")
        server.process.kill()
        self.browser.wait("document.getElementById('state')?.textContent === 'away'")

    def test_a_key_is_asked_for(self):
        self.serve("--api-key", "secret")
        self.browser.wait("document.getElementById('state')?.textContent === 'locked'")
        self.assertEqual(self.browser.value("document.querySelectorAll('.rank').length"), 0)
        self.browser.value("document.getElementById('key').value = 'secret'")
        self.browser.wait("document.getElementById('state')?.textContent === 'ok'")

    def test_an_answer_can_be_stopped(self):
        server = self.serve()
        self.browser.wait("document.getElementById('state')?.textContent === 'ok'")
        # Sixteen long answers in one, and a stop as soon as the first text is there.
        self.browser.value("""window.fetchPlain = window.fetch;
            window.fetch = (url, options) => {
              if (options.body) options.body = JSON.stringify(
                Object.assign(JSON.parse(options.body), {n: 16, ignore_eos: true,
                                                         temperature: 1}));
              return window.fetchPlain(url, options);
            };
            new MutationObserver((changes, watcher) => {
              if (!document.querySelectorAll(".said")[1]?.textContent) return;
              watcher.disconnect();
              document.getElementById("form").requestSubmit();
            }).observe(document.getElementById("log"), {childList: true, subtree: true});""")
        self.say("a b", tokens=1900)
        self.browser.wait("document.querySelectorAll('.said')[1]?.textContent.length > 0")
        self.browser.wait("document.getElementById('send').textContent === 'Send'")
        server.wait_load(0)
        metrics = server.ask("GET", "/metrics")[2].decode()
        self.assertIn('finished_reason="abort"', metrics)
        aborted = [line for line in metrics.splitlines()
                   if line.startswith("vllm:request_success_total") and "abort" in line]
        self.assertGreater(float(aborted[0].split()[-1]), 0)


def picture(model, file):
    """What docs/ shows: a model at work on two ranks."""
    serve_test.MODEL = model
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        browser = Browser(pathlib.Path(home))
        stack.callback(browser.close)
        server = stack.enter_context(Server(
            "--served-model-name", pathlib.Path(model).name, "-tp", "2", "--max-model-len", "2048",
            "--kv-cache-memory-bytes", "64MiB"))
        browser.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
        browser.wait("document.getElementById('state')?.textContent === 'ok'")
        for prompt in ("The capital of France is", "Three colours of the rainbow are"):
            browser.value(f"""document.getElementById("kind").value = "completion";
                document.getElementById("kind").dispatchEvent(new Event("change"));
                document.getElementById("temperature").value = 0;
                document.getElementById("tokens").value = 40;
                document.getElementById("input").value = {json.dumps(prompt)};
                document.getElementById("form").requestSubmit();""")
            browser.wait("document.getElementById('send').textContent === 'Stop'")
            browser.wait("document.getElementById('send').textContent === 'Send'")
            browser.wait("document.querySelector('#chart polyline')?.getAttribute('points')"
                         f".split(' ').length >= {6 if prompt.startswith('Three') else 3}")
        data = browser.call("Page.captureScreenshot", format="png",
                            captureBeyondViewport=True)["data"]
        pathlib.Path(file).write_bytes(base64.b64decode(data))


if __name__ == "__main__":
    if not BROWSER:
        print("no chromium here: make test-page installs it", file=sys.stderr)
        sys.exit(77)
    if len(sys.argv) == 4 and sys.argv[1] == "picture":
        picture(sys.argv[2], sys.argv[3])
    else:
        unittest.main()
