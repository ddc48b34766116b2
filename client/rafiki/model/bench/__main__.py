"""`python -m rafiki.model.bench FILE`: checks a template and says what is wrong with it.

What the template and its frameworks print is hidden, also from native code; `--verbose`
shows it. Exits with 0 if all is well, 1 if a step failed, 2 for bad arguments.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TextIO

from rafiki.model.bench.report import Report, render
from rafiki.model.bench.run import run_bench


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    out = _quiet() if not options.verbose else sys.stdout
    # Bare `--json` leaves standard output to the JSON.
    is_json = options.json == "-"
    json_path = None if options.json is None or is_json else Path(options.json)

    def on_change(report: Report, is_done: bool) -> None:
        # Written before every step too: should the process die, the file says where.
        if json_path is not None:
            _write(json_path, report)
        if is_done and not is_json:
            print(render(len(report.steps), report.steps[-1]), file=out, flush=True)

    report = run_bench(
        options.file,
        model_class=options.model_class,
        train_path=options.train,
        validation_path=options.validation,
        extract_only=options.extract_only,
        on_change=on_change,
    )
    if is_json:
        print(json.dumps(report.to_json()), file=out, flush=True)
    else:
        failed = sum(not step.ok for step in report.steps)
        what = f"{failed} of {len(report.steps)} steps failed" if failed else "all is well"
        print(f"\n{report.model_class or options.file}: {what}", file=out, flush=True)
    return 0 if report.is_ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rafiki.model.bench",
        description="Runs a model template through its whole life, without a server.",
    )
    parser.add_argument("file", help="the Python file of the template")
    parser.add_argument("--class", dest="model_class", help="its class, if there are several")
    parser.add_argument("--train", help="a data set to train on, instead of made-up images")
    parser.add_argument("--validation", help="a data set to evaluate on")
    parser.add_argument(
        "--extract-only", action="store_true", help="only check what the template declares"
    )
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="OUT", help="write the report as JSON"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show what the template itself prints"
    )
    return parser


def _quiet() -> TextIO:
    """Cuts the standard streams off, also for native code; returns the old standard output."""
    sys.stdout.flush()
    sys.stderr.flush()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    with open(os.devnull, "r+") as nowhere:
        os.dup2(nowhere.fileno(), 0)
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    return out


def _write(path: Path, report: Report) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(report.to_json()), encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit(): threads that a template left running would be waited for.
    os._exit(status)
