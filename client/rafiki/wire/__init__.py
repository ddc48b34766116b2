"""Messages of `rafiki.v1` to the resources of `rafiki.resources` and back.

Pairs `x_to_proto` and `x_from_proto`, one module per subject. The readers take any
message that can be parsed and either return a resource that keeps the rules of the protos
or raise `rafiki.wire.fields.InvalidField` (for a search space, the `InvalidKnobConfig` of
`rafiki.model.knobs`). Names of resources pass through as they are. Maps, which
have no order on the wire, come in that of their keys.
"""
