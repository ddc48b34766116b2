"""What decides the shape of a network of the macro space.

Letters as in `rafiki.supernet.macro`.
"""

from dataclasses import dataclass

from rafiki.supernet.inputs import Inputs

MIN_SIDE = 4  # pixels that no stage falls below


@dataclass(frozen=True, kw_only=True)
class MacroShape:
    """What decides the shape of a network, and so which programs are compiled.

    Attributes:
        height, width, depth: Of the images.
        classes: Of the images.
        layers: L.
        channels: Of every stage; there are as many stages.
    """

    height: int
    width: int
    depth: int
    classes: int
    layers: int
    channels: tuple[int, ...]

    @classmethod
    def of(cls, inputs: Inputs, layers: int, channels: int, widening: int) -> "MacroShape":
        """A network of `layers`, with `widening` times as many channels in each next stage.

        There are three stages where the sides can be halved twice without falling below 4
        pixels, otherwise two.

        Raises:
            ValueError: The images are too small or the layers too few.
        """
        side = min(inputs.size[:2])
        if side < 2 * MIN_SIDE:
            raise ValueError(f"images must be at least {2 * MIN_SIDE} pixels wide and high")
        stages = 3 if side >= 4 * MIN_SIDE else 2
        if layers < 2 * stages:
            raise ValueError(f"{stages} stages take at least {2 * stages} layers, not {layers}")
        height, width, depth = inputs.size
        return cls(
            height=height,
            width=width,
            depth=depth,
            classes=inputs.classes,
            layers=layers,
            channels=tuple(channels * widening**stage for stage in range(stages)),
        )

    def stage_layers(self, stage: int) -> range:
        """The numbers of its layers; all stages have equally many, but the last takes the rest."""
        each, stages = self.layers // len(self.channels), len(self.channels)
        return range(stage * each, self.layers if stage == stages - 1 else (stage + 1) * each)
