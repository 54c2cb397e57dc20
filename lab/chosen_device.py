"""The devices that a teacher offers and this machine has, and the one that a session computes on."""

from __future__ import annotations

from functools import lru_cache

import streamlit as st

from lab import settings
from lm_core import device as devices

DEVICE_STATE = "model.device"  # the session's choice


def offered_devices() -> list[str]:
    """The devices that the teacher offers and this machine has, the usual one first; never empty.

    `auto` stands for the device that it means here, so that no device is listed twice.
    """
    return list(_there(settings.current().devices))


@lru_cache(maxsize=8)
def _there(asked: tuple[str, ...]) -> tuple[str, ...]:
    found: list[str] = []
    for name in asked:
        try:
            found.append(str(devices.pick(name)).removesuffix(":0"))
        except ValueError:
            continue  # not on this machine
    return tuple(dict.fromkeys(found)) or ("cpu",)


def chosen_device() -> str:
    """The device that this session computes on: its choice where that is offered, else the usual one."""
    offered = offered_devices()
    chosen = st.session_state.get(DEVICE_STATE)
    return chosen if chosen in offered else offered[0]
