"""What model developers import."""

import pkgutil
import subprocess
import sys

import rafiki.model


def test_every_public_name_of_the_sdk_is_listed_and_sorted() -> None:
    # The logger is both a module and what it exports.
    modules = {module.name for module in pkgutil.iter_modules(rafiki.model.__path__)} - {"logger"}
    public = {name for name in vars(rafiki.model) if not name.startswith("_")}
    assert public - modules == set(rafiki.model.__all__)
    assert len(set(rafiki.model.__all__)) == len(rafiki.model.__all__)


def test_importing_the_sdk_loads_no_heavy_or_remote_package() -> None:
    code = (
        "import sys, rafiki.model, rafiki.model.bench, rafiki.model.loading;"
        "heavy = ('grpc', 'google.protobuf', 'jax', 'PIL', 'ml_dtypes', 'rafiki.resources');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
