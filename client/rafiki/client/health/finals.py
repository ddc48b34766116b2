"""What final training made of what the search had found."""

from collections.abc import Iterator

from rafiki.client.health.evidence import (
    Evidence,
    counted,
    difference,
    stats_of,
    text,
)
from rafiki.client.health.finding import Finding, Level
from rafiki.model.knobs import Scalar
from rafiki.resources import AdvisorKind, Archs, Trial, TrialPhase

# With three random networks beside it, chance alone puts the one found first in one case of
# four; with fewer a comparison is hardly more than the toss of a coin.
LEAST_FINALS = 3

# The choices of a candidate by knob; with the other knobs they make a setting.
_Choices = tuple[tuple[str, tuple[int, ...]], ...]
Setting = tuple[tuple[tuple[str, Scalar], ...], _Choices]


def gap(evidence: Evidence) -> Iterator[Finding]:
    """Labels scores on shared weights, and sets them beside those after final training."""
    if evidence.kind is not AdvisorKind.ENAS or not evidence.rounds:
        return
    shared = {
        _archs_key(candidate.archs): candidate.score
        for trial in evidence.completed(TrialPhase.FINAL_EVAL)
        for candidate in trial.candidates
        if candidate.score is not None
    }
    finals = [t for t in evidence.completed(TrialPhase.FINAL_TRAIN) if t.score is not None]
    figures = {"mean_reward": evidence.rounds[-1].mean_reward}
    reading = (
        "During the search an accuracy is that of a small network with weights shared by thousands "
        f"of architectures: the latest mean is {text(evidence.rounds[-1].mean_reward)}"
    )
    expected = "That they lie far below the final ones is expected, and no bug."
    title = "Scores on shared weights are not those of trained models"
    pairs = [
        (shared[key], trial)
        for trial in finals
        for key in [_archs_key(trial.candidates[0].archs) if trial.candidates else ()]
        if key in shared
    ]
    if not pairs:
        yield Finding(
            level=Level.OK, title=title, explanation=f"{reading}. {expected}", figures=figures
        )
        return
    before, trial = _best_trained(evidence, pairs)
    after = trial.score or 0.0
    figures |= {"shared_weight_score": before, "final_score": after}
    reading += (
        f", and the architecture chosen had {text(before)} on all validation data; trained from "
        f"scratch it has {text(after)}."
    )
    if trial.test_score is not None:
        figures["test_score"] = trial.test_score
        reading += f" On the test data it has {text(trial.test_score)}."
    short = evidence.sign * (before - after)
    arm = evidence.study.control_arm
    spread = arm.control.standard_deviation if arm is not None else 0.0
    if short <= 0:
        yield Finding(
            level=Level.OK, title=title, explanation=f"{reading} {expected}", figures=figures
        )
        return
    yield Finding(
        level=Level.WARNING if short > spread else Level.NOTE,
        title="Final training made the model no better",
        explanation=(
            f"{reading} It should do better on its own: see whether final training runs for long "
            f"enough, and with the right learning rate. (Random architectures differ by "
            f"{text(spread)}.)"
        ),
        figures=figures | {"random_spread": spread},
    )


def beside_random(evidence: Evidence) -> Iterator[Finding]:
    """The finally trained models beside random architectures trained alike."""
    found = evidence.scores(TrialPhase.FINAL_TRAIN)
    controls = evidence.scores(TrialPhase.FINAL_TRAIN, control=True)
    if evidence.kind is not AdvisorKind.ENAS or not found:
        return
    if not controls:
        yield Finding(
            level=Level.NOTE,
            title="Whether the model found beats a random one is not measured",
            explanation=(
                f"`--advisor-option final_controls={LEAST_FINALS}` trains random architectures as "
                "long as the one found."
            ),
        )
        return
    search, control = stats_of(found, evidence.sign), stats_of(controls, evidence.sign)
    figures = {
        "found_count": float(search.count),
        "found_best": search.best,
        "found_mean": search.mean,
        "random_count": float(control.count),
        "random_best": control.best,
        "random_mean": control.mean,
    }
    reading = (
        f"Trained in full, the best found has {text(search.best)}; "
        f"{counted(control.count, 'random architecture')} trained alike "
        f"{'have' if control.count > 1 else 'has'} a mean of {text(control.mean)} and a best of "
        f"{text(control.best)}."
    )
    level, title = _verdict(evidence, found, controls)
    if control.count < LEAST_FINALS:
        reading += f" Fewer than {LEAST_FINALS} random ones decide nothing."
    elif level is Level.WARNING:
        reading += " The search has not paid for itself: a random architecture does as well."
    yield Finding(level=level, title=title, explanation=reading, figures=figures)


