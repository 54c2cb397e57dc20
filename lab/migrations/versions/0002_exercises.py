"""How far each learner is with each exercise, and which named mistakes they met."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _key(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), primary_key=True)


def upgrade() -> None:
    op.create_table(
        "exercise_progress",
        _key("owner", 200),
        _key("exercise", 64),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("hints", sa.Integer, nullable=False),
        sa.Column("attempts_at_hint", sa.Integer, nullable=False),
        sa.Column("solution_seen", sa.Boolean, nullable=False),
        sa.Column("helped", sa.Boolean, nullable=False),
        sa.Column("passed_at", sa.Float),
        sa.Column("digest", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("hint_id", sa.String(128)),
        sa.Column("updated", sa.Float, nullable=False),
    )
    op.create_table(
        "exercise_mistakes",
        _key("owner", 200),
        _key("exercise", 64),
        _key("hint_id", 128),
        sa.Column("times", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("exercise_mistakes")
    op.drop_table("exercise_progress")
