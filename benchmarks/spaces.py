"""Tables as knob configs, and proposals as configurations of tables."""

from collections.abc import Mapping, Sequence

from benchmarks.tables import Indices, Table

from rafiki.model.knobs import ArchKnob, CategoricalKnob, IntegerKnob, Knob, KnobValue, Scalar
from rafiki.resources import Archs

# The arch knob of a table of architectures.
CELL = "cell"


def knob_config(table: Table) -> dict[str, Knob]:
    """The knobs of a table.

    A grid of numbers becomes an integer knob over the indices, another list a categorical
    knob, and a table of architectures one arch knob, whose operations are the same `KnobValue`
    instances at every position.
    """
    if table.is_architecture:
        operations = [KnobValue(value) for value in table.parameters[0].values]
        return {CELL: ArchKnob([operations] * len(table.parameters))}
    return {
        parameter.name: IntegerKnob(0, len(parameter.values) - 1)
        if parameter.is_ordered
        else CategoricalKnob(parameter.values)
        for parameter in table.parameters
    }


def indices(table: Table, knobs: Mapping[str, Scalar], archs: Sequence[Archs]) -> Indices:
    """The configuration that a proposal of scalars or of one architecture stands for."""
    if table.is_architecture:
        (arch,) = archs
        return arch[CELL]
    return tuple(
        int(knobs[parameter.name])
        if parameter.is_ordered
        else parameter.values.index(str(knobs[parameter.name]))
        for parameter in table.parameters
    )
