# SPDX-License-Identifier: Apache-2.0
"""What benchmarks print behind a figure that has a goal."""


def at_most(value: float, limit: float) -> str:
    return f", <= {limit:g}: {'met' if value <= limit else 'missed'}"


def at_least(value: float, limit: float) -> str:
    return f", >= {limit:g}: {'met' if value >= limit else 'missed'}"
