"""Source files, parsed once for all tests of a process that read them."""

import ast
from functools import cache


@cache
def parsed(path):
    """The syntax tree of a file; nobody changes it."""
    return ast.parse(path.read_text())
