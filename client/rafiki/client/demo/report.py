"""What the demo says at its end."""

import json
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rafiki.client import names
from rafiki.client.cli.output import duration_text, score_text
from rafiki.client.demo.cells import Cell, cell_of
from rafiki.client.demo.curves import training_curves
from rafiki.client.demo.drawing import draw_cells, draw_search
from rafiki.client.demo.outcome import Outcome, result, span_s
from rafiki.model.knobs import arch_knobs
from rafiki.resources import StudyPlan, Trial, TrialPhase, TrialPlot


def write_result(outcome: Outcome, path: Path) -> dict[str, object]:
    """Writes `result.json`; answers with what is in it."""
    values = result(outcome)
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return values


def write_pictures(
    outcome: Outcome, plots: tuple[TrialPlot, ...], cells_path: Path, search_path: Path
) -> None:
    """Draws the cells found, and the search with the final training."""
    number = outcome.final.name.rpartition("/")[2]
    score = score_text(outcome.final.test_score)
    title = f"found by ENAS on scikit-learn's digits (trial {number}, test accuracy {score})"
    draw_cells(final_cells(outcome), title, cells_path)
    runs = {"architecture found": outcome.metrics.get(outcome.final.name, ())}
    if outcome.control is not None:
        runs["random control"] = outcome.metrics.get(outcome.control.name, ())
    curves, axis = training_curves(plots, runs)
    head = f"ENAS on scikit-learn's digits: {len(outcome.rounds)} rounds"
    draw_search(outcome.rounds, curves, axis, head, search_path)


def final_cells(outcome: Outcome) -> dict[str, Cell]:
    """The cells of the best trial, by the names of their knobs."""
    archs = outcome.final.candidates[0].archs
    return {
        name.replace("_", " "): cell_of(knob, archs[name])
        for name, knob in arch_knobs(outcome.study.knob_config).items()
    }


def print_plan(out: Console, outcome: Outcome) -> None:
    """The plans made from measured costs, against what happened."""
    plans = [outcome.plan, *([outcome.round_plan] if outcome.round_plan else [])]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    table.add_column("")
    for head in (*("planned", "after round 1")[: len(plans)], "happened"):
        table.add_column(head, justify="right")
    for label, *values in zip(_PLAN_ROWS, *map(_planned, plans), _happened(outcome), strict=True):
        table.add_row(label, *values)
    out.print(table)
    if outcome.job.budget.time is not None:
        counted = [t for t in outcome.trials if t.phase is not TrialPhase.PROBE]
        limit = duration_text(outcome.job.budget.time.total_seconds())
        out.print(f"It took {duration_text(span_s(counted))} of a budget of {limit}.")


_PLAN_ROWS = (
    "rounds",
    "candidates scored in rounds",
    "trials",
    "final trainings, random control included",
    "final phases",
)


def _planned(plan: StudyPlan) -> tuple[str, ...]:
    return (
        str(plan.rounds),
        str(plan.rounds * plan.candidates_per_round),
        str(plan.trials),
        str(plan.final_trains),
        duration_text(plan.final_reserve_s),
    )


def _happened(outcome: Outcome) -> tuple[str, ...]:
    by_phase = {phase: [t for t in outcome.trials if t.phase is phase] for phase in TrialPhase}
    evals = by_phase[TrialPhase.SEARCH_EVAL]
    trains = by_phase[TrialPhase.FINAL_TRAIN]
    return (
        str(len(outcome.rounds)),
        str(sum(len(trial.candidates) for trial in evals)),
        str(len(outcome.trials) - len(by_phase[TrialPhase.PROBE])),
        str(len(trains)),
        duration_text(span_s([*by_phase[TrialPhase.FINAL_EVAL], *trains])),
    )


def print_scores(out: Console, outcome: Outcome, plain: tuple[float, float]) -> None:
    """Accuracies of the model found, the control and a plain classifier."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    table.add_column("accuracy")
    table.add_column("validation", justify="right")
    table.add_column("test", justify="right")

    def add(label: str, trial: Trial, style: str) -> None:
        validation, test = score_text(trial.score), score_text(trial.test_score)
        table.add_row(
            f"{label} (trial {trial.name.rpartition('/')[2]})", validation, test, style=style
        )

    add("architecture found, trained from scratch", outcome.final, "bold green")
    if outcome.control is not None:
        add("random architecture, trained alike", outcome.control, "")
    table.add_row("logistic regression on the pixels", *(score_text(score) for score in plain))
    out.print(table)
    arm = outcome.study.control_arm
    if arm is not None:
        out.print(
            f"On shared weights, before that: mean {score_text(arm.search.mean)} of "
            f"{arm.search.count} chosen candidates, {score_text(arm.control.mean)} of "
            f"{arm.control.count} random ones. Such scores rank candidates; they do not tell "
            "the final accuracy."
        )


def print_facts(out: Console, outcome: Outcome, values: Mapping[str, object]) -> None:
    """Counts and times in a few lines."""
    compiled = values["compilations_per_program"]
    assert isinstance(compiled, dict)
    programs = ", ".join(f"{name} {count}x" for name, count in compiled.items())
    out.print(
        f"{values['distinct_candidates']} distinct architectures among {values['candidates']} "
        f"scores on {values['weight_versions']} versions of the shared weights, in "
        f"{values['trials']} trials; search {duration_text(float(str(values['search_s'])))}, "
        f"final training {duration_text(float(str(values['final_train_s'])))}, "
        f"compiling {duration_text(float(str(values['compile_s'])))} over all workers."
    )
    if programs:
        out.print(f"Programs compiled, by each worker at most: {programs}.")


def print_hints(out: Console, folder: Path, outcome: Outcome) -> None:
    """What to look at, and how to go on."""
    out.print(f"{folder}/cells.png    the cells found")
    out.print(f"{folder}/search.png   scores by round, and the final training")
    out.print(f"{folder}/result.json  the figures")
    out.print(f"{folder}/model.safetensors  the trained network")
    out.print()
    job = names.short(outcome.job.name)
    out.print(f"Look into it: rafiki up --data-dir {folder}/rafiki-data")
    out.print(f"  then, in another terminal: rafiki job show {job}", style="dim")
    out.print(f"                             rafiki trial list {job} --best", style="dim")
