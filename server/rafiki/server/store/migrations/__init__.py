"""Changes of the schema, in order: Alembic runs the revisions in `versions`.

A new one is written by hand, or by `alembic.autogenerate` and then read; a test proves that
all of them together give what `tables.py` declares.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Runs the revisions that the database lacks, in the transaction of `connection`.

    Args:
        connection: To the database.
        revision: The last one to run.

    Raises:
        LookupError: The database is at a revision that this release does not know.
    """
    config = _config()
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    current = set(MigrationContext.configure(connection).get_current_heads())
    if current - known:
        raise LookupError(
            f"the database has the schema {', '.join(sorted(current - known))}, which is newer "
            "than this release; run the release that wrote it, or a later one"
        )
    if current == set(script.get_heads()):
        return
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def known_revisions() -> tuple[str, ...]:
    """The revisions of this release, the latest first."""
    script = ScriptDirectory.from_config(_config())
    return tuple(revision.revision for revision in script.walk_revisions())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
