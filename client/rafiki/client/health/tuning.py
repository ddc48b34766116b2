"""Do trials get better, and is early stopping any use?"""

from collections.abc import Iterator

from rafiki.client.health.evidence import Evidence, counted, text
from rafiki.client.health.finding import Finding, Level
from rafiki.resources import (
    AdvisorKind,
    BayesOptOptions,
    EvolutionOptions,
    StopReason,
    TrialPhase,
)

# No improvement is told once as many random trials as the scheme has made would have improved
# on the random start in three of four cases.
EXPECTED = 0.75

# A standstill: the latter half of the trials, of at least so many, was no better.
STANDSTILL = 0.5
LEAST_TRIALS = 20

# So much of the trials stopped early leaves hardly any that is trained to its end.
MOST_STOPPED = 0.9

_TUNERS = (
    AdvisorKind.RANDOM,
    AdvisorKind.BAYES_OPT,
    AdvisorKind.BAYES_OPT_PARAM_SHARING,
    AdvisorKind.EVOLUTION,
    AdvisorKind.REINFORCE,
)


def start(evidence: Evidence) -> Iterator[Finding]:
    """Whether the scheme has improved on its random start."""
    scores = evidence.scores(TrialPhase.TUNE)
    size = _start_size(evidence)
    if not size or not scores:
        return
    if len(scores) <= size:
        yield Finding(
            level=Level.WARNING if evidence.has_ended else Level.NOTE,
            title="All trials are random draws so far",
            explanation=(
                f"{evidence.kind} begins with {size} random trials, of which {len(scores)} are "
                "scored: up to there it is random search. It needs more trials than that, or a "
                f"smaller {_start_option(evidence)}."
            ),
            figures={"scored": float(len(scores)), "random_start": float(size)},
        )
        return
    yield _improved(evidence, scores[:size], scores[size:])


def _improved(evidence: Evidence, first: list[float], rest: list[float]) -> Finding:
    before, after = evidence.best(first), evidence.best(rest)
    by = evidence.sign * (after - before)
    # Of exchangeable draws, the best of all lies among the latter with this probability.
    expected = len(rest) / (len(first) + len(rest))
    figures = {
        "best_of_start": before,
        "best_after": after,
        "random_start": float(len(first)),
        "scored": float(len(first) + len(rest)),
        "improvement": by,
        "chance_to_improve": expected,
    }
    reading = (
        f"The best of the first {len(first)} trials, drawn at random, has {text(before)}; the best "
        f"of the {len(rest)} after them {text(after)}"
    )
    if by > 0:
        return Finding(
            level=Level.OK,
            title="The search has improved on its random start",
            explanation=f"{reading}.",
            figures=figures,
        )
    return Finding(
        level=Level.WARNING if expected >= EXPECTED else Level.NOTE,
        title="The search has not improved on its random start",
        explanation=(
            f"{reading}. As many random draws would have improved with a probability of "
            f"{expected:.0%}. Scores may be mostly noise, or the best there is was found early."
        ),
        figures=figures,
    )


def _start_size(evidence: Evidence) -> int:
    """The trials that a scheme draws at random before its own; 0 if it has no such start."""
    settings = evidence.study.spec.advisor
    match evidence.kind:
        case AdvisorKind.BAYES_OPT | AdvisorKind.BAYES_OPT_PARAM_SHARING:
            return (settings.bayes_opt or BayesOptOptions()).initial_trials
        case AdvisorKind.EVOLUTION:
            return (settings.evolution or EvolutionOptions()).population_size
    return 0


def _start_option(evidence: Evidence) -> str:
    return "population_size" if evidence.kind is AdvisorKind.EVOLUTION else "initial_trials"


def standstill(evidence: Evidence) -> Iterator[Finding]:
    """When the best score was last improved on."""
    scores = evidence.scores(TrialPhase.TUNE)
    if evidence.kind not in _TUNERS or not scores:
        return
    best = evidence.best(scores)
    latest, total = scores.index(best) + 1, len(scores)
    figures = {"best": best, "latest_improvement": float(latest), "scored": float(total)}
    reading = f"The best of {counted(total, 'score')} is {text(best)}, reached with number {latest}"
    if total >= LEAST_TRIALS and latest / total <= STANDSTILL:
        yield Finding(
            level=Level.NOTE,
            title="The search has not improved for long",
            explanation=(
                f"{reading}: the {total - latest} since were no better. More of the same may bring "
                "little; a wider search space or a better model may bring more."
            ),
            figures=figures,
        )
    else:
        yield Finding(
            level=Level.OK, title="The best so far", explanation=f"{reading}.", figures=figures
        )


def stopping(evidence: Evidence) -> Iterator[Finding]:
    """Whether early stopping stops some trials, and not nearly all."""
    rule = evidence.study.spec.advisor.early_stopping
    trials = evidence.completed(TrialPhase.TUNE)
    if rule is None or not trials:
        return
    stopped = sum(trial.stop_reason is StopReason.EARLY_STOPPED for trial in trials)
    share = stopped / len(trials)
    figures = {"stopped": float(stopped), "completed": float(len(trials)), "share": share}
    reading = f"{stopped} of {counted(len(trials), 'trial')} were stopped early ({share:.0%})"
    if share >= MOST_STOPPED and len(trials) >= LEAST_TRIALS:
        yield Finding(
            level=Level.WARNING,
            title="Nearly all trials are stopped early",
            explanation=(
                f"{reading}: hardly any shows what it can reach. Judge them later, by a larger "
                "early_stopping_min_steps."
            ),
            figures=figures,
        )
    elif not stopped and len(trials) >= LEAST_TRIALS:
        yield Finding(
            level=Level.NOTE,
            title="Early stopping stops nothing",
            explanation=(
                f"{reading}. A model is judged by the scores that it logs as it trains, by "
                "`logger.log(step=..., score=...)`, and ends when `logger.progress` says so: does "
                "it log any, and as late as early_stopping_min_steps?"
            ),
            figures=figures,
        )
    else:
        yield Finding(
            level=Level.OK, title="Early stopping", explanation=f"{reading}.", figures=figures
        )
