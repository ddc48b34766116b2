"""Steps on what a template declares: its source, class, task, dependencies and knobs."""

import importlib.metadata
import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path

from rafiki.model.base import BaseModel, takes_candidates
from rafiki.model.bench.report import Complaint, Recorder
from rafiki.model.bench.sample import random_arguments
from rafiki.model.knobs import (
    InvalidKnobConfig,
    KnobConfig,
    check_knob_config,
    offered_policies,
)
from rafiki.model.loading import ModelRejected, find_model_class, load_class, read_source
from rafiki.model.serial import config_digest, config_to_json

TASK = re.compile(r"[A-Z][A-Z0-9_]{0,62}")
PROJECT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
MAX_CONFIG_BYTES = 2**20


def check_declaration(
    recorder: Recorder, path: Path, model_class: str | None
) -> tuple[type[BaseModel], KnobConfig] | None:
    """Runs the steps and fills in the report; None if the template cannot be used at all."""
    report = recorder.report
    if recorder.run("the source is Python", lambda: _check_source(path)) is None:
        return None
    loaded = recorder.run("it imports and defines a template", lambda: _load(path, model_class))
    if loaded is None:
        return None
    report.model_class, template = loaded
    report.candidate_batches = takes_candidates(template)
    if recorder.run("task and dependencies are declared", lambda: _check_class(template, recorder)):
        report.task, report.dependencies = template.task, dict(template.dependencies)
    config = recorder.run("the knob config is valid", lambda: _check_config(template, recorder))
    if config is None:
        return None
    report.knob_config = config
    if not recorder.run(
        "the constructor takes every knob", lambda: _check_constructor(template, config)
    ):
        return None
    return template, config


def _check_source(path: Path) -> bool:
    if path.suffix != ".zip":
        try:
            read_source(path)
        except ModelRejected as error:
            raise Complaint(str(error), "give a file that Python can compile.") from error
    return True


def _load(path: Path, model_class: str | None) -> tuple[str, type[BaseModel]]:
    try:
        if model_class is None:
            name = find_model_class(path)
        else:
            name = model_class if ":" in model_class else f"{path.stem}:{model_class}"
        return name, load_class(path, name)
    except ModelRejected as error:
        text = str(error)
        if "several templates" in text:
            advice = "name one of them with --class."
        elif "does not implement" in text:
            advice = "write the missing methods; docs/writing-a-model.md lists them."
        elif "no subclass of" in text:
            advice = "write `class MyModel(BaseModel)` with BaseModel from rafiki.model."
        else:
            advice = "make `import` of the file work by itself."
        raise Complaint(text, advice) from error


def _check_class(template: type[BaseModel], recorder: Recorder) -> bool:
    task: object = template.task
    if not isinstance(task, str) or not TASK.fullmatch(task):
        raise Complaint(
            f"The class attribute `task` is {task!r}.",
            'set it to what the model solves, such as task = "IMAGE_CLASSIFICATION": capital '
            "letters, digits and underscores.",
        )
    dependencies: object = template.dependencies
    if not isinstance(dependencies, Mapping):
        raise Complaint(
            f"The class attribute `dependencies` is {type(dependencies).__name__}.",
            'make it a dict of exact versions by project, such as {"optax": "0.2.8"}.',
        )
    for project, version in dependencies.items():
        if not isinstance(project, str) or not PROJECT.fullmatch(project):
            raise Complaint(f"{project!r} is no project name.", "use its name on PyPI.")
        if not isinstance(version, str) or not re.fullmatch(r"[0-9][0-9A-Za-z.+!-]*", version):
            raise Complaint(
                f"The version of {project} is {version!r}.",
                'give one exact version, such as "0.2.8", without operators.',
            )
        try:
            installed = importlib.metadata.version(project)
        except importlib.metadata.PackageNotFoundError:
            recorder.remark(f"Note: {project} is not installed here.")
        else:
            if installed != version:
                recorder.remark(f"Note: {project} {installed} is installed here, not {version}.")
    pair = ("train_candidates", "evaluate_candidates")
    present = [name for name in pair if callable(getattr(template, name, None))]
    if len(present) == 1:
        recorder.remark(f"Note: {present[0]} is never called without the other of {pair}.")
    return True


def _check_config(template: type[BaseModel], recorder: Recorder) -> KnobConfig:
    try:
        config = template.get_knob_config()
    except InvalidKnobConfig as error:
        raise Complaint(f"{error}.", "correct the knob in get_knob_config().") from error
    try:
        check_knob_config(config)
        size = len(json.dumps(config_to_json(config)))
        again = config_digest(template.get_knob_config())
    except InvalidKnobConfig as error:
        advice = "correct the knob in get_knob_config()."
        if "does already" in error.rule:
            advice = "declare every policy once (QUICK_TRAIN is the old name of EARLY_STOP)."
        raise Complaint(f"{str(error).removesuffix('.')}.", advice) from error
    if size > MAX_CONFIG_BYTES:
        raise Complaint(
            f"The knob config takes {size} bytes of at most {MAX_CONFIG_BYTES}.",
            "offer fewer positions or choices.",
        )
    if again != config_digest(config):
        raise Complaint(
            "get_knob_config() returns another config at the second call.",
            "make it depend on nothing: no random numbers, no clock, no files.",
        )
    policies = ", ".join(sorted(offered_policies(config))) or "none"
    recorder.remark(f"{len(config)} knobs; policies: {policies}")
    return config


def _check_constructor(template: type[BaseModel], config: KnobConfig) -> bool:
    arguments = random_arguments(config, 1, frozenset())
    signature = inspect.signature(template.__init__)
    parameters = list(signature.parameters.values())[1:]
    kinds = {parameter.kind for parameter in parameters}
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        by_name = {p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY}
        if missing := [name for name in arguments if name not in by_name]:
            listed = ", ".join(f"{name}={arguments[name]!r}"[:80] for name in missing)
            raise Complaint(
                f"The constructor does not take the declared knobs {', '.join(missing)}.",
                f"add them as parameters of __init__ (it is called with {listed}), or do not "
                "declare them.",
            )
    needed = [
        p.name
        for p in parameters
        if p.default is p.empty
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        and p.name not in arguments
    ]
    if needed:
        raise Complaint(
            f"The constructor needs {', '.join(needed)}, which no knob gives.",
            "declare a FixedKnob of that name, or give the parameter a default.",
        )
    return True
