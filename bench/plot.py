#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""usage: plot.py RESULTS.txt - every figure that has a floor, as an SVG picture on standard output.

A row is one figure: the median of its rounds as a dot, least and greatest as a line, its goal as a
tick. The scale is how many times as fast as its floor it is, so that right is better in every row.
"""
import html
import math
import re
import sys

# "... 1.33 (1.29 - 1.44), <= 1.50: met" and "... 72 % of the bare read (64 - 75), >= 60 %: met"
FIGURE = re.compile(r"(?:\| |ratio +)?([\d.]+)(?: %)?([a-zA-Z' ]*)\(([\d.]+) - ([\d.]+)\)(?:, [<>]= ([\d.]+)(?: %)?: (\w+))?\s*$")
NAME = re.compile(r"\s*(\S+(?: \S+)*)  ")
FASTER_IS_MORE = ("of the bare read", "times OpenBLAS' speed")
LEFT, RIGHT, ROW, LEAST, MOST = 330, 830, 20, 1 / 16, 4.0


def figures(text):
    """(section, name, median, least, greatest, goal, met) of each line that has a floor."""
    section, group = "", ""
    for line in text.splitlines():
        if line.startswith("== "):
            section, group = line[3:], ""
            continue
        figure, name = FIGURE.search(line), NAME.match(line)
        if not figure or not name:
            group = line.strip() if len(line) < 40 else group
            continue
        median, unit, least, greatest, goal, met = figure.groups()
        values = [float(value) for value in (median, least, greatest, goal or "nan")]
        unit, is_share = unit.strip(), " % " in figure[0]
        if values[0] == values[1] == values[2] or (unit in ("", "ms", "us") and figure[0][0] not in "|r"):
            continue  # the floor beside itself, or a time
        if is_share:
            values = [value / 100 for value in values]
        if unit not in FASTER_IS_MORE and figure[0][0] != "r":
            values = [1 / value if value else MOST for value in values]
            values[1], values[2] = values[2], values[1]
        in_group = line.startswith("  ") and group
        yield section, f"{group}: {name[1]}" if in_group else name[1], *values, met


def x_of(value):
    """Where a ratio stands, by its logarithm."""
    share = math.log(min(max(value, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return LEFT + share * (RIGHT - LEFT)


def row(y, name, median, least, greatest, goal, met):
    colour = "#c60" if met in ("missed", "MISSED") else "#27c"
    tick = f'<path d="M{x_of(goal):.1f} {y - 6}v12" stroke="#888"/>' if goal == goal else ""
    return (f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{html.escape(name)}</text>{tick}'
            f'<path d="M{x_of(least):.1f} {y}H{x_of(greatest):.1f}" stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{x_of(median):.1f}" cy="{y}" r="4" fill="{colour}"/>'
            f'<text x="{RIGHT + 12}" y="{y + 4}">{median:.2f}</text>')


def picture(text):
    machine = re.search(r"^machine: ([^,]+, [^,]+)", text, re.M)
    title = f"Times as fast as the floor; {machine[1] if machine else ''}, {text.split(',')[0].split()[0]}"
    parts, y, last = [], 64, None
    for section, *figure in figures(text):
        if section != last:
            y += 12
            parts.append(f'<text x="10" y="{y + 4}" font-weight="bold">{html.escape(section)}</text>')
            y += ROW
            last = section
        parts.append(row(y, *figure))
        y += ROW
    grid = "".join(
        f'<path d="M{x_of(at):.1f} 50V{y}" stroke="{"#555" if at == 1 else "#ddd"}"/>'
        f'<text x="{x_of(at):.1f}" y="44" text-anchor="middle">{at:g}</text>' for at in (.0625, .125, .25, .5, 1, 2, 4))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {y + 12}" font-family="sans-serif" '
            f'font-size="12" role="img">\n<title>{html.escape(title)}</title>\n'
            f'<rect width="900" height="{y + 12}" fill="#fff"/>\n'
            f'<text x="10" y="22" font-size="14" font-weight="bold">{html.escape(title)}</text>\n'
            + grid + "\n" + "\n".join(parts) + "\n</svg>\n")


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as results:
        print(picture(results.read()), end="")
