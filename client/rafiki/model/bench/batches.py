"""Steps for templates that train and evaluate many candidates in one trial."""

import math
from collections.abc import Mapping

import numpy as np

from rafiki.model.base import BaseModel, CandidateModel
from rafiki.model.bench.report import Complaint, Recorder
from rafiki.model.bench.sample import random_candidates
from rafiki.model.bench.subject import (
    Stored,
    Subject,
    checked_score,
    connect_sink,
    differing,
    quoted,
    restore,
    store,
)
from rafiki.model.knobs import Policy, Scalar

COUNT = 3
EVALUATION_SEED = 5


def check_batches(recorder: Recorder, subject: Subject) -> None:
    """Runs the steps, under the policies of the search phases that the template offers."""
    candidates = random_candidates(subject.config, 1, COUNT)
    training = subject.offered(Policy.SHARE_PARAMS, Policy.DOWNSCALE, Policy.EARLY_STOP)
    final = subject.offered(Policy.SHARE_PARAMS, Policy.SKIP_TRAIN, Policy.DOWNSCALE)

    def train() -> tuple[BaseModel, Stored]:
        model = subject.construct(training)
        return model, _train(recorder, subject, model, candidates, None, None)

    trained = recorder.run(f"train_candidates() trains {COUNT} architectures", train)
    if trained is None:
        return
    model, stored = trained
    recorder.run(
        "train_candidates() continues from shared parameters, as one shard of two",
        lambda: _train(recorder, subject, subject.construct(training), candidates, stored, (1, 2)),
    )
    scores = recorder.run(
        "evaluate_candidates() scores them, twice the same",
        lambda: _evaluate_twice(recorder, subject, model, candidates),
    )
    if scores is None:
        return
    recorder.run(
        "a fresh instance that loads the weights scores them the same",
        lambda: _compare_loaded(subject, stored, candidates, final, scores),
    )
    if quick := subject.offered(Policy.QUICK_EVAL):
        recorder.run(
            "with QUICK_EVAL all are scored on one minibatch of the seed",
            lambda: _check_quick(subject, stored, candidates, final | quick),
        )


def _train(
    recorder: Recorder,
    subject: Subject,
    model: BaseModel,
    candidates: list[dict[str, list[Scalar]]],
    shared: Stored | None,
    shard: tuple[int, int] | None,
) -> Stored:
    assert isinstance(model, CandidateModel)
    connect_sink()
    result: object = model.train_candidates(
        str(subject.train_path),
        _copies(candidates),
        shared_params=None if shared is None else restore(shared),
        shard=shard or (0, 1),
        data_seed=7,
        round=1 if shared is None else 2,
    )
    stored = store(model.dump_parameters())
    _check_result(result, stored)
    if shared is not None:
        assert isinstance(result, Mapping)
        if lost := sorted(shared.keys() - stored.keys()):
            raise Complaint(
                f"After train_candidates() with shared parameters {quoted(lost)} are missing.",
                "dump every tensor, also those that no candidate used.",
            )
        touched = [
            path
            for path in differing(shared, stored)
            if path not in result["updates"] and not path.startswith("optimizer/")
        ]
        if touched:
            recorder.remark(
                f"Note: {quoted(touched)} changed without a count in `updates`; such tensors "
                "weigh 1 when shards are merged."
            )
        if len(differing(shared, stored)) == 0:
            raise Complaint(
                "train_candidates() changed no parameter.",
                "train minibatch k with candidates[k], from shared_params where given.",
            )
    return stored


