"""What decides the shape of a network."""

from dataclasses import dataclass

from rafiki.supernet.inputs import Inputs

MIN_SIDE = 4  # pixels that no stage falls below


@dataclass(frozen=True)
class Shape:
    """What decides the shape of a network, and so which programs are compiled.

    `stages` is the number of cells of every stage. The first cell of every stage but the
    first is a reduction cell: it halves the image and doubles the channels.
    """

    height: int
    width: int
    depth: int
    classes: int
    channels: int
    stages: tuple[int, ...]

    @classmethod
    def of(cls, inputs: Inputs, channels: int, cells: int) -> "Shape":
        """A network with `cells` normal cells per stage and reduction cells between stages.

        There are three stages where the sides can be halved twice without falling below 4
        pixels, otherwise two.

        Raises:
            ValueError: The images are too small.
        """
        side = min(inputs.size[:2])
        if side < 2 * MIN_SIDE:
            raise ValueError(f"images must be at least {2 * MIN_SIDE} pixels wide and high")
        stages = (cells, cells + 1, cells + 1)[: 3 if side >= 4 * MIN_SIDE else 2]
        return cls(*inputs.size, inputs.classes, channels, stages)

    def stage_channels(self, stage: int) -> int:
        """Channels of the cells of a stage."""
        return self.channels << stage

    def stage_height(self, stage: int) -> int:
        """Pixels."""
        return -(-self.height // (1 << stage))

    def stage_kinds(self, stage: int) -> tuple[int, ...]:
        """The kind of every cell of a stage: 0 normal, 1 reduction."""
        return (min(stage, 1), *(0,) * (self.stages[stage] - 1))

    def stage_inputs(self, stage: int) -> tuple[int, ...]:
        """Channels that enter the projections of a stage.

        They make the two inputs of its first cell and, if there is one, the first input of
        its second cell.
        """
        stem = 3 * self.channels
        last = stem if stage == 0 else self.stage_channels(stage - 1)
        before = stem if stage == 1 and self.stages[0] == 1 else last
        return (before, last, last)[: 1 + min(self.stages[stage], 2)]
