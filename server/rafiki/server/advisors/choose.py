"""Which scheme searches a space, and whether its budget holds a plan."""

from dataclasses import replace

from rafiki.model.knobs import (
    ArchKnob,
    FixedKnob,
    KnobConfig,
    Policy,
    PolicyKnob,
    arch_knobs,
    offered_policies,
)
from rafiki.resources import AdvisorKind, AdvisorSettings, EnasOptions
from rafiki.server.advisors.enas.plan import check_enas_budget
from rafiki.server.advisors.fixed import FixedAdvisor
from rafiki.server.advisors.random_search import RandomAdvisor
from rafiki.server.domain.advisor import Advisor, AdvisorConfig
from rafiki.server.domain.errors import UnsupportedAdvisor

# The most positions over which Bayesian optimisation models an architecture.
BAYES_OPT_POSITIONS = 16

RELEASED = (AdvisorKind.FIXED, AdvisorKind.RANDOM, AdvisorKind.ENAS)


def default_kind(knob_config: KnobConfig) -> AdvisorKind:
    """The first scheme that fits the knobs, whether or not this release has it."""
    policies = offered_policies(knob_config)
    archs = arch_knobs(knob_config)
    tunable = _tunable(knob_config)
    if not archs and not tunable:
        return AdvisorKind.FIXED
    if not archs and Policy.SHARE_PARAMS in policies:
        return AdvisorKind.BAYES_OPT_PARAM_SHARING
    if not archs:
        return AdvisorKind.BAYES_OPT
    if not tunable and policies == frozenset(Policy):
        return AdvisorKind.ENAS
    positions = sum(len(knob.items) for knob in archs.values())
    if not tunable and positions <= BAYES_OPT_POSITIONS:
        return AdvisorKind.BAYES_OPT
    return AdvisorKind.EVOLUTION


def resolve_settings(
    settings: AdvisorSettings, knob_config: KnobConfig, *, subject: str
) -> AdvisorSettings:
    """The settings with `kind` set, and the options of that kind where it has any.

    Args:
        settings: As asked for.
        knob_config: The space to search.
        subject: The model or study, for error messages.

    Raises:
        UnsupportedAdvisor: The scheme is not in this release, cannot search these
            knobs, or was given what only another scheme takes.
    """
    kind = settings.kind or default_kind(knob_config)
    needs = _unmet(kind, settings, knob_config)
    if needs:
        raise UnsupportedAdvisor(advisor=kind, subject=subject, needs=needs)
    enas = (settings.enas or EnasOptions()) if kind is AdvisorKind.ENAS else None
    return replace(settings, kind=kind, enas=enas)


def check_budget(config: AdvisorConfig) -> None:
    """Checks what is known before anything is measured.

    Raises:
        InfeasibleBudget: No plan within the limits ends with a deployable trial.
    """
    if config.settings.kind is AdvisorKind.ENAS:
        check_enas_budget(config)


def create_advisor(config: AdvisorConfig) -> Advisor:
    """A fresh advisor for resolved settings.

    Raises:
        UnsupportedAdvisor: The kind is unset or not in this release.
    """
    match config.settings.kind:
        case AdvisorKind.FIXED:
            return FixedAdvisor(config)
        case AdvisorKind.RANDOM:
            return RandomAdvisor(config)
        case AdvisorKind.ENAS:
            from rafiki.server.advisors.enas.advisor import EnasAdvisor  # imports jax

            return EnasAdvisor(config)
        case kind:
            raise UnsupportedAdvisor(
                advisor=str(kind), subject=config.study, needs="a kind of this release"
            )


def _unmet(kind: AdvisorKind, settings: AdvisorSettings, knob_config: KnobConfig) -> str:
    """What keeps `kind` from searching these knobs with these settings; "" if nothing."""
    tunable = _tunable(knob_config)
    archs = arch_knobs(knob_config)
    if kind not in RELEASED:
        chosen = "asked for" if settings.kind else "what these knobs lead to"
        released = ", ".join(RELEASED)
        return f"{kind} is {chosen} but not in this release, which has {released}; name RANDOM"
    if settings.enas is not None and kind is not AdvisorKind.ENAS:
        return f"the options given are those of ENAS, and {kind} has none; leave them out"
    if settings.control_fraction and kind is not AdvisorKind.ENAS:
        return f"{kind} has no control arm; leave control_fraction at 0"
    if kind is AdvisorKind.FIXED and (tunable or archs):
        names = ", ".join([*tunable, *archs])
        return f"only fixed and policy knobs, but these can be tuned: {names}"
    if kind is AdvisorKind.ENAS:
        return _unmet_by_enas(settings.enas or EnasOptions(), knob_config)
    return ""


def _unmet_by_enas(options: EnasOptions, knob_config: KnobConfig) -> str:
    if not arch_knobs(knob_config):
        return "at least one arch knob"
    if tunable := _tunable(knob_config):
        return f"no tunable knobs beside arch knobs, but there are: {', '.join(tunable)}"
    if missing := sorted(frozenset(Policy) - offered_policies(knob_config)):
        return f"all five policies; these are not offered: {', '.join(missing)}"
    if not 1 <= options.final_trains <= options.final_evals:
        return "final_trains from 1 to final_evals"
    if options.final_controls > options.final_evals:
        return "final_controls of at most final_evals"
    return ""


def _tunable(knob_config: KnobConfig) -> list[str]:
    return [
        name
        for name, knob in knob_config.items()
        if not isinstance(knob, FixedKnob | PolicyKnob | ArchKnob)
    ]
