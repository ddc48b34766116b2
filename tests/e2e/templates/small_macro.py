"""The zoo's macro supernet, so small that a whole search takes seconds beside its compilation."""

from rafiki.model import FixedKnob, KnobConfig
from rafiki.supernet.macro import network_knob
from rafiki.zoo.enas_macro import EnasMacro

LAYERS = 4
SMALL = {
    "channels": 4,
    "downscaled_channels": 4,
    "batch_size": 4,
    "evaluation_batch_size": 4,
    "epochs": 2,
}


class SmallMacro(EnasMacro):
    @staticmethod
    def get_knob_config() -> KnobConfig:
        config = dict(EnasMacro.get_knob_config()) | {"network": network_knob(LAYERS)}
        return config | {name: FixedKnob(value) for name, value in SMALL.items()}
