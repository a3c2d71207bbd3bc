#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A stream's tokens over time while ranks are killed, as an SVG picture on standard output.

Twice: by a server that replaces its ranks, and by one that ends with a rank (as vLLM's and SGLang's
do; --max-rank-restarts 0), which is started again at once, and whose client asks again at once.

usage: recover_picture.py COHORT MODEL_DIR
"""
import contextlib
import html
import http.client
import json
import os
import random
import signal
import sys
import threading
import time

import recover_bench
import serve_bench

KILLS_S = (2, 4, 6)
END_S = 8
LEFT, RIGHT, TOP, BOTTOM = 70, 860, 70, 350
COLOURS = ("#27c", "#c60")
BODY = {"model": "m", "max_tokens": 4000, "stream": True, "temperature": 0, "ignore_eos": True}


class Recording:
    """One client's tokens: (seconds, how many it has of this answer)."""

    def __init__(self, cohort, model, *words):
        self.cohort, self.model, self.words = cohort, model, words
        self.points, self.n_lost = [], 0
        self.port, self.began = None, None
        self.draw = random.Random(3)

    def passed_s(self):
        return time.monotonic() - self.began if self.began else 0

    def kill_on_time(self):
        for at in KILLS_S:
            time.sleep(max(0, at - self.passed_s()))
            with contextlib.suppress(OSError, http.client.HTTPException):  # it may be starting anew
                os.kill(self.draw.choice(recover_bench.ranks(self.port)), signal.SIGKILL)

    def ask(self):
        """Until the end, or the stream's."""
        body = BODY | {"prompt": serve_bench.prompt(random.Random(1), 32, 49152)}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            response, n = connection.getresponse(), 0
            while self.passed_s() < END_S and (line := response.readline()):
                if not line.startswith(b"data: {") or b'"error"' in line:
                    continue
                n += 1
                if not self.began:
                    self.began = time.monotonic()
                    threading.Thread(target=self.kill_on_time, daemon=True).start()
                self.points.append((self.passed_s(), n))

    def run(self):
        while self.passed_s() < END_S:
            with serve_bench.server(self.cohort, self.model, *self.words) as (self.port, _):
                with contextlib.suppress(OSError, http.client.HTTPException):
                    self.ask()
            if self.passed_s() < END_S:
                self.n_lost += 1
                self.points.append(None)  # an answer that nobody ends
        return self


def path_of(points, most):
    parts, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        x = LEFT + point[0] / END_S * (RIGHT - LEFT)
        parts.append(f"{pen}{x:.1f} {BOTTOM - point[1] / most * (BOTTOM - TOP):.1f}")
        pen = "L"
    return "".join(parts)


def longest_ms(points):
    """Between two tokens of one answer."""
    return max((b[0] - a[0]) * 1e3 for a, b in zip(points, points[1:]) if a and b)


def picture(ours, other):
    most = max(point[1] for one in (ours, other) for point in one.points if point) * 1.05
    title = "Tokens of one stream while a rank of two is killed (SIGKILL at 2, 4 and 6 s)"
    lines = (f"ranks are replaced: {ours.n_lost} answers lost, longest gap {longest_ms(ours.points):.0f} ms",
             f"a death ends the server, which is started again: {other.n_lost} answers lost, asked for anew")
    parts = [f'<path d="M{LEFT + at / END_S * (RIGHT - LEFT):.1f} {TOP}V{BOTTOM}" stroke="#c00" stroke-dasharray="3 4"/>'
             for at in KILLS_S]
    for at in range(END_S + 1):
        x = LEFT + at / END_S * (RIGHT - LEFT)
        parts.append(f'<text x="{x:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{at} s</text>')
    step = 10 ** (len(str(int(most))) - 1)
    for tokens in range(0, int(most) + 1, step):
        y = BOTTOM - tokens / most * (BOTTOM - TOP)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{RIGHT}" stroke="#ddd"/>'
                     f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tokens}</text>')
    for one, colour, line, y in zip((ours, other), COLOURS, lines, (BOTTOM + 44, BOTTOM + 64)):
        parts.append(f'<path d="{path_of(one.points, most)}" fill="none" stroke="{colour}" stroke-width="2"/>'
                     f'<path d="M{LEFT} {y - 4}h24" stroke="{colour}" stroke-width="3"/>'
                     f'<text x="{LEFT + 32}" y="{y}">{html.escape(line)}</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 430" font-family="sans-serif" '
            f'font-size="12" role="img">\n<title>{html.escape(title)}</title>\n'
            f'<rect width="900" height="430" fill="#fff"/>\n'
            f'<text x="10" y="24" font-size="14" font-weight="bold">{html.escape(title)}</text>\n'
            f'<text x="10" y="46">SmolLM2-135M, tensor parallel 2, CPU</text>\n' + "\n".join(parts) + "\n</svg>\n")


def main():
    cohort, model = sys.argv[1:3]
    ours = Recording(cohort, model).run()
    other = Recording(cohort, model, "--max-rank-restarts", "0").run()
    print(picture(ours, other), end="")


if __name__ == "__main__":
    main()
