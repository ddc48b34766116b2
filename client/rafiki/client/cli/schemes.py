"""`rafiki advisor`: the schemes of search and their options, in words."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Annotated

import typer

from rafiki.client.cli.advisors import advisor_kind, options_of, values_text
from rafiki.client.cli.output import print_fields, print_table
from rafiki.resources import AdvisorKind, EnasOptions, EnasPreset, enas_preset

app = typer.Typer(no_args_is_help=True, help="Advisors: the schemes by which jobs are searched.")

# When a scheme is chosen, in the order in which they are tried, and what it does.
SCHEMES: dict[AdvisorKind, tuple[str, str]] = {
    AdvisorKind.FIXED: ("only fixed and policy knobs", "one trial"),
    AdvisorKind.BAYES_OPT_PARAM_SHARING: (
        "no arch knobs, SHARE_PARAMS offered",
        "BAYES_OPT whose trials start from the best parameters so far, ever more often",
    ),
    AdvisorKind.BAYES_OPT: (
        "no arch knobs; or only arch knobs, of at most 16 positions",
        "models the scores by a Gaussian process and tries what promises most",
    ),
    AdvisorKind.ENAS: (
        "arch knobs, the others fixed, all five policies offered",
        "a controller learns over a supernet whose weights all trials share",
    ),
    AdvisorKind.EVOLUTION: (
        "everything else",
        "mutates good trials; the population forgets the oldest",
    ),
    AdvisorKind.REINFORCE: (
        "only by name; arch knobs, the others fixed",
        "the controller of ENAS, each architecture trained on its own",
    ),
    AdvisorKind.RANDOM: ("only by name; any knobs", "uniform draws, each setting once"),
}

# What an option means; defaults and ranges are in the API.
MEANINGS = {
    "adam_beta1": "Adam: decay of the gradient's mean",
    "adam_beta2": "Adam: decay of the squared gradient's mean",
    "adam_epsilon": "Adam: added to the denominator",
    "baseline_decay": "of the moving average that rewards are compared with",
    "baseline_from_zero": "whether that average starts at 0, not at the first batch's mean",
    "batch_size": "trials per update of the controller",
    "batches_per_round": "updates of the controller per round",
    "candidates_per_batch": "architectures per update of the controller",
    "control_fraction": "share of the draws given to a random control arm, at most 0.5",
    "controller_learning_rate": "of the controller",
    "early_stopping": "the rule by which running trials that are behind are ended",
    "early_stopping_min_steps": "no trial is ended before so many reported steps",
    "early_stopping_min_trials": "median: so many must have come as far first",
    "early_stopping_reduction_factor": "asha: one in so many goes on from each rung",
    "entropy_weight": "of the entropy in the reward",
    "final_controls": "random architectures trained in full beside the best",
    "final_evals": "architectures scored on all validation data, beside as many random ones",
    "final_trains": "of the best settings found, trained in full",
    "hidden_size": "units of the controller",
    "initial_trials": "random trials before the first modelled one",
    "op_logit_scale": "factor of the logits of choices that are no nodes",
    "population_size": "the youngest trials kept",
    "preset": "where the constants below come from",
    "rank_trains": "finalists trained briefly, to see how well shared weights rank them",
    "sample_size": "members drawn to choose a parent",
    "skip_target": "share of the skips to take",
    "skip_weight": "of the divergence from skip_target in the loss",
    "tanh_constant": "bound of the logits",
    "temperature": "divisor of the logits",
    "train_shards": "workers that train the shared weights side by side; 0: all",
}


@app.command("list")
def list_() -> None:
    """List the advisors, in the order in which `--advisor auto` tries them.

    Example: `rafiki advisor list`
    """
    print_table(
        ["ADVISOR", "CHOSEN FOR", "WHAT IT DOES"],
        [(kind, when, what) for kind, (when, what) in SCHEMES.items()],
        "",
    )


@app.command("show")
def show(
    advisor: Annotated[str, typer.Argument(metavar="ADVISOR", help="As in `advisor list`.")],
) -> None:
    """Show an advisor with its options and their defaults, for `job create --advisor-option`.

    Example: `rafiki advisor show enas`
    """
    kind = advisor_kind(advisor)
    when, what = SCHEMES[kind]
    print_fields({"advisor": kind, "chosen for": when, "what it does": what})
    print()
    print_table(
        ["OPTION", "DEFAULT", "VALUES", "MEANING"],
        [(o.name, o.default, values_text(o), MEANINGS[o.name]) for o in options_of(kind).values()],
        "it has no options",
    )
    if kind is AdvisorKind.ENAS:
        print()
        print_table(["PRESET", "WHAT IT CHANGES"], _presets(), "")


def _presets() -> Iterator[tuple[str, str]]:
    defaults = EnasOptions()
    for preset in EnasPreset:
        options = enas_preset(preset)
        changes = [
            f"{field.name}={str(value).lower() if isinstance(value, bool) else f'{value:g}'}"
            for field in fields(EnasOptions)
            if field.name != "preset"
            and (value := getattr(options, field.name)) != getattr(defaults, field.name)
        ]
        yield preset.lower().replace("_", "-"), ", ".join(changes) or "nothing"
