"""Following a job on the terminal until it ends."""

import queue
import threading
from collections.abc import Callable

from rich.console import Console
from rich.live import Live

from rafiki.client.cli.lines import JobLines
from rafiki.client.cli.output import console
from rafiki.client.cli.progress import Event, JobProgress
from rafiki.client.cli.screen import screen
from rafiki.client.client import Client
from rafiki.client.errors import RafikiError

# Between looks at the job itself: workers come and go without an event.
JOB_POLL_S = 3.0
TICK_S = 0.25


def watch_job(
    client: Client,
    name: str,
    *,
    on_tick: Callable[[], None] = lambda: None,
    hint: str = "Ctrl-C leaves the job running",
) -> JobProgress:
    """Shows a job until it ends: a live screen on a terminal, else plain lines.

    Args:
        client: The connection.
        name: The job.
        on_tick: Called several times a second, in this thread.
        hint: A line at the end of the screen.

    Returns:
        What is known of the job, which has ended.

    Raises:
        KeyboardInterrupt: Ctrl-C; the job goes on.
        RafikiError: The server stayed away.
    """
    progress = JobProgress.load(client, name)
    out = console()
    if out.is_terminal:
        return _watch_live(client, progress, out, on_tick, hint)
    said = JobLines()

    def show(event: Event) -> None:
        for line in said.lines(event):
            print(line, flush=True)

    for study in progress.studies.values():
        show(study)
        for study_round in progress.rounds_of(study.name):
            show(study_round)
    _follow(client, progress, on_tick, show)
    return progress


def _watch_live(
    client: Client,
    progress: JobProgress,
    out: Console,
    on_tick: Callable[[], None],
    hint: str,
) -> JobProgress:
    with Live(
        get_renderable=lambda: screen(
            progress, "" if progress.job.state.is_end else hint, out.height
        ),
        console=out,
        refresh_per_second=4,
        vertical_overflow="crop",
    ):
        _follow(client, progress, on_tick, lambda event: None)
    return progress


def _follow(
    client: Client,
    progress: JobProgress,
    on_tick: Callable[[], None],
    show: Callable[[Event], None],
) -> None:
    """Folds events into `progress` until the job has ended."""
    name = progress.job.name
    events: queue.SimpleQueue[Event | RafikiError | None] = queue.SimpleQueue()
    done = threading.Event()

    def read() -> None:
        try:
            for event in client.watch_train_job(name):
                events.put(event)
                if done.is_set():
                    return
            events.put(None)
        except RafikiError as error:
            events.put(error)

    def poll() -> None:
        while not done.wait(JOB_POLL_S):
            try:
                events.put(client.get_train_job(name))
            except RafikiError:
                continue  # the watch judges whether the server is gone

    for target in (read, poll):
        threading.Thread(target=target, name=f"watch-{target.__name__}", daemon=True).start()
    try:
        while True:
            on_tick()
            try:
                event = events.get(timeout=TICK_S)
            except queue.Empty:
                continue
            if event is None:
                break
            if isinstance(event, RafikiError):
                raise event
            progress.apply(event)
            show(event)
    finally:
        done.set()
    # What the stream left out at its end.
    latest: list[Event] = [client.get_train_job(name), *client.list_studies(name)]
    for last in latest:
        progress.apply(last)
        show(last)
