"""Failures of a template, told in terms of its own source."""

import traceback
from pathlib import Path

MAX_CHARACTERS = 2000
MAX_FRAMES = 4


def describe_failure(error: BaseException, source_path: str | Path) -> str:
    """What was raised, and through which lines of the template, the last one first.

    Frames of frameworks are left out.

    Args:
        error: As caught.
        source_path: The file or the archive that the template was loaded from.
    """
    if isinstance(error, SyntaxError) and _is_inside(error.filename or "", str(source_path)):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    message = "".join(traceback.format_exception_only(error)).strip()
    if len(message) > MAX_CHARACTERS:
        message = message[:MAX_CHARACTERS] + " ..."
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_inside(frame.filename, str(source_path))]
    lines = [message]
    for frame in reversed(own[-MAX_FRAMES:]):
        lines.append(f"  {Path(frame.filename).name}, line {frame.lineno}, in {frame.name}")
        if frame.line:
            lines.append(f"    {frame.line}")
    return "\n".join(lines)


def _is_inside(filename: str, source_path: str) -> bool:
    return filename == source_path or filename.startswith(source_path + "/")
