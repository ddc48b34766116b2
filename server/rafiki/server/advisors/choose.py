"""Which scheme searches a space, and whether its budget holds a plan."""

from dataclasses import replace
from typing import assert_never

from rafiki.model.knobs import (
    ArchKnob,
    FixedKnob,
    KnobConfig,
    Policy,
    PolicyKnob,
    arch_knobs,
    offered_policies,
)
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    BayesOptOptions,
    EnasOptions,
    EvolutionOptions,
    ReinforceOptions,
)
from rafiki.server.advisors.enas.plan import check_enas_budget
from rafiki.server.advisors.fixed import FixedAdvisor
from rafiki.server.advisors.tuning.advisor import TuningAdvisor, check_tuning_budget
from rafiki.server.advisors.tuning.evolution import EvolutionSampler
from rafiki.server.advisors.tuning.random import RandomSampler
from rafiki.server.advisors.tuning.sampler import Sampler
from rafiki.server.domain.advisor import Advisor, AdvisorConfig
from rafiki.server.domain.errors import UnsupportedAdvisor
from rafiki.server.domain.seeds import derive_seed

# The most positions over which Bayesian optimisation models an architecture.
BAYES_OPT_POSITIONS = 16

_BAYES_OPT = (AdvisorKind.BAYES_OPT, AdvisorKind.BAYES_OPT_PARAM_SHARING)

# The schemes that end running trials that are behind.
EARLY_STOPPED = (*_BAYES_OPT, AdvisorKind.RANDOM, AdvisorKind.EVOLUTION)

# The field of the settings that holds the options of a scheme, where it has any.
_OPTIONS = {
    AdvisorKind.BAYES_OPT: "bayes_opt",
    AdvisorKind.BAYES_OPT_PARAM_SHARING: "bayes_opt",
    AdvisorKind.ENAS: "enas",
    AdvisorKind.EVOLUTION: "evolution",
    AdvisorKind.REINFORCE: "reinforce",
}


def default_kind(knob_config: KnobConfig) -> AdvisorKind:
    """The first scheme that fits the knobs."""
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
    if not tunable and _positions(knob_config) <= BAYES_OPT_POSITIONS:
        return AdvisorKind.BAYES_OPT
    return AdvisorKind.EVOLUTION


def resolve_settings(
    settings: AdvisorSettings, knob_config: KnobConfig, *, subject: str
) -> AdvisorSettings:
    """The settings with `kind` and `final_trains` set, and the options of that kind.

    Args:
        settings: As asked for.
        knob_config: The space to search.
        subject: The model or study, for error messages.

    Raises:
        UnsupportedAdvisor: The scheme cannot search these knobs, or was given what only
            another scheme takes.
    """
    kind = settings.kind or default_kind(knob_config)
    needs = _unmet_settings(kind, settings, knob_config) or _unmet(kind, settings, knob_config)
    if needs:
        raise UnsupportedAdvisor(advisor=kind, subject=subject, needs=needs)
    final_trains = settings.final_trains
    if final_trains is None:
        final_trains = int(_retrains(kind, knob_config))
    resolved = replace(settings, kind=kind, final_trains=final_trains)
    match kind:
        case AdvisorKind.BAYES_OPT | AdvisorKind.BAYES_OPT_PARAM_SHARING:
            return replace(resolved, bayes_opt=settings.bayes_opt or BayesOptOptions())
        case AdvisorKind.ENAS:
            return replace(resolved, enas=settings.enas or EnasOptions())
        case AdvisorKind.EVOLUTION:
            return replace(resolved, evolution=settings.evolution or EvolutionOptions())
        case AdvisorKind.REINFORCE:
            return replace(resolved, reinforce=settings.reinforce or ReinforceOptions())
        case AdvisorKind.FIXED | AdvisorKind.RANDOM:
            return resolved
        case _:
            assert_never(kind)


def check_budget(config: AdvisorConfig) -> None:
    """Checks what is known before anything is measured.

    Raises:
        InfeasibleBudget: No plan within the limits ends with a deployable trial.
    """
    if config.settings.kind is AdvisorKind.ENAS:
        check_enas_budget(config)
    elif config.settings.kind is not AdvisorKind.FIXED:
        check_tuning_budget(config)


def create_advisor(config: AdvisorConfig) -> Advisor:
    """A fresh advisor for resolved settings.

    Raises:
        ValueError: The kind is unset.
    """
    match config.settings.kind:
        case AdvisorKind.FIXED:
            return FixedAdvisor(config)
        case AdvisorKind.ENAS:
            from rafiki.server.advisors.enas.advisor import EnasAdvisor  # imports jax

            return EnasAdvisor(config)
        case None:
            raise ValueError(f"the settings of {config.study} are not resolved")
        case kind:
            return TuningAdvisor(config, _sampler(kind, config))


