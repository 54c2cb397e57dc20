"""The two small stacks of the lesson on the block, trained while the reader waits: once for everybody, then cached."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
import torch

from lab.source import CODE_HASH
from lab.ui.block_numbers import CORPUS, Floats
from lm_core.norm_placement import StackConfig, run_placement

LEARNING_RATES = (0.001, 0.003, 0.01)
_TRAINING = threading.Lock()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread, one training at a time: many small operations on several threads of a busy machine wait for
    each other at every step (measured on two busy cores: 1.2 s on one thread, 25 s on two)."""
    with _TRAINING:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def placement(learning_rate: float) -> dict[bool, dict[str, Floats]]:
    """Both stacks trained on our corpus: by `pre_norm`, the arrays losses, before, after."""
    return _placement(learning_rate, CODE_HASH, CORPUS.read_bytes())


@st.cache_data(max_entries=8, show_spinner=False)
def _placement(learning_rate: float, code: str, corpus: bytes) -> dict[bool, dict[str, Floats]]:
    c = StackConfig(learning_rate=learning_rate)
    with _one_thread():
        runs = {pre_norm: run_placement(corpus, c, pre_norm) for pre_norm in (True, False)}
    return {pre_norm: {name: value.numpy() for name, value in vars(run).items()} for pre_norm, run in runs.items()}
