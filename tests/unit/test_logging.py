from __future__ import annotations

import subprocess
import sys


def said(code: str) -> list[str]:
    """Lines on standard error of a fresh interpreter, which has no handlers of pytest's."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_a_line_is_said_once_whatever_the_application_logs() -> None:
    code = (
        "import logging; logging.basicConfig(level=logging.DEBUG)\n"
        "from isost._logging import logger\n"
        "logger.info('wrote %s', 'volume.zarr'); logger.debug('detail')"
    )
    assert said(code) == ["isost: wrote volume.zarr"]


def test_a_redirection_made_later_is_honoured() -> None:
    code = (
        "import contextlib, io, sys\n"
        "from isost._logging import logger\n"
        "caught = io.StringIO()\n"
        "with contextlib.redirect_stderr(caught): logger.info('inside')\n"
        "assert caught.getvalue() == 'isost: inside\\n'\n"
        "logger.info('outside')"
    )
    assert said(code) == ["isost: outside"]


def test_it_can_be_silenced_before_and_after_it_is_loaded() -> None:
    silence = "import logging; logging.getLogger('isost').setLevel('ERROR')"
    load = "from isost._logging import logger"
    assert said(f"{silence}\n{load}\nlogger.info('quiet')") == []
    assert said(f"{load}\n{silence}\nlogger.info('quiet')") == []
