"""Steps through the life of one model: train, evaluate, predict, dump, load."""

import threading

from rafiki.model.base import BaseModel, takes_candidates
from rafiki.model.bench.limit import run_limited
from rafiki.model.bench.report import Complaint, Recorder
from rafiki.model.bench.subject import (
    Stored,
    Subject,
    checked_predictions,
    checked_score,
    connect_sink,
    deployable,
    differing,
    quoted,
    restore,
    store,
)
from rafiki.model.knobs import Policy, offered_policies

# Training is asked to stop at this progress call.
STOP_AT = 2
OTHER_KNOBS = (2, 3, 4)


def check_life(recorder: Recorder, subject: Subject) -> None:
    """Runs the steps. A policy is on where Rafiki would turn it on."""
    early = subject.offered(Policy.EARLY_STOP)

    if not recorder.run("it constructs with random knobs", lambda: _construct(subject)):
        return

    def train() -> tuple[BaseModel, Stored]:
        model = subject.construct(early)
        # With EARLY_STOP the little data may be over before there is progress to tell.
        _train(recorder, subject, model, is_short=bool(early))
        return model, store(model.dump_parameters())

    trained = recorder.run(f"it trains{_with(early)} and dumps parameters", train)
    if trained is None:
        return
    model, stored = trained
    score = recorder.run("it evaluates to a finite score", lambda: _evaluate(subject, model))
    if subject.queries is not None:
        recorder.run("it predicts", lambda: _predict(subject, model))
    if score is None:
        return
    recorder.run(
        "a fresh instance that loads the parameters is the same model",
        lambda: _compare_loaded(subject, model, stored, early, score),
    )
    if early:
        recorder.run(
            "it trains with all policies off, as for deployment",
            lambda: _train_full(recorder, subject),
        )
    if not takes_candidates(subject.model_class):
        _check_sharing(recorder, subject, stored)


def check_end(recorder: Recorder, subject: Subject, threads: set[threading.Thread]) -> None:
    """Runs the step that ends the life of every instance and of the class.

    Args:
        recorder: Takes the step.
        subject: Its instances are destroyed.
        threads: Those that ran before the template was loaded.
    """

    def end() -> bool:
        for instance in subject.instances:
            instance.destroy()
        subject.instances.clear()
        subject.model_class.teardown()
        left = [t for t in threading.enumerate() if t not in threads and not t.daemon]
        if left:
            recorder.remark(
                f"Note: {len(left)} threads still run after teardown() and keep the process alive."
            )
        return True

    recorder.run("destroy() and teardown()", end)


def _construct(subject: Subject) -> bool:
    policies = offered_policies(subject.config)
    subject.construct()
    for seed in OTHER_KNOBS:
        subject.construct(policies, knob_seed=seed).destroy()
        subject.instances.pop()
    return True


def _train(
    recorder: Recorder,
    subject: Subject,
    model: BaseModel,
    shared: Stored | None = None,
    *,
    is_short: bool = False,
) -> None:
    """Trains until the second progress call."""
    sink = connect_sink(stop_at=STOP_AT)
    if shared is None:
        model.train(str(subject.train_path))
    else:
        model.train(str(subject.train_path), shared_params=restore(shared))
    if sink.progress_calls == 0 and not is_short:
        recorder.remark(
            "Note: train() never called logger.progress(fraction), so nobody sees how far it "
            "is, and it cannot be stopped."
        )
    elif sink.progress_calls > STOP_AT + 1:
        recorder.remark(
            f"Note: train() went on for {sink.progress_calls - STOP_AT} calls after "
            "logger.progress(fraction) had answered True, which means: stop now."
        )


def _evaluate(subject: Subject, model: BaseModel) -> float:
    score = checked_score(model.evaluate(str(subject.validation_path)), "evaluate()")
    again = checked_score(model.evaluate(str(subject.validation_path)), "evaluate()")
    if again != score:
        raise Complaint(
            f"evaluate() returned {score} and then {again} for the same parameters.",
            "turn dropout and augmentation off while evaluating, use all of the data, and draw "
            "whatever is random from self.seed.",
        )
    return score


def _predict(subject: Subject, model: BaseModel) -> str:
    queries = subject.queries or []
    first = checked_predictions(model.predict(list(queries)), len(queries))
    checked_predictions(model.predict(queries[:1]), 1)
    return first


