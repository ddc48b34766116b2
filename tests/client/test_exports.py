import rafiki.client
from rafiki.client import errors


def test_everything_exported_exists() -> None:
    assert [name for name in rafiki.client.__all__ if not hasattr(rafiki.client, name)] == []


def test_every_error_is_exported() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    public = {c.__name__ for c in classes if issubclass(c, errors.RafikiError)}
    assert public <= set(rafiki.client.__all__)
