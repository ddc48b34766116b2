"""The model SDK: what a model template imports.

```python
from rafiki.model import BaseModel, FloatKnob, load_images, logger
```
"""

from rafiki.model.base import BaseModel, Candidate, CandidateModel, takes_candidates
from rafiki.model.image_classification import (
    ImageData,
    InvalidDataset,
    load_images,
    query_images,
    write_images,
)
from rafiki.model.knobs import (
    ArchKnob,
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    InvalidKnobConfig,
    Knob,
    KnobConfig,
    KnobValue,
    NodeRef,
    Policy,
    PolicyKnob,
    Scalar,
)
from rafiki.model.logger import LogSink, ModelLogger, logger
from rafiki.model.params import InvalidParams, Params

__all__ = [
    "ArchKnob",
    "BaseModel",
    "Candidate",
    "CandidateModel",
    "CategoricalKnob",
    "FixedKnob",
    "FloatKnob",
    "ImageData",
    "IntegerKnob",
    "InvalidDataset",
    "InvalidKnobConfig",
    "InvalidParams",
    "Knob",
    "KnobConfig",
    "KnobValue",
    "LogSink",
    "ModelLogger",
    "NodeRef",
    "Params",
    "Policy",
    "PolicyKnob",
    "Scalar",
    "load_images",
    "logger",
    "query_images",
    "takes_candidates",
    "write_images",
]
