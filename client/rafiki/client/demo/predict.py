"""`python -m rafiki.client.demo.predict REQUEST`: what a trained template says to images.

Runs user code, hence in a process of its own. REQUEST is a JSON file with

    source            the template's Python file
    model_class       "module:Class"
    knobs             every declared knob by name, as the template takes them
    parameters        a safetensors file
    queries           a list of images as nested lists

The predictions are written to standard output as JSON.
"""

import json
import sys
from pathlib import Path

from safetensors.numpy import load_file

from rafiki.model.loading import load_class


def main(path: str) -> None:
    """Answers one request."""
    request = json.loads(Path(path).read_text(encoding="utf-8"))
    template = load_class(request["source"], request["model_class"])
    model = template(**request["knobs"])
    model.load_parameters(load_file(request["parameters"]))
    predictions = model.predict(request["queries"])
    print(json.dumps(predictions, default=lambda value: value.tolist()))
    model.destroy()
    template.teardown()


if __name__ == "__main__":
    main(sys.argv[1])
