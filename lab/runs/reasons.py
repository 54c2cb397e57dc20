"""Why a run ended as it did: an id of a text in `[runs]` and the text's values, as one line of the store."""

from __future__ import annotations

import json


def pack(reason: str, **numbers: float | str) -> str:
    """The line.

    >>> pack("crashed"), pack("disk_full", free_gb=0.5)
    ('crashed', 'disk_full {"free_gb": 0.5}')
    """
    return f"{reason} {json.dumps(numbers)}" if numbers else reason


def unpack(line: str) -> tuple[str, dict[str, float | str]]:
    """The id and the values of a line; an empty one is ("", {}).

    >>> unpack('disk_full {"free_gb": 0.5}')
    ('disk_full', {'free_gb': 0.5})
    """
    reason, _, numbers = line.partition(" ")
    return reason, json.loads(numbers) if numbers else {}


def say(line: str) -> str:
    """A run's reason in the language of the session; "" for an empty one."""
    reason, numbers = unpack(line)
    return _say(reason, numbers) if reason else ""


def say_error(error: Exception) -> str:
    """A QuotaError or RefusedError in the language of the session."""
    return _say(str(getattr(error, "reason", "crashed")), getattr(error, "numbers", {}))


def _say(reason: str, numbers: dict[str, float | str]) -> str:
    from lab.language import DEFAULT, strings, text  # brings Streamlit, which worker and supervisor do without

    key = f"runs.{reason}"
    values: dict[str, object] = {"why": reason, **numbers}
    return text(key if key in strings(DEFAULT) else "runs.crashed", language=None, **values)
