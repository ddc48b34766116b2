"""The bench: a template through its whole life, without a server."""

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from rafiki.model.base import takes_candidates
from rafiki.model.bench.batches import check_batches
from rafiki.model.bench.declaration import check_declaration
from rafiki.model.bench.life import check_end, check_life
from rafiki.model.bench.report import Complaint, Recorder, Report
from rafiki.model.bench.subject import Subject, connect_sink
from rafiki.model.datasets import InvalidDataset
from rafiki.model.logger import logger
from rafiki.model.tasks import TASKS

TRAIN_COUNT = 160
VALIDATION_COUNT = 80
QUERY_COUNT = 3


def run_bench(
    path: str | Path,
    *,
    model_class: str | None = None,
    train_path: str | Path | None = None,
    validation_path: str | Path | None = None,
    extract_only: bool = False,
    full_training_s: float = 180.0,
    on_change: Callable[[Report, bool], None] = lambda report, is_done: None,
) -> Report:
    """Runs user code: in a process of its own, unless the template is trusted.

    Args:
        path: The Python file (or the archive, with `model_class` as "module:Class").
        model_class: The class; needed where the file defines several.
        train_path: Data to train on; without it a small set is made up, for a task known here.
        validation_path: Data to evaluate on; `train_path` without it.
        extract_only: Stop after what the template declares.
        full_training_s: When to cut a training off that has no policy on and does not stop.
        on_change: Called before and after every step, with whether the last one is done.
    """
    path = Path(path).absolute()
    recorder = Recorder(path, on_change)
    connect_sink()
    threads = set(threading.enumerate())
    try:
        declared = check_declaration(recorder, path, model_class)
        if declared is None or extract_only:
            return recorder.report
        template, config = declared
        with tempfile.TemporaryDirectory(prefix="rafiki-bench-") as folder:

            def prepare() -> tuple[Path, Path, list[object] | None]:
                return _prepare_data(recorder, Path(folder), train_path, validation_path)

            data = recorder.run("data to train on", prepare)
            if data is None:
                return recorder.report
            subject = Subject(
                model_class=template,
                config=config,
                train_path=data[0],
                validation_path=data[1],
                queries=data[2],
                full_training_s=full_training_s,
            )
            check_life(recorder, subject)
            if takes_candidates(template):
                check_batches(recorder, subject)
            check_end(recorder, subject, threads)
        return recorder.report
    finally:
        logger.connect(None)


def _prepare_data(
    recorder: Recorder,
    folder: Path,
    train_path: str | Path | None,
    validation_path: str | Path | None,
) -> tuple[Path, Path, list[object] | None]:
    task = recorder.report.task
    known = TASKS.get(task)
    if train_path is not None:
        train = Path(train_path).absolute()
        validation = train if validation_path is None else Path(validation_path).absolute()
        for path in (train, validation):
            if not path.is_file():
                raise Complaint(f"There is no file {path}.", "check --train and --validation.")
    elif known is not None:
        train, validation = (folder / f"{part}{known.suffix}" for part in ("train", "validation"))
        recorder.remark(known.write_sample(train, TRAIN_COUNT, 1))
        known.write_sample(validation, VALIDATION_COUNT, 2)
    else:
        raise Complaint(
            f"There is no made-up data for the task {task or '(none)'}.",
            "give a small data set of your own with --train and --validation.",
        )
    if known is None:
        recorder.remark("Note: predict() is not checked: queries of this task are unknown here.")
        return train, validation, None
    try:
        return train, validation, known.read_queries(validation, QUERY_COUNT)
    except InvalidDataset as error:
        raise Complaint(f"{error}.", "correct the data set.") from error
