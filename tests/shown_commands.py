"""The commands that a page shows, to be run as somebody would who copies them."""

import re
import shlex
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]


def shown_commands(*names):
    """The words behind ``penstock`` of every command in the blocks of pages, in the order of the pages.

    What runs a command for somebody (nohup, tmux, sbatch) and where its output goes are left out.

    Args:
        names: of pages, from the top of the repository.
    """
    found = []
    for name in names:
        text = (TOP / name).read_text(encoding="utf-8")
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
            lines = block.replace("\\\n", " ").splitlines() if language in ("", "console") else ()
            for line in lines:
                found += [command for command in [_words(line.removeprefix("$ "))] if command]
    return found


def _words(line):
    """``tmux new -d 'penstock run ...'``: the last place where penstock is called, without what follows."""
    words = shlex.split(line, comments=True)
    if words and " " in words[-1] and "penstock " in words[-1]:
        words = shlex.split(words[-1])
    if "penstock" not in words:
        return None
    words = words[words.index("penstock") + 1 :]
    ends = [at for at, word in enumerate(words) if re.fullmatch(r"\d?>.*|&", word)]
    return words[: ends[0]] if ends else words
