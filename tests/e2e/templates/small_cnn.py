"""The zoo's supernet, so small that a whole search takes seconds beside its compilation."""

from rafiki.model import FixedKnob, KnobConfig
from rafiki.zoo.enas_cnn import EnasCnn

SMALL = {
    "channels": 4,
    "cells": 1,
    "downscaled_cells": 1,
    "batch_size": 4,
    "evaluation_batch_size": 4,
    "epochs": 2,
}


class SmallCnn(EnasCnn):
    @staticmethod
    def get_knob_config() -> KnobConfig:
        config = dict(EnasCnn.get_knob_config())
        return config | {name: FixedKnob(value) for name, value in SMALL.items()}
