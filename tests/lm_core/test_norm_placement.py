"""Pre-norm and post-norm stacks, held to torch's own encoder layer and its autograd."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm_core.norm_placement import Stack, StackConfig, build_stack, gradient_norms, run_placement

SMALL = StackConfig(d_model=12, n_heads=3, d_mlp=20, n_layers=3, context_length=9, batch=4, steps=3)
TEXT = (Path(__file__).resolve().parents[2] / "assets" / "data" / "neuron_corpus.en.txt").read_bytes()


def _windows(c: StackConfig = SMALL) -> Tensor:
    return torch.tensor([list(TEXT[k : k + c.context_length + 1]) for k in range(0, 5 * c.batch, 5)])


def _theirs(stack: Stack, c: StackConfig, pre_norm: bool) -> list[nn.TransformerEncoderLayer]:
    """torch's own layers with the stack's weights."""
    layers = []
    for block in stack.blocks:
        layer = nn.TransformerEncoderLayer(
            c.d_model, c.n_heads, c.d_mlp, dropout=0.0, activation="relu", batch_first=True, norm_first=pre_norm,
            dtype=torch.float64,
        )  # fmt: skip
        a, m = block.attention, block.mlp
        with torch.no_grad():
            layer.self_attn.in_proj_weight.copy_(torch.cat([a.w_q.weight, a.w_k.weight, a.w_v.weight]))
            layer.self_attn.in_proj_bias.copy_(torch.cat([a.w_q.bias, a.w_k.bias, a.w_v.bias]))
            for ours, own in ((a.w_o, layer.self_attn.out_proj), (m.w_in, layer.linear1), (m.w_out, layer.linear2),
                              (block.norm_1, layer.norm1), (block.norm_2, layer.norm2)):  # fmt: skip
                own.weight.copy_(ours.weight)
                own.bias.copy_(ours.bias)
        layers.append(layer)
    return layers


@pytest.mark.parametrize("pre_norm", [True, False])
def test_loss_and_gradients_are_those_of_torch(pre_norm: bool) -> None:
    stack = build_stack(SMALL, pre_norm).double()
    with torch.no_grad():  # norms and biases that are not ones and zeros
        for name, parameter in stack.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.linspace(-0.3, 0.4, len(parameter), dtype=torch.float64))
    loss, norms = gradient_norms(stack, _windows())
    layers, ids = _theirs(stack, SMALL, pre_norm), _windows()
    x = stack.embed_tokens.weight.detach()[ids[:, :-1]] + stack.embed_positions.weight.detach()
    later = torch.ones(9, 9).triu(1).bool()
    for layer in layers:
        x = layer(x, src_mask=later)
    if stack.final_norm is not None:
        x = F.layer_norm(x, (12,), stack.final_norm.weight.detach(), stack.final_norm.bias.detach(), 1e-5)
    logits = x @ stack.unembed.weight.detach().T
    expected = -logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).mean()
    gradients = torch.autograd.grad(expected, [layer.linear2.weight for layer in layers])
    assert loss == pytest.approx(float(expected.detach()), abs=1e-10)
    torch.testing.assert_close(norms, torch.stack([g.square().sum().sqrt() for g in gradients]))


def test_a_gradient_norm_is_the_steepest_slope() -> None:
    """Without autograd: a small step along the gradient of W_out changes the loss by its length times the step."""
    stack = build_stack(SMALL, pre_norm=False).double()
    windows = _windows()
    _, norms = gradient_norms(stack, windows)
    for layer, block in enumerate(stack.blocks):
        weight = block.mlp.w_out.weight
        assert weight.grad is not None
        direction, losses = weight.grad / weight.grad.norm(), []
        for side in (1, -1):
            with torch.no_grad():
                weight.add_(side * 1e-5 * direction)
                losses.append(float(F.cross_entropy(stack(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())))
                weight.sub_(side * 1e-5 * direction)
        assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(float(norms[layer]), rel=1e-5)


def test_both_stacks_begin_alike_and_differ_only_in_placement() -> None:
    pre, post = (dict(build_stack(SMALL, pre_norm).named_parameters()) for pre_norm in (True, False))
    assert set(pre) - set(post) == {"final_norm.weight", "final_norm.bias"}
    assert all(torch.equal(pre[name], post[name]) for name in post)
    wide = build_stack(dataclasses.replace(SMALL, d_model=48, d_mlp=96), True)
    assert wide.blocks[0].mlp.w_in.weight.var().item() == pytest.approx(2 / (48 + 96), rel=0.1)
    assert (wide.embed_tokens.weight.var() + wide.embed_positions.weight.var()).item() == pytest.approx(1, rel=0.15)


def test_no_position_sees_what_comes_later() -> None:
    stack, windows = build_stack(SMALL, pre_norm=True), _windows()[:, :-1]
    changed = windows.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 256
    before, after = stack(windows), stack(changed)
    assert torch.equal(before[:, :5], after[:, :5]) and not torch.equal(before[:, 5:], after[:, 5:])


def test_training_learns_and_repeats() -> None:
    c = dataclasses.replace(SMALL, steps=25, learning_rate=1e-2)
    for pre_norm in (True, False):
        run, again = (run_placement(TEXT, c, pre_norm) for _ in range(2))
        assert len(run.losses) == 26 and run.before.shape == run.after.shape == (3,)
        assert run.losses[0] == pytest.approx(5.55, abs=0.6), "a fresh model is about as unsure as ln 256"
        assert run.losses[-1] < run.losses[0] - 1
        torch.testing.assert_close(run.losses, again.losses)
        torch.testing.assert_close(run.after, again.after)
    first = gradient_norms(build_stack(c, False), _windows_of_step(c, 0))
    assert float(run.losses[0]) == pytest.approx(first[0], abs=1e-6)
    torch.testing.assert_close(run.before, first[1])


def _windows_of_step(c: StackConfig, step: int) -> Tensor:
    starts = torch.randint(
        len(TEXT) - c.context_length, (c.steps + 1, c.batch), generator=torch.Generator().manual_seed(c.seed)
    )
    return torch.tensor([list(TEXT[s : s + c.context_length + 1]) for s in starts[step].tolist()])


def test_a_warm_up_begins_gently() -> None:
    """The first of very many warm-up steps leaves the model as it was, to the digits of a float; none does not."""
    c = dataclasses.replace(SMALL, steps=1)
    untouched, _ = gradient_norms(build_stack(c, True), _windows_of_step(c, 1))
    gently, at_once = (run_placement(TEXT, dataclasses.replace(c, warmup=w), True) for w in (10**9, 0))
    assert float(gently.losses[1]) == pytest.approx(untouched, abs=1e-6)
    assert abs(float(at_once.losses[1]) - untouched) > 1e-3


def test_what_the_lesson_says_of_its_own_stacks_is_so() -> None:
    """After 40 steps at the lesson's middle rate the first layer of the post-norm stack has hardly a gradient."""
    pre, post = (run_placement(TEXT, StackConfig(), pre_norm) for pre_norm in (True, False))
    assert post.after[0] < 1e-3 * post.after[-1]
    assert pre.after[0] > pre.after[-1]
    assert pre.losses[-1] < post.losses[-1] - 0.1


def test_a_text_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="5 bytes does not fill a window of 10"):
        run_placement(b"hello", SMALL, True)
