"""For mkdocstrings: ``Example:`` is a section of examples, and ``::`` before indented code ends a sentence."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Rewrites docstrings of this project's style to the ones the parser knows."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Called for every object that was read."""
        text = obj.docstring
        if text is not None:
            value = re.sub(r"^( *)Example:\n", r"\1Examples:\n", text.value, flags=re.MULTILINE)
            value = re.sub(r" *# doctest: \+SKIP", "", value)
            text.value = re.sub(r"::\n\n(?= )", ":\n\n", value)
