"""The schemes by name: Rafiki's through the `Advisor` interface, and peers."""

from dataclasses import fields, replace
from typing import TypeVar

from benchmarks import spaces
from benchmarks.peers import OptunaScheme, PlainRandom
from benchmarks.simulation import Scheme
from benchmarks.tables import Indices, Table

from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    BayesOptOptions,
    Candidate,
    EvolutionOptions,
    ReinforceOptions,
    TrialState,
)
from rafiki.server.advisors import create_advisor, resolve_settings
from rafiki.server.domain.advisor import (
    AdvisorConfig,
    Ended,
    Finish,
    Proposal,
    Proposed,
    Situation,
)
from rafiki.server.domain.seeds import derive_seed

_Options = TypeVar("_Options", BayesOptOptions, EvolutionOptions, ReinforceOptions)

PEERS = ("random", "optuna-tpe", "optuna-gp")


def is_peer(name: str) -> bool:
    """Whether a scheme is not Rafiki's."""
    return name in PEERS


def create_scheme(name: str, table: Table, *, seed: int, workers: int) -> Scheme:
    """A scheme that has seen nothing.

    Args:
        name: A peer, or a kind of advisor, with options or without: `EVOLUTION` or
            `EVOLUTION:population_size=20,sample_size=5`.
        table: Whose space is searched.
        seed: Of the run; that of the scheme is derived from it and from the table.
        workers: How many will ask.

    Raises:
        ValueError: There is no such scheme or option.
    """
    seed = derive_seed(seed, table.name)
    match name:
        case "random":
            return PlainRandom(table, seed)
        case "optuna-tpe" | "optuna-gp":
            return OptunaScheme(name, table, seed)
        case _:
            return AdvisorScheme(advisor_settings(name), table, seed, workers)


def advisor_settings(name: str) -> AdvisorSettings:
    """The settings that a name of one of Rafiki's schemes stands for.

    Raises:
        ValueError: There is no such kind or option.
    """
    kind_name, _, listed = name.partition(":")
    settings = AdvisorSettings(kind=AdvisorKind(kind_name))
    if not listed:
        return settings
    options = dict(item.split("=", 1) for item in listed.split(","))
    match settings.kind:
        case AdvisorKind.EVOLUTION:
            return replace(settings, evolution=_with(EvolutionOptions(), options))
        case AdvisorKind.REINFORCE:
            return replace(settings, reinforce=_with(ReinforceOptions(), options))
        case AdvisorKind.BAYES_OPT:
            return replace(settings, bayes_opt=_with(BayesOptOptions(), options))
        case _:
            raise ValueError(f"{kind_name} has no options")


class AdvisorScheme:
    """One of Rafiki's advisors, as a study without a probe or a budget would drive it."""

    def __init__(self, settings: AdvisorSettings, table: Table, seed: int, workers: int) -> None:
        self._table = table
        self._workers = workers
        knob_config = spaces.knob_config(table)
        self._advisor = create_advisor(
            AdvisorConfig(
                study=table.name,
                knob_config=knob_config,
                settings=resolve_settings(settings, knob_config, subject=table.name),
                direction=table.direction,
                seed=seed,
                batch_size=1,
                has_probe=False,
            )
        )
        self._running: dict[int, Proposal] = {}

    def ask(self, number: int) -> Indices | None:
        situation = Situation(number=number, elapsed_s=0.0, workers=self._workers)
        decision = self._advisor.decide(situation)
        if isinstance(decision, Finish):
            raise ValueError(f"the study ended: {decision.message}")
        if not isinstance(decision, Proposal):
            return None
        self._advisor.apply(Proposed(number=number, at_s=0.0, proposal=decision))
        self._running[number] = decision
        return spaces.indices(self._table, decision.knobs, decision.candidates)

    def tell(self, number: int, value: float) -> None:
        proposal = self._running.pop(number)
        self._advisor.apply(
            Ended(
                number=number,
                at_s=0.0,
                state=TrialState.COMPLETED,
                score=value,
                candidates=tuple(
                    Candidate(archs=archs, score=value) for archs in proposal.candidates
                ),
            )
        )


def _with(options: _Options, values: dict[str, str]) -> _Options:
    """`options` with some replaced, each by the type that it has."""
    types = {field.name: type(getattr(options, field.name)) for field in fields(options)}
    if unknown := values.keys() - types.keys():
        raise ValueError(f"no option is called {unknown.pop()}; there are {', '.join(types)}")
    return replace(options, **{name: types[name](value) for name, value in values.items()})