def _compare_loaded(
    subject: Subject,
    model: BaseModel,
    stored: Stored,
    policies: frozenset[Policy],
    score: float,
) -> bool:
    path = str(subject.validation_path)
    # Another seed, so that equal initial values cannot hide what was not dumped.
    loaded = subject.construct(policies, seed=2)
    loaded.load_parameters(restore(deployable(stored)))
    loaded_score = checked_score(loaded.evaluate(path), "evaluate()")
    advice = (
        "dump everything that training changes (also running statistics and label tables) outside "
        '"optimizer/", and have load_parameters() put all of it back.'
    )
    if loaded_score != score:
        raise Complaint(
            f"evaluate() gives {score} for the trained instance and {loaded_score} for a fresh "
            "one that loaded its parameters.",
            advice,
        )
    if subject.queries is not None:
        count = len(subject.queries)
        before = checked_predictions(model.predict(list(subject.queries)), count)
        after = checked_predictions(loaded.predict(list(subject.queries)), count)
        if before != after:
            raise Complaint(
                "The trained instance and a fresh one that loaded its parameters predict "
                "differently.",
                advice,
            )
    again = deployable(store(loaded.dump_parameters()))
    if paths := differing(deployable(stored), again):
        raise Complaint(
            f"After load_parameters(), dump_parameters() differs in {quoted(paths)}.", advice
        )
    return True


def _train_full(recorder: Recorder, subject: Subject) -> bool:
    model = subject.construct()
    limit_s = subject.full_training_s
    if not run_limited(lambda: _train(recorder, subject, model), limit_s):
        recorder.remark(
            f"Note: cut off after {limit_s:g} s. Call logger.progress(fraction) more often, and "
            "return when it answers True."
        )
        return True
    checked_score(model.evaluate(str(subject.validation_path)), "evaluate()")
    store(model.dump_parameters())
    return True


def _check_sharing(recorder: Recorder, subject: Subject, stored: Stored) -> None:
    """The steps for shared parameters in a template without the candidate pair."""
    shrunk = subject.offered(Policy.EARLY_STOP, Policy.DOWNSCALE)
    parameters = stored
    if Policy.DOWNSCALE in shrunk:
        small = recorder.run(
            f"it trains{_with(shrunk)}", lambda: _train_and_store(recorder, subject, shrunk)
        )
        if small is None:
            return
        parameters = small
    if shared := subject.offered(Policy.SHARE_PARAMS):
        recorder.run(
            f"it trains from shared parameters{_with(shrunk | shared)}",
            lambda: _train_shared(recorder, subject, parameters, shrunk | shared),
        )
    held = subject.offered(Policy.SHARE_PARAMS, Policy.DOWNSCALE)
    skip, quick = subject.offered(Policy.SKIP_TRAIN), subject.offered(Policy.QUICK_EVAL)
    if skip:
        recorder.run(
            f"it evaluates loaded parameters{_with(held | skip)}",
            lambda: _evaluate_loaded(subject, parameters, held | skip),
        )
    if quick:
        recorder.run(
            f"it evaluates loaded parameters{_with(held | skip | quick)}",
            lambda: _evaluate_loaded(subject, parameters, held | skip | quick),
        )


def _train_and_store(recorder: Recorder, subject: Subject, policies: frozenset[Policy]) -> Stored:
    model = subject.construct(policies)
    _train(recorder, subject, model, is_short=True)
    checked_score(model.evaluate(str(subject.validation_path)), "evaluate()")
    return store(model.dump_parameters())


def _train_shared(
    recorder: Recorder, subject: Subject, shared: Stored, policies: frozenset[Policy]
) -> bool:
    model = subject.construct(policies)
    _train(recorder, subject, model, shared, is_short=True)
    checked_score(model.evaluate(str(subject.validation_path)), "evaluate()")
    # `shared` is what the same seed gives from fresh parameters.
    if not differing(deployable(shared), deployable(store(model.dump_parameters()))):
        raise Complaint(
            "train() gives the same parameters with shared parameters as without.",
            "start from shared_params where they are not None.",
        )
    return True


def _evaluate_loaded(subject: Subject, stored: Stored, policies: frozenset[Policy]) -> bool:
    path = str(subject.validation_path)
    scores = []
    for _ in range(2):
        model = subject.construct(policies, seed=5)
        model.load_parameters(restore(stored))
        scores.append(checked_score(model.evaluate(path), "evaluate()"))
    if scores[0] != scores[1]:
        raise Complaint(
            f"Two instances of one seed evaluate the same parameters to {scores[0]} and "
            f"{scores[1]}.",
            "draw whatever is random, such as the minibatch of QUICK_EVAL, from self.seed.",
        )
    return True


def _with(policies: frozenset[Policy]) -> str:
    return f" with {', '.join(sorted(policies))}" if policies else ""
