"""What the controller of ENAS and REINFORCE draws: how varied it is, and what it prefers."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator

from rafiki.client.health.evidence import Evidence
from rafiki.client.health.finding import Finding, Level
from rafiki.model.knobs import ArchKnob, KnobValue, arch_knobs
from rafiki.resources import AdvisorKind, Archs, TrialPhase

# When four of five evaluations are of architectures scored in the same round.
FEW_DISTINCT = 0.2

# A choice is preferred if three of four positions that offer it take it, and it is offered
# at so many positions that this means something.
PREFERRED = 0.75
LEAST_POSITIONS = 3

# Of REINFORCE, the latest architectures: they say what the controller prefers now.
RECENT_DRAWS = 50


def variety(evidence: Evidence) -> Iterator[Finding]:
    """How many of the latest round's candidates differ; REINFORCE never draws one twice."""
    drawn = _latest_draws(evidence)
    if evidence.kind is not AdvisorKind.ENAS or not drawn:
        return
    knobs = arch_knobs(evidence.study.knob_config).values()
    space = math.prod(len(position) for knob in knobs for position in knob.items)
    distinct = len({tuple(sorted(archs.items())) for archs in drawn})
    # A small space cannot have more.
    share = distinct / min(len(drawn), space)
    figures = {"distinct": float(distinct), "candidates": float(len(drawn)), "share": share}
    reading = f"Of the {len(drawn)} candidates of the latest round, {distinct} differ"
    if share < FEW_DISTINCT:
        yield Finding(
            level=Level.NOTE,
            title="The controller repeats itself",
            explanation=f"{reading}: most evaluations tell of architectures already scored.",
            figures=figures,
        )
    else:
        yield Finding(
            level=Level.OK,
            title="The candidates differ",
            explanation=f"{reading}.",
            figures=figures,
        )


def preference(evidence: Evidence) -> Iterator[Finding]:
    """The choices that have taken over where they are offered."""
    knobs = arch_knobs(evidence.study.knob_config)
    taken: Counter[str] = Counter()
    offered: Counter[str] = Counter()
    expected: defaultdict[str, float] = defaultdict(float)
    positions: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
    for archs in _latest_draws(evidence):
        for knob, choices in archs.items():
            for number, index in enumerate(choices):
                names = _names(knobs[knob], number)
                if len(names) < 2:
                    continue
                for name in {name for name in names if name is not None}:
                    offered[name] += 1
                    expected[name] += names.count(name) / len(names)
                    positions[name].add((knob, number))
                if (chosen := names[index]) is not None:
                    taken[chosen] += 1
    for name, count in taken.most_common():
        share, uniform = count / offered[name], expected[name] / offered[name]
        if share >= PREFERRED and len(positions[name]) >= LEAST_POSITIONS:
            yield _preferred(name, share, uniform, len(positions[name]))


def _names(knob: ArchKnob, position: int) -> list[str | None]:
    """The choices of a position in words; None for nodes, which are no preference."""
    if knob.skips[position]:
        return ["no skip", "a skip"]
    return [
        str(choice.value) if isinstance(choice, KnobValue) else None
        for choice in knob.items[position]
    ]


def _preferred(name: str, share: float, uniform: float, positions: int) -> Finding:
    return Finding(
        level=Level.NOTE,
        title=f"The controller prefers {name}",
        explanation=(
            f"Of late it takes {name} in {share:.0%} of the cases at the {positions} positions "
            f"that offer it; uniform draws would in {uniform:.0%}. If that is a skip or a pooling, "
            "doubt it: searches on shared weights are known to end there, because such choices "
            "need no training. The control arm and the rank correlation tell."
        ),
        figures={"share": share, "uniform_share": uniform, "positions": float(positions)},
    )


def _latest_draws(evidence: Evidence) -> list[Archs]:
    """The architectures that the controller drew last: of a round, or of REINFORCE the latest."""
    if evidence.kind is AdvisorKind.REINFORCE:
        trials = evidence.completed(TrialPhase.TUNE)[-RECENT_DRAWS:]
    elif evidence.kind is AdvisorKind.ENAS:
        scored = evidence.completed(TrialPhase.SEARCH_EVAL)
        latest = max((trial.round for trial in scored), default=0)
        trials = [trial for trial in scored if trial.round == latest]
    else:
        trials = []
    return [candidate.archs for trial in trials for candidate in trial.candidates]
