"""Docstrings as pages show them: a session that begins with `>>>` is a block of code."""

from __future__ import annotations

import re

import griffe

# From a prompt to the next empty line, as doctest reads it.
_SESSION = re.compile(r"^(?P<indent> *)>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


class Sessions(griffe.Extension):
    """Put the sessions of all docstrings into fences."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite the docstring of an object before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = _SESSION.sub(
                r"\g<indent>```pycon\n\g<0>\n\g<indent>```", obj.docstring.value
            )
