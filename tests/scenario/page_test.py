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
import threading
import time
import unittest

from served import CHATS, CHAT_TEMPLATE, DEADLINE_S, ENDLESS, MODEL, MORTAL, Server, generate

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


def model_with(folder, name, text):
    """The tiny checkpoint with another file in place of one, in a folder of its own."""
    for path in MODEL.iterdir():
        if path.name != name:
            (pathlib.Path(folder) / path.name).symlink_to(path)
    (pathlib.Path(folder) / name).write_text(text)
    return folder


def thinking_tokenizer():
    """Its token 1 ends thoughts."""
    text = (MODEL / "tokenizer.json").read_text().replace("<|im_start|>", "</think>")
    tokenizer = json.loads(text)
    tokenizer["added_tokens"][1]["special"] = False
    return json.dumps(tokenizer)


class Page(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        home = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.browser = Browser(pathlib.Path(home))
        self.stack.callback(self.browser.close)

    def serve(self, *options, model=MODEL):
        server = self.stack.enter_context(
            Server("--served-model-name", "tiny", *options, model=model))
        self.browser.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
        return server

    def say(self, text, tokens=9, kind="completion"):
        self.browser.value(f"""document.getElementById("kind").value = "{kind}";
            document.getElementById("kind").dispatchEvent(new Event("change"));
            document.getElementById("tokens").value = {tokens};
            document.getElementById("temperature").value = 0;
            document.getElementById("input").value = {json.dumps(text)};
            document.getElementById("form").requestSubmit();""")

    def talk(self, text, nth):
        """The nth answer of a chat, once it is whole."""
        self.say(text, kind="chat")
        self.browser.wait(f"document.querySelectorAll('.note').length === {nth}")
        return self.browser.value("[...document.querySelectorAll('.said:not(.user)')].at(-1)"
                                  ".dataset.text")

    def bodies(self):
        """Of the chats that were asked for."""
        return [json.loads(one["request"]["postData"])
                for one in self.browser.seen("Network.requestWillBeSent")
                if one["request"]["url"].endswith("/v1/chat/completions")]

    def test_cohort_is_shown_and_text_is_streamed(self):
        server = self.serve("-tp", "2")
        self.browser.wait("document.querySelectorAll('.rank').length === 2")
        self.browser.wait("document.getElementById('state')?.textContent === 'ok'")
        self.assertEqual(self.browser.value("document.getElementById('keybox').offsetWidth"), 0)
        text = self.browser.value("document.body.innerText")
        for rank in range(2):
            self.assertIn(f"rank {rank}", text)
            self.assertIn(f"pid {server.workers()[rank]}", text)
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

    def test_a_chat_is_streamed_and_goes_on_from_what_was_said(self):
        def expected(*said):
            messages = []
            for text in said:
                messages.append({"role": "user", "content": text})
                messages.append({"role": "assistant", "content": generate(
                    [{"messages": messages, "max_tokens": 9}],
                    "--chat-template", CHAT_TEMPLATE)[0]})
            return messages
        self.serve("--chat-template", CHAT_TEMPLATE)
        self.browser.wait("document.getElementById('kind')?.value === 'chat'")
        self.browser.value("""window.lengths = new Set();
            new MutationObserver(() => lengths.add(
              document.querySelectorAll(".said")[1]?.textContent.length || 0))
            .observe(document.getElementById("log"), {childList: true, subtree: true});""")
        first, second = "a b", "c a b"
        talk = expected(first, second)
        self.assertEqual(self.talk(first, 1), talk[1]["content"])
        self.assertGreaterEqual(self.browser.value("window.lengths.size"), 4)
        self.assertRegex(self.browser.value("document.querySelector('.note').textContent"),
                         r"^9 tokens in \d+\.\d s, the first after \d+ ms, then \d+\.\d ms each \u00b7 cut at")
        self.assertEqual(self.talk(second, 2), talk[3]["content"])
        self.browser.value("document.getElementById('clear').click()")
        self.assertEqual(self.browser.value("document.querySelectorAll('.said').length"), 0)
        self.assertEqual(self.talk(second, 1), expected(second)[1]["content"])
        self.assertEqual([body["messages"] for body in self.bodies()],
                         [talk[:1], talk[:3], [{"role": "user", "content": second}]])
        self.assertNotEqual(talk[3]["content"], expected(second)[1]["content"])

    def test_thoughts_are_shown_apart_and_not_sent_back(self):
        with tempfile.TemporaryDirectory() as folder:
            changed = model_with(folder, "tokenizer.json", thinking_tokenizer())
            server = self.serve("--reasoning-parser", "deepseek_r1", "--chat-template",
                                CHAT_TEMPLATE, model=changed)
        self.browser.wait("document.getElementById('kind')?.value === 'chat'")
        # Its one token that ends thoughts is likely enough to come in the middle.
        body = {"messages": [{"role": "user", "content": "a"}], "temperature": 1,
                "logit_bias": {"1": 5}, "max_tokens": 24}
        for body["seed"] in range(100):
            message = json.loads(server.ask("POST", CHATS, body)[2])["choices"][0]["message"]
            if message["reasoning"] and message["content"]:
                break
        more = {name: body[name] for name in ("seed", "logit_bias", "temperature", "max_tokens")}
        self.browser.value("""window.fetchPlain = window.fetch;
            window.fetch = (url, options) => {
              if (options.body) options.body = JSON.stringify(
                Object.assign(JSON.parse(options.body), %s));
              return window.fetchPlain(url, options);
            };""" % json.dumps(more))
        self.talk("a", 1)
        self.assertEqual(self.browser.value("document.querySelector('.thoughts span').textContent"),
                         message["reasoning"])
        self.assertEqual(self.browser.value("document.querySelector('.said:not(.user)').dataset.text"),
                         message["content"])
        self.assertFalse(self.browser.value("document.querySelector('.thoughts').open"))
        self.talk("b", 2)
        self.assertEqual([one["content"] for one in self.bodies()[1]["messages"]],
                         ["a", message["content"], "b"])

    def test_a_talk_outlives_a_reload_and_an_answer_is_retried(self):
        self.serve("--chat-template", CHAT_TEMPLATE)
        self.browser.wait("document.getElementById('kind')?.value === 'chat'")
        self.browser.value("document.getElementById('system').value = 'b c'")
        first = self.talk("a b", 1)
        shown = self.browser.value("document.getElementById('log').innerText")
        self.browser.call("Page.reload")
        self.browser.wait("document.getElementById('send')?.textContent === 'Send' && "
                          "document.querySelectorAll('.note').length === 1")
        self.assertEqual(self.browser.value("document.getElementById('log').innerText"), shown)
        self.assertEqual(self.browser.value("document.getElementById('system').value"), "b c")
        self.talk("c", 2)
        self.browser.value("document.getElementById('kind').value = 'completion'")  # for what comes next
        self.browser.value("[...document.querySelectorAll('.retry')].at(-1).click()")
        self.browser.wait("document.getElementById('send').textContent === 'Send' && "
                          "document.querySelectorAll('.note').length === 2")
        self.assertEqual(self.browser.value("[...document.querySelectorAll('.retry')].map(one => one.hidden)"),
                         [True, False])
        talk = [{"role": "system", "content": "b c"}, {"role": "user", "content": "a b"},
                {"role": "assistant", "content": first}, {"role": "user", "content": "c"}]
        self.assertEqual([body["messages"] for body in self.bodies()], [talk[:2], talk, talk])
        self.browser.value("document.getElementById('clear').click()")
        self.browser.call("Page.reload")
        self.browser.wait("document.getElementById('state')?.textContent === 'ok'")
        self.assertEqual(self.browser.value("document.querySelectorAll('.said').length"), 0)

    def test_markdown_becomes_elements_and_markup_none(self):
        self.serve()
        self.browser.wait("document.getElementById('state')?.textContent === 'ok'")
        text = ("# A *title*\n\nSome **bold**, `code<b>` and [a link](https://example.org/a).\n"
                "[no link](javascript:hit()) 2 * 3 * 4\n\n- one\n- two\n\n3. three\n> said\n"
                "```c\nif (a < b)\n    # no title\n````\n<img src=x onerror=hit()>\n"
                "```one line```\n~~~\nopen\n~~")
        self.browser.value(f"document.getElementById('log').append(...markdown({json.dumps(text)}))")
        self.assertEqual(self.browser.value("[...document.getElementById('log').children].map(one => "
                                            "one.tagName + ' ' + one.textContent)"),
                         ["H3 A title", "P Some bold, code<b> and a link.\n[no link](javascript:hit()) 2 * 3 * 4",
                          "UL onetwo", "OL three", "BLOCKQUOTE said", "PRE if (a < b)\n    # no title",
                          "P <img src=x onerror=hit()>\none line", "PRE open\n~~"])
        self.assertEqual(self.browser.value("[...document.querySelectorAll('#log :is(em, strong, code, a, img)')]"
                                            ".map(one => one.tagName + ' ' + (one.href || one.textContent))"),
                         ["EM title", "STRONG bold", "CODE code<b>", "A https://example.org/a",
                          "CODE if (a < b)\n    # no title", "CODE one line", "CODE open\n~~"])

    def test_a_model_without_a_template_is_given_completions(self):
        with tempfile.TemporaryDirectory() as plain:
            self.serve(model=model_with(plain, "tokenizer_config.json", "{}"))
            self.browser.wait("document.getElementById('kind')?.value === 'completion'")
            self.assertTrue(self.browser.value("document.getElementById('kind').options[0].disabled"))

    def test_ranks_at_work_are_shown_as_such(self):
        server = self.serve("-tp", "2")
        connection = self.stack.enter_context(contextlib.closing(server.connect()))
        connection.request("POST", "/v1/completions", json.dumps(ENDLESS),
                           {"Content-Type": "application/json"})
        self.browser.wait("document.querySelectorAll('.rank[data-state=busy]').length === 2")
        self.browser.wait("Number(document.querySelector('#figures b').textContent"
                          ".replace(',', '')) > 0")
        self.browser.wait("[...document.querySelectorAll('.rank polyline')].every("
                          "one => one.getAttribute('points').split(' ').length >= 3)")
        self.browser.wait("[...document.querySelectorAll('.rank .bar i')].every("
                          "one => one.offsetWidth > 0)")
        busy = self.browser.value("[...document.querySelectorAll('.rank')].map("
                                  "one => one.innerText.match(/, ([\\d.,]+) a second/)[1])")
        self.assertTrue(all(float(rate.replace(",", "")) > 0 for rate in busy), busy)
        connection.close()
        self.browser.wait("document.querySelectorAll('.rank[data-state=idle]').length === 2")

    def test_it_fits_screens_narrow_and_wide(self):
        self.serve("-tp", "2")
        self.browser.wait("document.querySelectorAll('.rank').length === 2")
        for width in (320, 390, 768, 1280, 1920):
            self.browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                              deviceScaleFactor=1, mobile=False)
            self.browser.wait(f"innerWidth === {width}")
            self.assertLessEqual(self.browser.value("document.documentElement.scrollWidth"), width)
            self.assertEqual(self.browser.value("[...document.querySelectorAll('#send, .card')]"
                ".filter(one => one.getBoundingClientRect().right > innerWidth).length"), 0, width)

    def test_markup_from_outside_stays_text(self):
        self.serve()
        self.browser.wait("document.getElementById('state')?.textContent === 'ok'")
        self.say("<img src=x onerror='window.hit=1'><b>bold</b>")
        self.browser.wait("document.querySelectorAll('.said').length === 2")
        self.assertEqual(self.browser.value("document.querySelectorAll('#log img, #log b').length"),
                         0)
        self.assertIsNone(self.browser.value("window.hit"))

    def test_refusals_and_a_dead_worker_are_told(self):
        server = self.serve("-tp", "2", "--keep-alive-on-engine-death", *MORTAL)
        self.browser.wait("document.getElementById('state')?.textContent === 'ok'")
        self.say("a", tokens=10 ** 6)
        self.browser.wait("document.querySelector('.said.error')?.textContent"
                          ".includes('max_tokens=1000000')")
        os.kill(server.workers()[1], signal.SIGKILL)
        self.browser.wait("document.getElementById('state')?.textContent === 'failed'")
        self.assertRegex(self.browser.value("document.getElementById('why').textContent"),
                         "rank 1")
        server.process.kill()
        self.browser.wait("document.getElementById('state')?.textContent === 'away'")

    def test_a_replaced_worker_is_told(self):
        server = self.serve("-tp", "2")
        self.browser.wait("document.getElementById('state')?.textContent === 'ok'")
        os.kill(server.workers()[1], signal.SIGKILL)
        self.browser.wait("document.getElementById('why')?.textContent.includes('KV cache kept')")
        told = self.browser.value("document.getElementById('why').textContent")
        self.assertRegex(told, r"epoch 2, 1 deaths of ranks, .* ms; the last: rank 1 .*signal 9")
        self.browser.wait("document.getElementById('state')?.textContent === 'ok'")

    def test_a_key_is_asked_for(self):
        self.serve("--api-key", "secret")
        self.browser.wait("document.getElementById('state')?.textContent === 'locked'")
        self.assertEqual(self.browser.value("document.querySelectorAll('.rank').length"), 0)
        self.say("a b c")
        self.browser.wait("document.querySelector('.said.error')?.textContent === 'Unauthorized'")
        self.browser.value("document.getElementById('key').value = 'secret'")
        self.browser.wait("document.getElementById('state')?.textContent === 'ok'")

    def test_an_answer_can_be_stopped(self):
        server = self.serve()
        self.browser.wait("document.getElementById('state')?.textContent === 'ok'")
        # Answers for far longer than a stop takes that comes with the first text.
        self.browser.value("""window.fetchPlain = window.fetch;
            window.fetch = (url, options) => {
              if (options.body) options.body = JSON.stringify(
                Object.assign(JSON.parse(options.body), {n: 256, ignore_eos: true,
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
        until = time.monotonic() + DEADLINE_S
        while not n_aborted(server):  # counted when the engine's next step ends
            self.assertLess(time.monotonic(), until, "no answer was aborted")
            time.sleep(0.02)


def n_aborted(server):
    metrics = server.ask("GET", "/metrics")[2].decode()
    return sum(float(line.split()[-1]) for line in metrics.splitlines()
               if line.startswith("vllm:request_success_total") and "abort" in line)


def load(server, done):
    """Two others who ask for texts, until it is done."""
    while not done.is_set():
        server.complete(prompt="Once upon a time", max_tokens=100, temperature=1)


def picture(model, file):
    """What docs/ shows: a chat, with two ranks at work."""
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        browser = Browser(pathlib.Path(home))
        stack.callback(browser.close)
        server = stack.enter_context(Server(
            "--served-model-name", pathlib.Path(model).name, "-tp", "2", "--max-model-len", "2048",
            "--kv-cache-memory-bytes", "64MiB", model=model))
        done = threading.Event()
        others = [threading.Thread(target=load, args=(server, done)) for _ in range(2)]
        stack.callback(lambda: [other.join() for other in others])
        stack.callback(done.set)
        browser.call("Emulation.setDeviceMetricsOverride", width=1280, height=900,
                     deviceScaleFactor=1, mobile=False)
        browser.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
        browser.wait("document.getElementById('state')?.textContent === 'ok'")
        for n, prompt in enumerate(("What is the capital of France?", "And what is it known for?"), 1):
            browser.value(f"""document.getElementById("temperature").value = 0;
                document.getElementById("tokens").value = 80;
                document.getElementById("input").value = {json.dumps(prompt)};
                document.getElementById("form").requestSubmit();""")
            browser.wait(f"document.querySelectorAll('.note').length === {n}")
            if n == 1:
                time.sleep(5)
                for other in others:
                    other.start()
                time.sleep(20)
        browser.wait("document.querySelectorAll('.rank[data-state=busy]').length === 2")
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
