import random
from pathlib import Path

import pytest
from PIL import Image

from rafiki.client.demo.cells import Cell, Edge
from rafiki.client.demo.drawing import Series, draw_cells, draw_search
from rafiki.resources import Candidate, ScoreStats, StudyRound

OPERATIONS = ("sepconv3", "sepconv5", "avgpool3", "maxpool3", "identity")


def random_cell(rng: random.Random) -> Cell:
    edges = tuple(
        Edge(rng.randrange(node), node, rng.choice(OPERATIONS))
        for node in range(2, 7)
        for _ in range(2)
    )
    return Cell((0, 1), tuple(range(2, 7)), edges)


def round_of(number: int, control: ScoreStats | None) -> StudyRound:
    return StudyRound(
        study="trainJobs/a1b2c3d4/studies/1",
        round=number,
        checkpoint=f"trainJobs/a1b2c3d4/studies/1/checkpoints/{number}-1",
        mean_reward=0.1 * number,
        baseline=0.1,
        entropy=30.0 - number,
        best=Candidate(archs={}, score=0.2 * number),
        control=control,
    )


def is_drawn(path: Path) -> bool:
    with Image.open(path) as image:
        shades = image.convert("L").histogram()
        return image.format == "PNG" and min(image.size) > 300 and any(shades[:100])


@pytest.mark.parametrize("seed", range(3))
def test_random_cells_are_drawn_side_by_side(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    path = tmp_path / "cells.png"
    draw_cells({"normal": random_cell(rng), "reduction": random_cell(rng)}, "found", path)
    assert is_drawn(path)


def test_a_search_is_drawn_with_its_final_training(tmp_path: Path) -> None:
    stats = ScoreStats(count=30, mean=0.2, standard_deviation=0.05, best=0.4)
    rounds = [round_of(number, stats) for number in range(1, 6)]
    loss = [Series(label="found", x=[1, 2, 3], y=[2.0, 1.0, 0.5])]
    path = tmp_path / "search.png"
    draw_search(rounds, {"loss": loss, "accuracy": loss}, "epoch", "search", path)
    assert is_drawn(path)


def test_a_search_without_control_or_curves_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "search.png"
    draw_search([round_of(1, None)], {}, "", "search", path)
    assert is_drawn(path)
