"""A time limit on code that does not look at the clock."""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType


class TimeLimitReached(BaseException):
    """Raised inside the code; not an Exception, so that nothing there takes it for its own."""


def run_limited(code: Callable[[], object], limit_s: float) -> bool:
    """Runs `code`; False if it was cut off, at the first line of Python past the limit.

    Without a limit outside of the main thread, and where there are no alarm signals.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        code()
        return True

    def expire(number: int, frame: FrameType | None) -> None:
        raise TimeLimitReached

    start = time.monotonic()
    old_handler = signal.signal(signal.SIGALRM, expire)
    old_delay_s, old_interval_s = signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        code()
    except TimeLimitReached:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old_handler)
        if old_delay_s:
            left_s = old_delay_s - (time.monotonic() - start)
            signal.setitimer(signal.ITIMER_REAL, max(left_s, 0.001), old_interval_s)
    return True
