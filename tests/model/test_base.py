"""What every template has without writing it."""

import numpy as np

from rafiki.model import BaseModel, CandidateModel, KnobConfig, Params, takes_candidates


class Constant(BaseModel):
    """Answers what it was given."""

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {}

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        pass

    def evaluate(self, dataset_path: str) -> float:
        return 0.0

    def predict(self, queries: list[object]) -> list[object]:
        return queries

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return {}

    def load_parameters(self, params: Params) -> None:
        pass


class Half(Constant):
    """Has one method of the pair."""

    def evaluate_candidates(self) -> None:
        pass


class Whole(Half):
    """Has both."""

    def train_candidates(self) -> None:
        pass


def test_a_template_has_a_seed_no_dependencies_and_no_task_unless_it_says_so() -> None:
    model = Constant(units=3)
    assert (model.seed, model.dependencies, model.task) == (0, {}, "")


def test_the_seed_of_one_instance_is_its_own() -> None:
    model = Constant()
    model.seed = 5
    assert Constant().seed == 0


def test_the_ends_of_life_need_not_be_written() -> None:
    Constant().destroy()
    Constant.teardown()


def test_candidates_take_both_methods_of_the_pair() -> None:
    assert [takes_candidates(model) for model in (Constant, Half, Whole)] == [False, False, True]
    assert isinstance(Whole(), CandidateModel)
