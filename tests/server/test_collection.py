"""Garbage collection, of rows and files."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import update
from tests.server.conftest import AddTrial

from rafiki.resources import Checkpoint, StudyState, Tensor, TrialPhase, TrialState
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.errors import BlobsMissing, LeaseLost, QuotaExceeded, ResourceNotFound
from rafiki.server.domain.names import CheckpointName, StudyName
from rafiki.server.service.checkpoints import CheckpointService
from rafiki.server.service.collection import Collected, Collector
from rafiki.server.store.blobs import FileBlobs
from rafiki.server.store.database import Database
from rafiki.server.store.tables import studies, trials
from rafiki.wire.blobs import digest_of

NOW = timedelta(0)


@pytest.fixture
def needed() -> dict[StudyName, frozenset[str]]:
    """What advisors need; tests change it."""
    return {}


@pytest.fixture
def collector(
    database: Database,
    blobs: FileBlobs,
    clock: Clock,
    study: StudyName,
    needed: dict[StudyName, frozenset[str]],
) -> Iterator[Collector]:
    needed[study] = frozenset()
    yield Collector(database, blobs, clock, lambda: needed, grace=NOW, keep_best=1)


@pytest.fixture
def service(database: Database, blobs: FileBlobs, clock: Clock) -> CheckpointService:
    return CheckpointService(database, blobs, clock)


def upload(blobs: FileBlobs, *contents: bytes) -> None:
    with blobs.stage() as staging:
        for data in contents:
            staging.add(digest_of(data)).write(data)
            staging.verify()
        staging.publish()


def manifest(*contents: bytes) -> Checkpoint:
    return Checkpoint(
        tensors=tuple(
            Tensor(path=f"t{number}", dtype="uint8", shape=(len(data),), digest=digest_of(data))
            for number, data in enumerate(contents)
        )
    )


class Trials:
    """Trials that save and end, as rows."""

    def __init__(
        self, database: Database, blobs: FileBlobs, service: CheckpointService, add: AddTrial
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._service = service
        self._add = add

    def save(self, number: int, *contents: bytes, **columns: object) -> CheckpointName:
        """The checkpoint of a new running trial."""
        trial = self._add(number, f"lease-{number}", **columns)
        upload(self._blobs, *contents)
        created = self._service.create(trial.parent, manifest(*contents), f"lease-{number}")
        return CheckpointName.parse(created.name)

    def complete(self, name: CheckpointName, score: float | None) -> None:
        self.change(
            name,
            state=TrialState.COMPLETED,
            score=score,
            final_checkpoint=str(name),
        )

    def change(self, name: CheckpointName, **columns: object) -> None:
        with self._database.write() as connection:
            connection.execute(
                update(trials)
                .where(
                    trials.c.job == name.job,
                    trials.c.study == name.study,
                    trials.c.number == name.trial,
                )
                .values(**columns)
            )


@pytest.fixture
def made(
    database: Database, blobs: FileBlobs, service: CheckpointService, add_trial: AddTrial
) -> Trials:
    return Trials(database, blobs, service, add_trial)


def test_blobs_that_nothing_names_are_collected_and_the_others_kept(
    made: Trials, collector: Collector, blobs: FileBlobs
) -> None:
    upload(blobs, b"nobody's", b"")
    made.save(1, b"somebody's")
    assert collector.collect() == Collected((), 2, 8)
    assert blobs.has(digest_of(b"somebody's"))
    assert not blobs.has(digest_of(b"nobody's"))
    assert collector.collect() == Collected()


def test_blobs_are_kept_for_the_grace_period(
    database: Database, blobs: FileBlobs, clock: Clock
) -> None:
    upload(blobs, b"nobody's")
    day = timedelta(days=1)
    collector = Collector(database, blobs, clock, lambda: {}, grace=day, keep_best=1)
    assert collector.collect() == Collected()
    assert blobs.has(digest_of(b"nobody's"))


def test_a_superseded_trial_loses_what_it_alone_has(
    made: Trials, collector: Collector, service: CheckpointService, blobs: FileBlobs
) -> None:
    worse, better = made.save(1, b"shared", b"old"), made.save(2, b"shared", b"new")
    made.complete(worse, 0.1)
    made.complete(better, 0.9)
    assert collector.preview() == Collected((str(worse),), 1, 3)
    assert collector.collect() == Collected((str(worse),), 1, 3)
    with pytest.raises(ResourceNotFound, match="has been collected"):
        service.get(worse)
    assert service.get(better).tensors == manifest(b"shared", b"new").tensors
    assert blobs.has(digest_of(b"shared"))
    listed = service.list(worse.parent, limit=10, after=None)
    assert [checkpoint.name for checkpoint in listed] == [str(better)]


def test_a_preview_removes_nothing(
    made: Trials, collector: Collector, service: CheckpointService, blobs: FileBlobs
) -> None:
    worse, better = made.save(1, b"old"), made.save(2, b"new")
    made.complete(worse, 0.1)
    made.complete(better, 0.9)
    upload(blobs, b"nobody's")
    assert collector.preview() == collector.preview() == Collected((str(worse),), 2, 11)
    assert service.get(worse).tensors == manifest(b"old").tensors
    assert blobs.has(digest_of(b"nobody's"))


def test_what_an_unfinished_trial_starts_from_is_kept_until_it_ends(
    made: Trials, collector: Collector, service: CheckpointService
) -> None:
    start, better = made.save(1, b"start"), made.save(2, b"better")
    made.complete(start, 0.1)
    made.complete(better, 0.9)
    running = made.save(3, b"running", start_checkpoint=str(start))
    assert collector.collect() == Collected()
    made.change(running, state=TrialState.PENDING)
    assert collector.collect() == Collected()
    made.change(running, state=TrialState.ERRORED)
    assert set(collector.collect().checkpoints) == {str(start), str(running)}
    assert service.get(better)


def test_what_the_advisor_of_a_running_study_needs_is_kept_until_it_ends(
    made: Trials,
    collector: Collector,
    needed: dict[StudyName, frozenset[str]],
    database: Database,
    study: StudyName,
) -> None:
    version, better = made.save(1, b"version"), made.save(2, b"better")
    made.complete(version, 0.1)
    made.complete(better, 0.9)
    needed[study] = frozenset({str(version)})
    assert collector.collect() == Collected()
    needed.clear()  # a study that runs, whose advisor cannot be asked yet
    assert collector.collect() == Collected()
    with database.write() as connection:
        connection.execute(update(studies).values(state=StudyState.SUCCEEDED))
    assert collector.collect().checkpoints == (str(version),)


def test_the_final_models_are_kept(made: Trials, collector: Collector) -> None:
    for number, phase in enumerate((TrialPhase.TUNE, TrialPhase.FINAL_TRAIN), 1):
        made.complete(made.save(number, bytes([number]), phase=phase), 0.5)
    made.complete(made.save(3, b"3", phase=TrialPhase.FINAL_TRAIN), 0.4)
    [collected] = collector.collect().checkpoints
    assert collected.endswith("/1-1")


def test_repeating_the_creation_of_a_collected_checkpoint_loses_the_lease(
    made: Trials, collector: Collector, service: CheckpointService, study: StudyName
) -> None:
    worse, better = made.save(1, b"old"), made.save(2, b"new")
    made.complete(worse, 0.1)
    made.complete(better, 0.9)
    collector.collect()
    with pytest.raises(LeaseLost):
        service.create(study, manifest(b"old"), "lease-1")


def test_a_checkpoint_whose_blobs_were_collected_meanwhile_says_so(
    made: Trials,
    collector: Collector,
    service: CheckpointService,
    blobs: FileBlobs,
    add_trial: AddTrial,
    study: StudyName,
) -> None:
    add_trial(1, "lease-1")
    upload(blobs, b"weights")
    assert blobs.renew(digest_of(b"weights"))  # what FindMissingBlobs would answer from
    collector.collect()
    with pytest.raises(BlobsMissing):
        service.create(study, manifest(b"weights"), "lease-1")
    upload(blobs, b"weights")
    assert service.create(study, manifest(b"weights"), "lease-1").size_bytes == 7


def test_a_job_may_take_its_quota_and_no_more(
    database: Database, blobs: FileBlobs, clock: Clock, add_trial: AddTrial, study: StudyName
) -> None:
    service = CheckpointService(database, blobs, clock, quota_bytes=10)
    made = Trials(database, blobs, service, add_trial)
    made.save(1, b"12345")
    made.save(2, b"12345")
    with pytest.raises(QuotaExceeded) as caught:
        made.save(3, b"1")
    assert str(caught.value) == (
        "the checkpoints of trainJobs/0123abcd take 10 bytes; 1 more would be above its quota "
        "of 10: have models save less, or raise the server's checkpoint quota"
    )


def test_a_job_at_its_quota_loses_first_what_it_needs_no_more(
    database: Database,
    blobs: FileBlobs,
    clock: Clock,
    add_trial: AddTrial,
    collector: Collector,
) -> None:
    service = CheckpointService(
        database, blobs, clock, quota_bytes=10, make_room=collector.collect_checkpoints
    )
    made = Trials(database, blobs, service, add_trial)
    worse, better = made.save(1, b"12345"), made.save(2, b"12345")
    made.complete(worse, 0.1)
    made.complete(better, 0.9)
    made.save(3, b"123")
    with pytest.raises(ResourceNotFound):
        service.get(worse)
    with pytest.raises(QuotaExceeded):
        made.save(4, b"123")
