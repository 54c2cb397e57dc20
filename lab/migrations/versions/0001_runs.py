"""Runs, their attempts, what they measure and what they leave behind."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# As the tables were when this was written: a migration never follows later changes of lab.store_tables.
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _of_run(table: str) -> sa.Column[str]:
    key = sa.ForeignKey("runs.id", name=f"fk_{table}_run_id", ondelete="CASCADE")
    return sa.Column("run_id", sa.String(32), key, nullable=False)


def _owner() -> sa.Column[str]:
    return sa.Column("owner", sa.String(200), nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, NUMBER, primary_key=True, autoincrement=True)


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String(32), primary_key=True),
        _owner(),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("wanted", sa.String(16), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("n_steps", sa.Integer, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("queued", sa.Float, nullable=False),
        sa.Column("started", sa.Float),
        sa.Column("ended", sa.Float),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("race", sa.String(64)),
        sa.Column("token", NUMBER),
        sa.Column("retries", sa.Integer, nullable=False),
        sa.UniqueConstraint("owner", "key", name="uq_runs_owner_key"),
    )
    op.create_index("ix_runs_status_queued", "runs", ["status", "queued"])
    op.create_index("ix_runs_owner_created", "runs", ["owner", "created"])
    op.create_table(
        "attempts",
        _number("token"),
        _of_run("attempts"),
        _owner(),
        sa.Column("place", sa.String(200), nullable=False),
        sa.Column("handle", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("lease", sa.Float, nullable=False),
        sa.Column("from_step", sa.Integer, nullable=False),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("ended", sa.Float),
        sa.Column("outcome", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_attempts_run_id", "attempts", ["run_id"])
    for name in ("metrics", "probes"):
        op.create_table(
            name,
            _number("id"),
            _of_run(name),
            _owner(),
            sa.Column("token", NUMBER, nullable=False),
            sa.Column("step", sa.Integer, nullable=False),
            sa.Column("content", sa.Text, nullable=False),
            sqlite_autoincrement=True,
        )
        op.create_index(f"ix_{name}_run_id_id", name, ["run_id", "id"])
    op.create_table(
        "artifacts",
        _number("id"),
        _of_run("artifacts"),
        _owner(),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("bytes", NUMBER, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.UniqueConstraint("run_id", "path", name="uq_artifacts_run_id_path"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    for name in ("artifacts", "probes", "metrics", "attempts", "runs"):
        op.drop_table(name)
