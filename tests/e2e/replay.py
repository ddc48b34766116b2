"""Runs a recorded trial again, in a fresh process, with nothing but the model SDK.

python replay.py TEMPLATE TRIAL_JSON PARAMETERS_NPZ DATA_ZIP prints the scores as JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np

from rafiki.model.base import CandidateModel
from rafiki.model.knobs import Policy, arch_knobs, arch_values, model_arguments
from rafiki.model.loading import find_model_class, load_class
from rafiki.model.logger import logger


class Silence:
    """A log sink that nothing stops."""

    def log(self, message: str, level: str) -> None: ...

    def metrics(self, values: dict[str, float], step: int | None, score: float | None) -> None: ...

    def plot(self, title: str, metrics: list[str], x_axis: str) -> None: ...

    def progress(self, fraction: float, remaining_s: float | None) -> bool:
        return False


def main(template: str, trial_json: str, parameters: str, data: str) -> None:
    logger.connect(Silence())
    trial = json.loads(Path(trial_json).read_text())
    model_class = load_class(Path(template), find_model_class(Path(template)))
    config = model_class.get_knob_config()
    archs = trial["candidates"]
    policies = frozenset(Policy(policy) for policy in trial["policies"])
    model_class.seed = trial["seed"]
    model = model_class(**model_arguments(config, trial["knobs"], archs[0], policies))
    if Policy.SKIP_TRAIN in policies:
        assert isinstance(model, CandidateModel)
        with np.load(parameters) as params:
            model.load_parameters({path: params[path] for path in params.files})
        knobs = arch_knobs(config)
        candidates = [
            {name: arch_values(knobs[name], choices) for name, choices in arch.items()}
            for arch in archs
        ]
        scores = model.evaluate_candidates(data, candidates, seed=trial["seed"])
    else:
        model.train(data)
        scores = [model.evaluate(data)]
    print(json.dumps([float(score) for score in scores]))


if __name__ == "__main__":
    main(*sys.argv[1:])
