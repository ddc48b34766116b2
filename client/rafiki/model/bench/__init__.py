"""The local test bench for model templates; `python -m rafiki.model.bench FILE`."""

from rafiki.model.bench.report import Report, Step
from rafiki.model.bench.run import run_bench

__all__ = ["Report", "Step", "run_bench"]
