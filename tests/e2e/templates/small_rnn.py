"""The zoo's recurrent supernet, so small that a whole search takes seconds."""

from rafiki.model import FixedKnob, KnobConfig
from rafiki.zoo.enas_rnn import EnasRnn

SMALL = {
    "hidden": 16,
    "downscaled_hidden": 8,
    "batch_size": 4,
    "evaluation_batch_size": 4,
    "steps": 8,
    "epochs": 2,
}


class SmallRnn(EnasRnn):
    @staticmethod
    def get_knob_config() -> KnobConfig:
        config = dict(EnasRnn.get_knob_config())
        return config | {name: FixedKnob(value) for name, value in SMALL.items()}
