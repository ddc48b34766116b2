"""What is gathered after a storm: by the client, from the database file, from the blobs."""

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from tests.chaos.check import Evidence, LoggedEvent, ServedStudy, ServedTrial
from tests.chaos.ledger import read_reports, read_runs

from rafiki.client import Client
from rafiki.resources import TrainJob, Trial, TrialState

# Checkpoints that are also downloaded by the client: all would take long.
SAMPLED_CHECKPOINTS = 40
# What the template saves.
TENSORS = {"seed", "drawn", "same"}


def gather(client: Client, folder: Path) -> Evidence:
    """All that is to be compared. `folder` is that of the platform, whose server runs."""
    jobs = list(client.list_train_jobs())
    trials = [trial for job in jobs for trial in client.list_trials(job.name)]
    with closing(_database(folder / "data")) as database:
        tokens = _tokens(database)
        events = list(_events(database))
    return Evidence(
        reports=read_reports(folder / "ledgers"),
        runs=read_runs(folder / "runs"),
        studies=[study for job in jobs for study in _studies(client, job)],
        trials=[_served(trial, tokens[trial.name]) for trial in trials],
        events=events,
    )


def check_checkpoints(client: Client) -> Iterator[str]:
    """Downloads checkpoints, evenly spread over all trials, and compares what they hold."""
    trials = [
        trial
        for job in client.list_train_jobs()
        for trial in client.list_trials(job.name, states=[TrialState.COMPLETED])
        if trial.final_checkpoint
    ]
    if not trials:
        yield "no trial has a checkpoint"
    for trial in trials[:: max(1, len(trials) // SAMPLED_CHECKPOINTS)]:
        tensors = client.download_checkpoint(trial.final_checkpoint)
        if int(tensors["seed"]) != trial.seed:
            yield f"{trial.final_checkpoint} is of another trial"
        elif not np.array_equal(
            tensors["drawn"],
            np.random.default_rng(trial.seed).normal(size=tensors["drawn"].size),
        ):
            yield f"{trial.final_checkpoint} holds other numbers than were trained"


def check_storage(data_dir: Path) -> Iterator[str]:
    """Whether the database is sound, and all blobs it names are there and what they should be.

    For a server that has stopped.
    """
    with closing(_database(data_dir)) as database:
        for (answer,) in database.execute("PRAGMA integrity_check"):
            if answer != "ok":
                yield f"the database is broken: {answer}"
        for row in database.execute("PRAGMA foreign_key_check"):
            yield f"the database has a reference to nothing: {row}"
        named = dict(
            database.execute(
                "SELECT sha256, size_bytes FROM checkpoint_tensors"
                " UNION SELECT source_sha256, source_size_bytes FROM models"
                " UNION SELECT sha256, size_bytes FROM datasets"
            ).fetchall()
        )
        tensors: defaultdict[str, set[str]] = defaultdict(set)
        for job, study, checkpoint, path in database.execute(
            "SELECT job, study, checkpoint, path FROM checkpoint_tensors"
        ):
            tensors[f"trainJobs/{job}/studies/{study}/checkpoints/{checkpoint}"].add(path)
        for (name,) in database.execute(
            "SELECT final_checkpoint FROM trials WHERE state = 'COMPLETED' AND save"
        ):
            if tensors[name] != TENSORS:
                yield f"the checkpoint {name!r} of a completed trial holds {sorted(tensors[name])}"
    stored = set()
    for path in (data_dir / "blobs").glob("??/*"):
        data = path.read_bytes()
        stored.add(path.name)
        if hashlib.sha256(data).hexdigest() != path.name:
            yield f"blob {path.name} is corrupt"
        if named.get(path.name, len(data)) != len(data):
            yield f"blob {path.name} has {len(data)} bytes of {named[path.name]}"
    for missing in named.keys() - stored:
        yield f"blob {missing} is missing"
    for leftover in (data_dir / "blobs" / "incoming").iterdir():
        yield f"{leftover} was left behind"


def facts(client: Client) -> object:
    """All jobs and trials, to be compared with those that a copy of the folder holds."""
    jobs = list(client.list_train_jobs())
    return [
        (job.name, job.state, job.best_trial, list(client.list_trials(job.name))) for job in jobs
    ]


def _studies(client: Client, job: TrainJob) -> Iterator[ServedStudy]:
    for study in client.list_studies(job.name):
        yield ServedStudy(
            name=study.name,
            job_state=job.state,
            budget_trials=job.budget.model_trial_count,
            completed=study.completed_trials,
            errored=study.errored_trials,
            cancelled=study.cancelled_trials,
            end_reason=f"{study.end_reason}: {study.end_message}",
        )


def _served(trial: Trial, token: str) -> ServedTrial:
    return ServedTrial(
        name=trial.name,
        phase=trial.phase,
        state=trial.state,
        attempt=trial.attempt,
        seed=trial.seed,
        score=trial.score,
        token=token,
        error_kind=trial.error.kind if trial.error else None,
    )


def _database(data_dir: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{data_dir / 'rafiki.db'}?mode=ro", uri=True)


def _tokens(database: sqlite3.Connection) -> dict[str, str]:
    rows = database.execute("SELECT job, study, number, lease_token FROM trials")
    return {
        f"trainJobs/{job}/studies/{study}/trials/{number}": token or ""
        for job, study, number, token in rows
    }


def _events(database: sqlite3.Connection) -> Iterator[LoggedEvent]:
    for job, study, sequence, kind, trial in database.execute(
        "SELECT job, study, sequence, kind, trial FROM study_events"
    ):
        name = f"trainJobs/{job}/studies/{study}"
        yield LoggedEvent(study=name, sequence=sequence, kind=kind, trial=trial)
