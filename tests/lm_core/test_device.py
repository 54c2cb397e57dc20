"""Which device is picked, and what is said when it is not there."""

from contextlib import nullcontext

import pytest
import torch

from lm_core import device


def test_auto_is_what_this_machine_has() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert device.pick().type == expected
    assert device.pick("cpu") == torch.device("cpu")


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.pick("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.pick("auto").type == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.pick("auto").type == "cpu"


def test_an_index_beyond_the_last_gpu_is_refused_with_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device.pick("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="'cuda:2' asked for, but 2 CUDA devices are visible"):
        device.pick("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="'cuda' asked for, but 0 CUDA devices"):
        device.pick("cuda")


def test_mps_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'mps' asked for, but"):
        device.pick("mps")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "CPU", "meta", "xpu"])
def test_names_that_are_no_device_of_ours_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"use auto, cpu, cuda, cuda:0 \.\.\. or mps"):
        device.pick(name)


def test_autocast_follows_the_measured_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    here, ones = torch.device("cpu"), torch.ones(3, 3)
    for speedup, dtype in ((1.29, torch.float32), (1.31, torch.bfloat16)):
        monkeypatch.setattr(device, "bf16_speedup", lambda _, value=speedup: value)
        with device.autocast(here):
            assert (ones @ ones).dtype == dtype
    assert isinstance(device.autocast(here, enabled=False), nullcontext)
    with device.autocast(here, enabled=True):
        assert (ones @ ones).dtype == torch.bfloat16


def test_the_speed_is_a_measurement_and_zero_where_bf16_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    device.bf16_speedup.cache_clear()
    assert 0.01 < device.bf16_speedup(torch.device("cpu")) < 100

    def fails(_: torch.device, dtype: torch.dtype, *__: int) -> float:
        if dtype == torch.bfloat16:
            raise RuntimeError("no bfloat16 here")
        return 1.0

    device.bf16_speedup.cache_clear()
    monkeypatch.setattr(device, "_matmul_seconds", fails)
    assert device.bf16_speedup(torch.device("cpu")) == 0.0
    device.bf16_speedup.cache_clear()
