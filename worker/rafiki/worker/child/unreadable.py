"""Programs of the compilation cache that cannot be loaded are dropped.

Workers of one machine share the cache, and JAX writes it in place: one that is ended, or a
full disk, leaves half a program. JAX warns of it, compiles again and leaves it there, since it
never writes a file twice; so every other process would come upon it again.
"""

import os
import re
import warnings
from pathlib import Path
from typing import TextIO

_UNREADABLE = re.compile(r"Error reading persistent compilation cache entry for '([\w.-]+)'")


def drop_unreadable_programs() -> None:
    """From now on drops, without a word, what JAX says it cannot load."""
    show = warnings.showwarning

    def show_or_drop(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if match := _UNREADABLE.match(str(message)):
            _drop(match[1])
        else:
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = show_or_drop
    warnings.filterwarnings("always", message=_UNREADABLE.pattern)


def _drop(program: str) -> None:
    # The warning names no file. Others of the same program are compiled again at worst.
    if folder := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        for path in Path(folder).glob(f"{program}-*-cache"):
            path.unlink(missing_ok=True)
