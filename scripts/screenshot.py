"""screenshot.py SESSION COLUMNS SVG: the part of a recorded `make demo` that fits on a screen, drawn as a terminal."""

import io
import re
import sys

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

# The headings of the demonstration between which the picture is taken.
FIRST, LAST = "A Rust command", "A program beside it"

# rich's own form asks another host for a font; the viewer's will do.
FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def scene(session: str) -> str:
    """The lines from the first heading up to the last, without what differs from build to build."""
    lines = session.replace("\r", "").splitlines()
    start, end = (next(at for at, line in enumerate(lines) if f"== {title}" in line) for title in (FIRST, LAST))
    text = "\n".join(lines[start:end]).rstrip()
    # The hash in a symbol's name says nothing to a reader.
    return re.sub(r"::h[0-9a-f]{16}|(?<=std)\[[0-9a-f]{16}\]|(?<=command)-[0-9a-f]{16}", "", text)


def main() -> None:
    session, columns, svg = sys.argv[1:]
    with open(session, encoding="utf-8") as file:
        text = Text.from_ansi(scene(file.read()))
    console = Console(record=True, width=int(columns), file=io.StringIO(), force_terminal=True)
    console.print(text)
    # One name for what is drawn, so that the same output is the same file.
    drawn = console.export_svg(title="make demo", theme=MONOKAI, unique_id="demo")
    with open(svg, "w", encoding="utf-8") as file:
        file.write(FONT.sub("", drawn))


main()
