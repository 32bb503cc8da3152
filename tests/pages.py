"""Fenced blocks of the pages."""

import re

FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str) -> list[tuple[int, str]]:
    """Fenced blocks of a language with the number of their first line."""
    matches = [match for match in FENCE.finditer(text) if match.group(1).strip() == language]
    return [(text.count("\n", 0, match.start(2)) + 1, match.group(2)) for match in matches]
