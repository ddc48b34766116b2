"""Whether the event logs of a data folder, read from the beginning, lead to the same proposals."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.chaos.faults import WORKERS

from rafiki.server.advisors import create_advisor
from rafiki.server.domain.advisor import Proposal, Proposed, Situation
from rafiki.server.domain.studies import StudyFacts
from rafiki.server.service.running_jobs import study_facts
from rafiki.server.store.database import Database
from rafiki.server.store.events import read_events
from rafiki.server.store.jobs import find_job
from rafiki.server.store.studies import studies_of

# Ended jobs too, which no server restores.
_ALL_JOBS = "SELECT id FROM train_jobs"


def check_replay(data_dir: Path) -> Iterator[str]:
    """Folds a fresh advisor over each log, and has it decide wherever something was proposed.

    For a folder that no server uses, and for advisors whose decisions do not depend on the
    number of workers.
    """
    with Database.in_folder(data_dir) as database:
        for facts in _studies(database):
            yield from _check_study(database, facts)


def _check_study(database: Database, facts: StudyFacts) -> Iterator[str]:
    advisor = create_advisor(facts.advisor_config())
    with database.read() as connection:
        for _, event in read_events(connection, facts.name, 0):
            if isinstance(event, Proposed):
                situation = Situation(number=event.number, elapsed_s=event.at_s, workers=WORKERS)
                decision = advisor.decide(situation)
                if not isinstance(decision, Proposal):
                    yield f"{facts.name}: {event.number} was proposed, and now {decision}"
                elif replace(decision, basis={}) != replace(event.proposal, basis={}):
                    yield f"{facts.name}: trial {event.number} would now be another: {decision}"
            advisor.apply(event)


def _studies(database: Database) -> Iterator[StudyFacts]:
    with database.read() as connection:
        for (job_id,) in connection.exec_driver_sql(_ALL_JOBS).all():
            job = find_job(connection, job_id)
            assert job is not None
            for stored in studies_of(connection, job_id):
                yield study_facts(connection, job, stored)
