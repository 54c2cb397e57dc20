"""A GPU without a GPU: fake tensors that hold no numbers but obey CUDA's device rules.

Under `FakeTensorMode` every operation checks that its tensors live on one device, as a real GPU would, so a line that
makes a tensor on the CPU by accident is found on any machine. The tests at the end use a real GPU, where there is one.

A CPU build of torch has no code for CUDA devices: its autograd aborts and its indexing fails when they meet one, even
a fake one. So the whole runs as `lazy:0`, an accelerator that every build knows and for which FakeTensor has the same
rules; what a CPU build can do as `cuda:0` (unmasked forward passes, clipping, the fused optimizer) runs as that too.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorDeviceMismatchError, FakeTensorMode

from lm_core import device as devices
from lm_core.attention import attend, average_of_past, fused_attend
from lm_core.config import EncoderConfig, gpt2_config, llama_config
from lm_core.data import TokenStream
from lm_core.encoder import Encoder
from lm_core.generation import generate, next_token
from lm_core.masks import causal_mask, document_mask, padding_mask, prefix_mask, sliding_window_mask
from lm_core.model import Decoder
from lm_core.ops import REFERENCE, Ops
from lm_core.optim import build_optimizers, is_matrix_inside, set_learning_rate
from lm_core.positions import RopeScaling, alibi_bias, rotary_angles, rotate, rotate_interleaved, sinusoidal_positions
from lm_core.pretrain import PretrainConfig, pretrain, train_step
from lm_core.probability import entropy_bits, score_sequence, softmax
from lm_core.sampling import SamplingConfig, sample

CUDA = torch.device("cuda:0")
ACCELERATOR = torch.device("lazy:0")
B, T, VOCAB = 2, 7, 11
GPT2 = gpt2_config(vocab_size=VOCAB, d_model=12, n_layers=2, n_heads=3, context_length=9)
LLAMA = llama_config(
    vocab_size=VOCAB, d_model=12, n_layers=2, n_heads=4, n_kv_heads=2, d_head=6, d_mlp=17, context_length=9,
    rope_scaling=RopeScaling(8.0, 1.0, 4.0, 64), tie_embeddings=False,
)  # fmt: skip
BERT = EncoderConfig(
    vocab_size=VOCAB, d_model=12, n_layers=2, n_heads=3, d_mlp=17, context_length=9, next_sentence_head=True
)


@pytest.fixture
def mode(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    monkeypatch.setattr(devices, "bf16_speedup", lambda _: 0.0)  # nothing here can be timed
    with FakeTensorMode() as fake:
        yield fake


def _fake(mode: FakeTensorMode, *shape: int, device: torch.device = ACCELERATOR) -> FakeTensor:
    return FakeTensor(mode, torch.empty(*shape, device="meta"), device)


def _ids(mode: FakeTensorMode, *shape: int, device: torch.device = ACCELERATOR) -> FakeTensor:
    return FakeTensor(mode, torch.empty(*shape, dtype=torch.int64, device="meta"), device)


def _move(mode: FakeTensorMode, model: nn.Module, device: torch.device = ACCELERATOR) -> None:
    """Every parameter, in its place, becomes a fake one on the device; tied ones stay tied."""
    moved: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in moved:
                moved[id(parameter)] = nn.Parameter(_fake(mode, *parameter.shape, device=device))
            setattr(module, name, moved[id(parameter)])
    assert all(p.device == device for p in model.parameters())


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))
    elif isinstance(value, tuple):
        for part in value:
            yield from _tensors(part)


def _count_on(value: object, device: torch.device = ACCELERATOR) -> int:
    """How many tensors the value holds, all of them on the device."""
    found = list(_tensors(value))
    assert found
    assert {t.device for t in found} == {device}
    return len(found)


@pytest.fixture(params=[GPT2, LLAMA], ids=["gpt2", "llama"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return Decoder(request.param)


# The test can fail


def test_a_stray_tensor_on_the_cpu_is_found(mode: FakeTensorMode) -> None:
    x = _fake(mode, B, T, 4)
    with pytest.raises(FakeTensorDeviceMismatchError):
        x + torch.arange(4)
    assert (x + torch.arange(4, device=x.device)).device == ACCELERATOR


@torch.no_grad()
def test_a_stray_tensor_inside_a_model_is_found(mode: FakeTensorMode, decoder: Decoder) -> None:
    """The readable path with a causal mask that forgets its device, and ids that were not moved."""
    _move(mode, decoder)
    forgetful = Ops(causal_mask=lambda n, device=None: causal_mask(n))
    with pytest.raises(FakeTensorDeviceMismatchError):
        decoder.trace(_ids(mode, B, T), ops=forgetful)
    with pytest.raises(FakeTensorDeviceMismatchError):
        decoder(torch.zeros(B, T, dtype=torch.int64))


# Models


@torch.no_grad()
def test_forward_and_trace_of_a_decoder_stay_on_the_device(mode: FakeTensorMode, decoder: Decoder) -> None:
    _move(mode, decoder)
    ids = _ids(mode, B, T)
    assert decoder(ids).shape == (B, T, VOCAB)
    _count_on(decoder(ids))
    assert _count_on(decoder.trace(ids)) == 4 + 2 * (10 + 8)
    allowed = causal_mask(T, device=ACCELERATOR) & padding_mask(_ids(mode, B), T)
    _count_on(decoder(ids, allowed))
    _count_on(decoder.trace(ids, allowed))


@torch.no_grad()
@pytest.mark.parametrize("padded", [False, True])
def test_forward_and_trace_of_an_encoder_stay_on_the_device(mode: FakeTensorMode, padded: bool) -> None:
    model = Encoder(BERT)
    _move(mode, model)
    ids = _ids(mode, B, T)
    allowed = padding_mask(_ids(mode, B), T) if padded else None
    segments = _ids(mode, B, T) if padded else None
    _count_on(model(ids, allowed, segments))
    trace = model.trace(ids, allowed, segments)
    assert trace.next_sentence is not None
    _count_on(trace)


@torch.no_grad()
@pytest.mark.parametrize("sampling", [SamplingConfig(temperature=0.0), SamplingConfig(0.8, top_k=5, top_p=0.9)])
def test_every_step_of_writing_stays_on_the_device(
    mode: FakeTensorMode, decoder: Decoder, sampling: SamplingConfig
) -> None:
    """`generate` looks at each token; a fake one has no value, so the step is called here as `generate` does."""
    _move(mode, decoder)
    text, cache = torch.cat([_ids(mode, 1, 3)]), decoder.new_cache(1, 8)
    for n_seen in (0, 3, 4, 5):
        assert cache.length == n_seen
        uniform = torch.rand(1).to(ACCELERATOR)
        new = next_token(decoder, text, cache, sampling, uniform, REFERENCE)
        assert new.shape == (1, 1)
        _count_on((new, cache.layers[0].k, cache.layers[1].v))
        _count_on(next_token(decoder, text, None, sampling, uniform, REFERENCE))
        _count_on(next_token(decoder, text, None, sampling, uniform, Ops(rotate=rotate_interleaved)))
        text = torch.cat([text, new], dim=1)
    _count_on(decoder(_ids(mode, 1, 2), cache=cache))  # several new tokens at once: they need a mask


def _optimizers(model: Decoder, kind: str) -> list[torch.optim.Optimizer]:
    return build_optimizers(model, kind=kind, lr=1e-3, muon_lr=1e-2, weight_decay=0.1, betas=(0.9, 0.95))


def _check_moments(model: Decoder, optimizers: list[torch.optim.Optimizer], kind: str, device: torch.device) -> None:
    """AdamW keeps two moments a parameter, Muon one a matrix."""
    moments = [v for o in optimizers for slots in o.state.values() for k, v in slots.items() if k != "step"]
    n_parameters, n_inner = (
        len(list(model.parameters())),
        sum(is_matrix_inside(n, p) for n, p in model.named_parameters()),
    )
    assert _count_on(tuple(moments), device) == 2 * n_parameters - (n_inner if kind == "muon" else 0)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_training_steps_stay_on_the_device(mode: FakeTensorMode, decoder: Decoder, kind: str) -> None:
    """Forward, loss, backward, clipping and two steps of the optimizer: the second one meets its own moments."""
    _move(mode, decoder)
    optimizers = _optimizers(decoder, kind)
    inputs, targets = (_ids(mode, B, T) for _ in range(2))
    for share in (0.5, 1.0):
        set_learning_rate(optimizers, share)
        _count_on(train_step(decoder, optimizers, inputs, targets, clip_norm=1.0))
    _check_moments(decoder, optimizers, kind, ACCELERATOR)


def test_gradients_of_both_paths_reach_every_parameter_on_the_device(mode: FakeTensorMode, decoder: Decoder) -> None:
    _move(mode, decoder)
    ids = _ids(mode, B, T)
    for path in (decoder, lambda x: decoder.trace(x).logits):
        decoder.zero_grad()
        path(ids).sum().backward()
        gradients = [p.grad for p in decoder.parameters()]
        assert _count_on(tuple(gradients)) == len(gradients)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_clipping_and_the_optimizers_cuda_kernels_stay_on_the_device(
    mode: FakeTensorMode, decoder: Decoder, kind: str
) -> None:
    _move(mode, decoder, CUDA)
    optimizers = _optimizers(decoder, kind)
    assert optimizers[-1].defaults["fused"] is True
    for _ in range(2):
        for p in decoder.parameters():
            p.grad = _fake(mode, *p.shape, device=CUDA)
        _count_on(torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0), CUDA)
        for optimizer in optimizers:
            optimizer.step()
    _check_moments(decoder, optimizers, kind, CUDA)


@torch.no_grad()
@pytest.mark.parametrize("make", [lambda: Decoder(GPT2), lambda: Encoder(BERT)], ids=["gpt2", "bert"])
def test_the_fast_path_as_cuda(mode: FakeTensorMode, make: Callable[[], Decoder | Encoder]) -> None:
    model = make()
    _move(mode, model, CUDA)
    ids = _ids(mode, B, T, device=CUDA)
    _count_on(model(ids), CUDA)
    with pytest.raises(FakeTensorDeviceMismatchError):
        model(ids, torch.ones(T, T, dtype=torch.bool))


# Functions


@pytest.mark.parametrize(
    "compute",
    [
        lambda m: average_of_past(_fake(m, B, T, 4)),
        lambda m: attend(
            *[_fake(m, B, 3, T, 4)] * 3, causal_mask(T, device=ACCELERATOR), alibi_bias(T, T, _fake(m, 3))
        ),
        lambda m: fused_attend(*[_fake(m, B, 3, T, 4)] * 3, None, alibi_bias(T, T, _fake(m, 3))),
        lambda m: sliding_window_mask(T, 2, device=ACCELERATOR),
        lambda m: prefix_mask(T, 2, device=ACCELERATOR),
        lambda m: document_mask(_ids(m, B, T)),
        lambda m: sinusoidal_positions(T, 4, device=ACCELERATOR),
        lambda m: rotate(_fake(m, B, 3, T, 4), rotary_angles(_ids(m, T), 4)),
        lambda m: rotate_interleaved(_fake(m, B, 3, T, 4), rotary_angles(_ids(m, T), 4)),
        lambda m: entropy_bits(softmax(_fake(m, B, VOCAB))),
        lambda m: score_sequence(_ids(m, T), _fake(m, T, VOCAB)),
        lambda m: sample(_fake(m, B, VOCAB), SamplingConfig(0.7, 3, 0.5), _fake(m, B)),
    ],
)
def test_functions_make_their_tensors_where_their_inputs_are(
    mode: FakeTensorMode, compute: Callable[[FakeTensorMode], object]
) -> None:
    _count_on(compute(mode))


# A real GPU


@pytest.mark.gpu
@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_a_real_gpu_computes_what_the_cpu_does(config: object) -> None:
    model = Decoder(config).init_weights(torch.Generator().manual_seed(1)).double()  # type: ignore[arg-type]
    ids = torch.randint(VOCAB, (B, T), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = model(ids)
        model.to("cuda")
        torch.testing.assert_close(model(ids.cuda()).cpu(), expected, rtol=0.0, atol=1e-12)
        torch.testing.assert_close(model.trace(ids.cuda()).logits.cpu(), expected, rtol=0.0, atol=1e-12)


@pytest.mark.gpu
def test_a_real_gpu_writes_the_same_text() -> None:
    model = Decoder(LLAMA).init_weights(torch.Generator().manual_seed(1)).double()
    settings = SamplingConfig(temperature=0.9, top_p=0.95)
    expected = list(generate(model, torch.tensor([3]), 8, settings, seed=3))
    assert list(generate(model.to("cuda"), torch.tensor([3]), 8, settings, seed=3)) == expected


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_real_gpu_learns(optimizer: str) -> None:
    model = Decoder(GPT2).init_weights(torch.Generator().manual_seed(1)).to("cuda")
    stream = TokenStream(np.tile(np.array([0, 5, 3, 9, 3, 10, 7], dtype=np.uint16), 40))
    config = PretrainConfig(n_steps=60, batch_size=8, n_tokens=8, warmup=2, lr=2e-2, muon_lr=2e-2, optimizer=optimizer)
    assert list(pretrain(model, stream, stream, config))[-1].loss < 0.3