def _sampler(kind: AdvisorKind, config: AdvisorConfig) -> Sampler:
    settings, knob_config = config.settings, config.knob_config
    match kind:
        case AdvisorKind.BAYES_OPT | AdvisorKind.BAYES_OPT_PARAM_SHARING:
            from rafiki.server.advisors.bayes_opt.sampler import BayesOptSampler

            return BayesOptSampler(knob_config, settings.bayes_opt or BayesOptOptions())
        case AdvisorKind.EVOLUTION:
            return EvolutionSampler(knob_config, settings.evolution or EvolutionOptions())
        case AdvisorKind.REINFORCE:
            from rafiki.server.advisors.tuning.reinforce import ReinforceSampler  # imports jax

            return ReinforceSampler(
                knob_config,
                settings.reinforce or ReinforceOptions(),
                study=config.study,
                direction=config.direction,
                seed=derive_seed(config.seed, "controller"),
            )
        case _:
            return RandomSampler()


def _retrains(kind: AdvisorKind, knob_config: KnobConfig) -> bool:
    """Whether TUNE trials are cut short, so that the best is worth training again."""
    if kind in (AdvisorKind.FIXED, AdvisorKind.ENAS):
        return False
    return Policy.EARLY_STOP in offered_policies(knob_config)


def _unmet_settings(kind: AdvisorKind, settings: AdvisorSettings, knob_config: KnobConfig) -> str:
    """Which of the settings `kind` does not take; "" if none."""
    own = _OPTIONS.get(kind)
    for owner, field in _OPTIONS.items():
        if field != own and getattr(settings, field) is not None:
            other = "has none" if own is None else "has others"
            return f"the options given are those of {owner}, and {kind} {other}; leave them out"
    if settings.control_fraction and kind in (AdvisorKind.FIXED, AdvisorKind.RANDOM):
        return f"{kind} has no control arm; leave control_fraction at 0"
    if settings.early_stopping is not None and kind not in EARLY_STOPPED:
        names = ", ".join(EARLY_STOPPED)
        return f"{kind} ends no running trials; leave early_stopping out, or name one of {names}"
    if settings.final_trains and kind is AdvisorKind.FIXED:
        return "its one trial is trained in full; leave final_trains out"
    if settings.final_trains and kind is AdvisorKind.ENAS:
        return "final_trains is among the options of ENAS; set it there"
    if settings.final_trains and not _retrains(kind, knob_config):
        return (
            "EARLY_STOP must be offered for final_trains above 0: without it every trial is "
            "trained in full, and would be trained the same way again"
        )
    return ""


def _unmet(kind: AdvisorKind, settings: AdvisorSettings, knob_config: KnobConfig) -> str:
    """What keeps `kind` from searching these knobs; "" if nothing."""
    tunable, archs = _tunable(knob_config), arch_knobs(knob_config)
    match kind:
        case AdvisorKind.FIXED if tunable or archs:
            names = ", ".join([*tunable, *archs])
            return f"only fixed and policy knobs, but these can be tuned: {names}"
        case AdvisorKind.BAYES_OPT | AdvisorKind.BAYES_OPT_PARAM_SHARING:
            return _unmet_by_bayes_opt(kind, knob_config)
        case AdvisorKind.ENAS:
            return _unmet_by_enas(settings.enas or EnasOptions(), knob_config)
        case AdvisorKind.REINFORCE:
            return _unmet_by_controller(knob_config)
        case _:
            return ""


def _unmet_by_bayes_opt(kind: AdvisorKind, knob_config: KnobConfig) -> str:
    tunable, archs = _tunable(knob_config), arch_knobs(knob_config)
    if not tunable and not archs:
        return "a knob that can be tuned; for a single trial leave the advisor out or name FIXED"
    if kind is AdvisorKind.BAYES_OPT_PARAM_SHARING:
        if archs:
            names = ", ".join(archs)
            return f"no arch knobs, whose parameters differ in shape, but there are: {names}"
        if Policy.SHARE_PARAMS not in offered_policies(knob_config):
            return "the policy SHARE_PARAMS, which is not offered; name BAYES_OPT"
        return ""
    if archs and tunable:
        names = ", ".join(tunable)
        return f"no tunable knobs beside arch knobs, but there are: {names}; name EVOLUTION"
    positions = _positions(knob_config)
    if positions > BAYES_OPT_POSITIONS:
        most = BAYES_OPT_POSITIONS
        return f"at most {most} arch positions, but there are {positions}; name EVOLUTION"
    return ""


def _unmet_by_controller(knob_config: KnobConfig) -> str:
    if not arch_knobs(knob_config):
        return "at least one arch knob"
    if tunable := _tunable(knob_config):
        return f"no tunable knobs beside arch knobs, but there are: {', '.join(tunable)}"
    return ""


def _unmet_by_enas(options: EnasOptions, knob_config: KnobConfig) -> str:
    if needs := _unmet_by_controller(knob_config):
        return needs
    if missing := sorted(frozenset(Policy) - offered_policies(knob_config)):
        return f"all five policies; these are not offered: {', '.join(missing)}"
    if not 1 <= options.final_trains <= options.final_evals:
        return "final_trains from 1 to final_evals"
    if options.final_controls > options.final_evals:
        return "final_controls of at most final_evals"
    return ""


def _positions(knob_config: KnobConfig) -> int:
    return sum(len(knob.items) for knob in arch_knobs(knob_config).values())


def _tunable(knob_config: KnobConfig) -> list[str]:
    return [
        name
        for name, knob in knob_config.items()
        if not isinstance(knob, FixedKnob | PolicyKnob | ArchKnob)
    ]
