"""Does the controller of ENAS and REINFORCE learn?"""

import math
from collections.abc import Iterator

from rafiki.client.health.evidence import LEARNERS, Evidence, counted, difference, stats_of, text
from rafiki.client.health.finding import Finding, Level
from rafiki.model.knobs import arch_knobs
from rafiki.resources import AdvisorKind, EnasOptions, ReinforceOptions

# On a table of exact rewards the controller was no better than chance after 30 updates of ten
# architectures each, and clearly better after 100; shared weights make rewards noisier still.
FEW_UPDATES = 100

# A round trains the shared weights once on the data: fewer passes hardly train a network.
FEW_ROUNDS = 5

# Of the entropy of uniform draws. With five choices per position a tenth leaves 1.2 of them.
SETTLED = 0.1
UNSETTLED = 0.9

# Thirds of two rounds each are the least that have a spread.
LEAST_TREND = 6


def updates(evidence: Evidence) -> Iterator[Finding]:
    """Whether the budget holds enough updates, and passes over the data."""
    if evidence.kind not in LEARNERS or not evidence.rounds:
        return
    if not evidence.has_ended and not evidence.study.plan.trials:
        return  # nothing says how long it will be
    done, total = _updates(evidence)
    rounds = max(evidence.study.plan.rounds, len(evidence.rounds))
    is_enas = evidence.kind is AdvisorKind.ENAS
    figures = {"updates": float(done), "planned_updates": float(total)}
    passes = ""
    if is_enas:
        figures |= {"rounds": float(len(evidence.rounds)), "planned_rounds": float(rounds)}
        passes = f" and the shared weights {counted(rounds, 'round')} of training"
    if total < FEW_UPDATES or (is_enas and rounds < FEW_ROUNDS):
        limits = f"{FEW_UPDATES} updates" + (f" and {FEW_ROUNDS} rounds" if is_enas else "")
        yield Finding(
            level=Level.WARNING,
            title="The search is too short to learn much",
            explanation=(
                f"Within the budget the controller gets {counted(total, 'update')}{passes}. Below "
                f"{limits} it is hardly better than chance: give it more time, or more workers."
            ),
            figures=figures,
        )
    else:
        yield Finding(
            level=Level.OK,
            title="The search is long enough to learn",
            explanation=f"The controller has learned {counted(done, 'time')} of {total} planned.",
            figures=figures,
        )


def _updates(evidence: Evidence) -> tuple[int, int]:
    """The updates of the controller so far, and with those still planned."""
    settings, plan = evidence.study.spec.advisor, evidence.study.plan
    done = len(evidence.rounds)
    if evidence.kind is AdvisorKind.ENAS:
        each = (settings.enas or EnasOptions()).batches_per_round
        return done * each, max(done, plan.rounds) * each
    size = (settings.reinforce or ReinforceOptions()).batch_size
    return done, max(done, (plan.trials - plan.final_trains) // size)


def entropy(evidence: Evidence) -> Iterator[Finding]:
    """How sure the controller is: the entropy of its draws against that of uniform ones."""
    knobs = arch_knobs(evidence.study.knob_config).values()
    sizes = [len(position) for knob in knobs for position in knob.items if len(position) > 1]
    if evidence.kind not in LEARNERS or not evidence.rounds or not sizes:
        return
    most = sum(map(math.log, sizes))
    first, last = evidence.rounds[0].entropy, evidence.rounds[-1].entropy
    left, offered = (math.exp(value / len(sizes)) for value in (last, most))
    figures = {"entropy": last, "first_entropy": first, "uniform_entropy": most}
    reading = (
        f"The entropy of its draws is {text(last)} nats, after {text(first)} in the first round "
        f"and {text(most)} for uniform draws: it chooses among {left:.1f} of {offered:.1f} choices "
        "per position."
    )
    settled = [r.round for r in evidence.rounds if r.entropy < SETTLED * most]
    done, _ = _updates(evidence)
    if last < SETTLED * most:
        yield Finding(
            level=Level.WARNING,
            title="The controller has settled",
            explanation=(
                f"{reading} Since round {settled[0]} it proposes much the same: further rounds "
                "find little that is new, and what it settled on may be a local optimum. Nothing "
                "found before is lost: the best architectures seen are finally evaluated and "
                "trained, not only the one it settled on. A larger entropy_weight keeps it "
                "searching for longer."
            ),
            figures=figures | {"settled_round": float(settled[0])},
        )
    elif last > UNSETTLED * most and done >= FEW_UPDATES:
        yield Finding(
            level=Level.NOTE,
            title="The controller still draws almost uniformly",
            explanation=(
                f"{reading} It has found little to prefer: rewards may be too noisy, or all "
                "architectures about as good."
            ),
            figures=figures,
        )
    else:
        yield Finding(
            level=Level.OK,
            title="The controller is still searching",
            explanation=reading,
            figures=figures,
        )


def rewards(evidence: Evidence) -> Iterator[Finding]:
    """Whether the mean reward has risen: the last third of the rounds against the first."""
    means = [r.mean_reward for r in evidence.rounds if math.isfinite(r.mean_reward)]
    if evidence.kind not in LEARNERS or len(means) < LEAST_TREND:
        return
    third = len(means) // 3
    first, last = (stats_of(part, evidence.sign) for part in (means[:third], means[-third:]))
    by = difference(last, first, evidence.sign)
    figures = {
        "first_mean_reward": first.mean,
        "last_mean_reward": last.mean,
        "difference": by.value,
        "standard_error": by.standard_error,
        "baseline": evidence.rounds[-1].baseline,
    }
    reading = (
        f"The mean reward was {text(first.mean)} in the first {third} rounds and {text(last.mean)} "
        f"in the last {third}; the baseline that the controller compares with is now at "
        f"{text(evidence.rounds[-1].baseline)}."
    )
    if evidence.kind is AdvisorKind.ENAS:
        reading += (
            " Rewards also follow the shared weights, which are still being trained: only the "
            "control arm tells what the controller has learned."
        )
    if by.is_clear and by.value > 0:
        level, title = Level.OK, "Rewards improve"
    elif by.is_clear:
        level, title = Level.WARNING, "Rewards get worse"
        reading += " A smaller learning rate, of the model or of the controller, may help."
    else:
        level, title = Level.NOTE, "Rewards do not improve"
    yield Finding(level=level, title=title, explanation=reading, figures=figures)