def _check_result(result: object, stored: Stored) -> None:
    if not isinstance(result, Mapping):
        raise Complaint(
            f"train_candidates() returned {type(result).__name__}.",
            'return {"steps_per_epoch": int, "updates": {path: int}, "loss": float, ...}.',
        )
    steps = result.get("steps_per_epoch")
    if type(steps) is not int or steps < 1:
        raise Complaint(
            f'train_candidates() returned "steps_per_epoch": {steps!r}.',
            "return the minibatches of one pass over the whole data set as an int; the server "
            "sends that many candidates.",
        )
    updates = result.get("updates")
    if not isinstance(updates, Mapping):
        raise Complaint(
            f'train_candidates() returned "updates": {updates!r}.',
            "return a dict: path of a tensor to the number of times it was updated.",
        )
    if unknown := sorted(map(str, updates.keys() - stored.keys())):
        raise Complaint(
            f'"updates" names {quoted(unknown)}, which dump_parameters() does not return.',
            "use the same paths in both.",
        )
    for path, count in updates.items():
        if type(count) is not int or count < 0:
            raise Complaint(
                f'"updates" of {path!r} is {count!r}.', "count updates with plain ints from 0."
            )
    for name, value in result.items():
        if name in ("steps_per_epoch", "updates"):
            continue
        try:
            float(value)
        except (TypeError, ValueError):
            raise Complaint(
                f"The metric {name!r} of train_candidates() is {type(value).__name__}.",
                "return metrics as floats.",
            ) from None


def _evaluate(
    subject: Subject,
    model: BaseModel,
    candidates: list[dict[str, list[Scalar]]],
    seed: int = EVALUATION_SEED,
) -> list[float | None]:
    assert isinstance(model, CandidateModel)
    scores: object = model.evaluate_candidates(
        str(subject.validation_path), _copies(candidates), seed=seed
    )
    if not isinstance(scores, list | tuple):
        raise Complaint(
            f"evaluate_candidates() returned {type(scores).__name__}.",
            "return a list of one float per candidate, in their order.",
        )
    if len(scores) != len(candidates):
        raise Complaint(
            f"evaluate_candidates() returned {len(scores)} scores for {len(candidates)} "
            "candidates.",
            "return a list of one float per candidate, in their order.",
        )
    return [_candidate_score(score) for score in scores]


def _candidate_score(value: object) -> float | None:
    """A finite score; None for NaN, which says that a candidate could not be scored."""
    if isinstance(value, float | np.floating) and math.isnan(value):
        return None
    return checked_score(value, "evaluate_candidates()")


def _evaluate_twice(
    recorder: Recorder,
    subject: Subject,
    model: BaseModel,
    candidates: list[dict[str, list[Scalar]]],
) -> list[float | None]:
    scores = _evaluate(subject, model, candidates)
    again = _evaluate(subject, model, candidates)
    if scores != again:
        raise Complaint(
            f"evaluate_candidates() returned {scores} and then {again} for the same weights, "
            "candidates and seed.",
            "draw whatever is random from the argument `seed`, and change no state.",
        )
    if unscored := scores.count(None):
        if unscored == len(scores):
            raise Complaint(
                "evaluate_candidates() returned nothing but NaN.",
                "look for a division by zero or a loss that overflows.",
            )
        recorder.remark(f"Note: {unscored} candidates could not be scored (NaN).")
    return scores


def _compare_loaded(
    subject: Subject,
    stored: Stored,
    candidates: list[dict[str, list[Scalar]]],
    policies: frozenset[Policy],
    scores: list[float | None],
) -> bool:
    fresh = subject.construct(policies, seed=2)
    fresh.load_parameters(restore(stored))
    loaded = _evaluate(subject, fresh, candidates)
    if loaded != scores:
        raise Complaint(
            f"evaluate_candidates() returned {scores} for the instance that trained and {loaded} "
            "for a fresh one that loaded its parameters.",
            "dump all weights, and have load_parameters() put every one of them back.",
        )
    return True


def _check_quick(
    subject: Subject,
    stored: Stored,
    candidates: list[dict[str, list[Scalar]]],
    policies: frozenset[Policy],
) -> bool:
    first, second = (subject.construct(policies, seed=seed) for seed in (2, 3))
    first.load_parameters(restore(stored))
    second.load_parameters(restore(stored))
    scores = _evaluate(subject, first, candidates)
    backwards = _evaluate(subject, second, candidates[::-1])[::-1]
    # Other places in the batch may round differently.
    if not all(map(_is_close, scores, backwards)):
        raise Complaint(
            f"evaluate_candidates() returned {scores}, and {backwards} in reverse order.",
            "draw one minibatch from the argument `seed` and score every candidate on it, with "
            "weights that no candidate changes.",
        )
    return True


def _is_close(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-6)


def _copies(candidates: list[dict[str, list[Scalar]]]) -> list[dict[str, list[Scalar]]]:
    return [{name: list(values) for name, values in arch.items()} for arch in candidates]
