from __future__ import annotations

import logging
import sys
from typing import TextIO


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stderr` is now, so that notebooks and redirections made later are honoured."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def _configured() -> logging.Logger:
    named = logging.getLogger("isost")
    if not named.handlers:
        handler = _StderrHandler()
        handler.setFormatter(logging.Formatter("isost: %(message)s"))
        named.addHandler(handler)
        if named.level == logging.NOTSET:
            named.setLevel(logging.INFO)
        # The handler has written the line; an application's root handler would write it again.
        named.propagate = False
    return named


logger = _configured()
