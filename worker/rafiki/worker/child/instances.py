"""Model instances kept between trials, so that their programs are compiled once."""

import json
from collections import OrderedDict
from collections.abc import Hashable

from rafiki.model.base import BaseModel
from rafiki.model.knobs import Policy, model_arguments
from rafiki.worker.framing import Array
from rafiki.worker.task import Task

MAX_INSTANCES = 4


class Instance:
    """A constructed template and the name of the checkpoint it holds ("": none known)."""

    def __init__(self, model: BaseModel) -> None:
        self.model = model
        self.holds = ""

    def load(self, name: str, params: dict[str, Array]) -> None:
        """Has the template load a checkpoint."""
        self.holds = ""
        self.model.load_parameters(params)
        self.holds = name


def construct(model_class: type[BaseModel], task: Task, policies: frozenset[Policy]) -> Instance:
    """A new instance of a template, with the task's knobs and first candidate."""
    archs = task.candidates[0] if task.candidates else {}
    arguments = model_arguments(model_class.get_knob_config(), task.knobs, archs, policies)
    # The seed is there before the constructor runs, and again should that replace it.
    model = model_class.__new__(model_class)
    model.seed = task.seed
    model_class.__init__(model, **arguments)
    model.seed = task.seed
    return Instance(model)


class Instances:
    """The latest instances by template, fixed knobs and policies. For one thread."""

    def __init__(self) -> None:
        self._held: OrderedDict[Hashable, Instance] = OrderedDict()

    def get(
        self, model_class: type[BaseModel], task: Task, policies: frozenset[Policy]
    ) -> Instance:
        """The instance for candidates of `task` under `policies`, seeded for the task."""
        key = _key(task, policies)
        if key not in self._held:
            while len(self._held) >= MAX_INSTANCES:
                self._held.popitem(last=False)[1].model.destroy()
            self._held[key] = construct(model_class, task, policies)
        self._held.move_to_end(key)
        instance = self._held[key]
        instance.model.seed = task.seed
        return instance

    def forget(self, instance: Instance) -> None:
        """Drops an instance whose state is unknown, as after an exception."""
        for key, held in list(self._held.items()):
            if held is instance:
                del self._held[key]

    def clear(self) -> None:
        """Drops all."""
        self._held.clear()


def _key(task: Task, policies: frozenset[Policy]) -> Hashable:
    knobs = json.dumps(task.knobs, sort_keys=True)
    return task.source, task.model_class, knobs, policies
