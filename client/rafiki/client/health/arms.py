"""Does the search beat chance, and do shared weights rank architectures?"""

import math
from collections.abc import Iterator

from rafiki.client.health.evidence import Evidence, counted, difference, text
from rafiki.client.health.finding import Finding, Level
from rafiki.resources import AdvisorKind, ControlArm, TrialPhase

# Fewer scores in an arm say nothing: with four of each, chance alone puts all of one arm
# above the other once in 70, and a standard deviation of so few is itself a guess.
LEAST_SCORES = 5

# A useful ranking: of two candidates the better one is named in three of four cases.
GOOD_TAU = 0.5

_UNSHARED = (
    "`--advisor reinforce` and `--advisor evolution` train each architecture on its own and do "
    "not depend on shared weights"
)


def chance(evidence: Evidence) -> Iterator[Finding]:
    """The search against its control arm: uniform draws that were evaluated alike."""
    if evidence.kind in (AdvisorKind.FIXED, AdvisorKind.RANDOM, None):
        return
    arm = evidence.study.control_arm
    if arm is None or not arm.control.count:
        yield _without_control(evidence)
        return
    if min(arm.search.count, arm.control.count) < LEAST_SCORES:
        yield Finding(
            level=Level.NOTE,
            title="Too few scores to compare the search with chance",
            explanation=(
                f"There are {counted(arm.search.count, 'score')} of the search and "
                f"{arm.control.count} of random draws; from {LEAST_SCORES} of each the "
                "comparison is made."
            ),
            figures=_arm_figures(arm),
        )
        return
    yield _compared(evidence, arm)


def _without_control(evidence: Evidence) -> Finding:
    if evidence.kind is AdvisorKind.ENAS and not evidence.has_ended:
        when = (
            "Random architectures are scored beside the finalists once the rounds are done; "
            "`--advisor-option control_fraction=0.1` has them in every round too."
        )
    elif evidence.kind is AdvisorKind.ENAS:
        when = "The study ended before random architectures were scored beside its finalists."
    else:
        when = (
            "This study has no control arm. `--advisor-option control_fraction=0.2` gives one "
            "draw in five to chance, and then this report says which of the two does better."
        )
    return Finding(
        level=Level.NOTE, title="Whether the search beats chance is not measured", explanation=when
    )


def _compared(evidence: Evidence, arm: ControlArm) -> Finding:
    search, control = arm.search, arm.control
    by = difference(search, control, evidence.sign)
    figures = _arm_figures(arm) | {"difference": by.value, "standard_error": by.standard_error}
    means = (
        f"Its {counted(search.count, 'score')} have a mean of {text(search.mean)} (best "
        f"{text(search.best)}), {counted(control.count, 'random draw')} evaluated alike one of "
        f"{text(control.mean)} (best {text(control.best)}): "
    )
    error = f"with a standard error of {text(by.standard_error)}"
    if by.is_clear and by.value > 0:
        return Finding(
            level=Level.OK,
            title="The search beats chance",
            explanation=f"{means}better by {text(by.value)}, {error}.",
            figures=figures,
        )
    if by.is_clear:
        return Finding(
            level=Level.WARNING,
            title="The search is worse than random draws",
            explanation=f"{means}worse by {text(-by.value)}, {error}. {_advice(evidence)}",
            figures=figures,
        )
    # While a search goes on, it may still learn.
    is_last = evidence.has_ended or evidence.study.phase in (
        TrialPhase.FINAL_EVAL,
        TrialPhase.FINAL_TRAIN,
    )
    return Finding(
        level=Level.WARNING if is_last else Level.NOTE,
        title="The search is not distinguishable from random draws",
        explanation=f"{means}a difference of {text(by.value)}, {error}. {_advice(evidence)}",
        figures=figures,
    )


def _advice(evidence: Evidence) -> str:
    if evidence.kind is AdvisorKind.ENAS:
        return (
            "Weight sharing is known to rank architectures badly at times; more rounds may help, "
            f"and {_UNSHARED}."
        )
    return "More trials may help; if they do not, random search would have done as well."


def _arm_figures(arm: ControlArm) -> dict[str, float]:
    return {
        f"{name}_{figure}": float(value)
        for name, stats in (("search", arm.search), ("control", arm.control))
        for figure, value in (
            ("count", stats.count),
            ("mean", stats.mean),
            ("standard_deviation", stats.standard_deviation),
            ("best", stats.best),
        )
    }


def ranking(evidence: Evidence) -> Iterator[Finding]:
    """How well scores on shared weights rank architectures, if that was asked for."""
    if evidence.kind is not AdvisorKind.ENAS:
        return
    arm = evidence.study.control_arm
    if arm is None or arm.rank_correlation is None:
        yield _unranked(evidence)
        return
    yield _ranked(arm.rank_correlation, arm.rank_count)


def _unranked(evidence: Evidence) -> Finding:
    enas = evidence.study.spec.advisor.enas
    is_asked = enas is not None and enas.rank_trains
    if is_asked and not evidence.has_ended:
        why = "That is measured after the final evaluation."
    elif is_asked:
        why = "It was asked for, but fewer than 3 candidates could be compared."
    else:
        why = (
            "`--advisor-option rank_trains=10` trains ten finalists briefly from fresh parameters "
            "and compares the two orders."
        )
    return Finding(
        level=Level.NOTE,
        title="How well shared weights rank architectures is not measured",
        explanation=why,
    )


def _ranked(tau: float, count: int) -> Finding:
    error = tau_error(count)
    figures = {"tau": tau, "standard_error": error, "candidates": float(count)}
    reading = (
        f"Kendall's tau over {counted(count, 'candidate')} is {text(tau)}: of two of them, shared "
        f"weights name the better one in {(1 + tau) / 2:.0%} of the cases (a coin: 50%). Chance "
        f"alone has a standard error of {text(error)}."
    )
    if tau > 2 * error and tau >= GOOD_TAU:
        title, level = "Shared weights rank architectures well", Level.OK
    elif tau > 2 * error:
        title, level = "Shared weights rank architectures weakly", Level.NOTE
    elif tau < -2 * error:
        title, level = "Shared weights rank architectures the wrong way round", Level.WARNING
        reading += f" The search optimises the wrong thing: {_UNSHARED}."
    elif 2 * error <= GOOD_TAU:
        title, level = "Shared weights do not rank architectures", Level.WARNING
        reading += f" A useful ranking would have shown: {_UNSHARED}."
    else:
        title, level = "Too few candidates to tell how shared weights rank", Level.NOTE
        reading += " `--advisor-option rank_trains=10` or more would tell a useful ranking."
    return Finding(level=level, title=title, explanation=reading, figures=figures)


def tau_error(count: int) -> float:
    """The standard error of Kendall's tau of `count` candidates, at least 2, by chance alone.

    Source: M. G. Kendall, "A New Measure of Rank Correlation", Biometrika 30 (1938).
    """
    return math.sqrt(2 * (2 * count + 5) / (9 * count * (count - 1)))