def _verdict(evidence: Evidence, found: list[float], controls: list[float]) -> tuple[Level, str]:
    if len(controls) < LEAST_FINALS:
        return Level.NOTE, "Too few random models to compare the one found with"
    better, worse = "The model found beats random ones", "The model found is no better than random"
    if len(found) >= LEAST_FINALS:
        by = difference(
            stats_of(found, evidence.sign), stats_of(controls, evidence.sign), evidence.sign
        )
        return (Level.OK, better) if by.is_clear and by.value > 0 else (Level.WARNING, worse)
    best = evidence.best(found)
    as_good = sum(evidence.sign * (score - best) >= 0 for score in controls)
    if not as_good:
        return Level.OK, better
    if as_good >= len(controls) / 2:
        return Level.WARNING, worse
    return Level.NOTE, "Some random models are as good as the one found"


def repeated(evidence: Evidence) -> Iterator[Finding]:
    """The best settings trained in full, beside what they had in the search."""
    if evidence.kind is AdvisorKind.ENAS:
        return
    tuned = {
        setting: score
        for trial in evidence.completed(TrialPhase.TUNE)
        for setting, score in zip(_settings(trial), _each_score(trial), strict=True)
        if score is not None
    }
    pairs = [
        (tuned[setting], trial)
        for trial in evidence.completed(TrialPhase.FINAL_TRAIN)
        for setting in _settings(trial)[:1]
        if trial.score is not None and setting in tuned
    ]
    if not pairs:
        return
    before, trial = _best_trained(evidence, pairs)
    after = trial.score or 0.0
    figures = {"tune_score": before, "final_score": after}
    reading = (
        f"The best setting had {text(before)} in the search and {text(after)} trained in full."
    )
    if trial.test_score is not None:
        figures["test_score"] = trial.test_score
        reading += f" On the test data it has {text(trial.test_score)}."
    if evidence.sign * (after - before) >= 0:
        yield Finding(
            level=Level.OK,
            title="Training in full confirmed the search",
            explanation=reading,
            figures=figures,
        )
    else:
        yield Finding(
            level=Level.NOTE,
            title="Training in full was worse than the search promised",
            explanation=(
                f"{reading} The best of many scores is in part luck; and longer training can "
                "overfit."
            ),
            figures=figures,
        )


def _best_trained(evidence: Evidence, pairs: list[tuple[float, Trial]]) -> tuple[float, Trial]:
    """Of scores before final training, each with its scored trial, that of the best trial."""
    return max(pairs, key=lambda pair: evidence.sign * (pair[1].score or 0.0))


def _settings(trial: Trial) -> list[Setting]:
    """What a trial tried: one setting, or one per candidate."""
    knobs = tuple(sorted(trial.knobs.items()))
    archs = [_archs_key(candidate.archs) for candidate in trial.candidates]
    return [(knobs, key) for key in archs or [()]]


def _each_score(trial: Trial) -> list[float | None]:
    """The score of each setting of a trial."""
    if len(trial.candidates) > 1:
        return [candidate.score for candidate in trial.candidates]
    return [trial.score]


def _archs_key(archs: Archs) -> _Choices:
    return tuple(sorted(archs.items()))
