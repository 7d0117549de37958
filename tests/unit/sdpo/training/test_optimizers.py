from __future__ import annotations

import sys

import pytest
import torch

from artifacts.errors import InputError
from sdpo.training import optimizers
from sdpo.training.optimizers import learning_rate, peak
from sdpo.training.settings import TrainingSettings

SETTINGS = TrainingSettings(
    steps=10,
    batch_size=2048,
    learning_rate=1e-8,
    warmup_steps=4,
    optimizer="adamw",
    weight_decay=0.01,
    max_grad_norm=1.0,
    empty_prompt_share=0.0,
    log_every=1,
    checkpoint_every=1,
    drift_every=1,
    heldout_pairs=1,
)


def rates(**changes: object) -> list[float]:
    settings = SETTINGS.model_copy(update=changes)
    return [learning_rate(settings, step) for step in range(1, settings.steps + 1)]


def test_scaled_by_the_batch_as_published() -> None:
    assert peak(SETTINGS.model_copy(update={"scale_learning_rate": True})) == pytest.approx(2.048e-5)
    assert peak(SETTINGS) == 1e-8


def test_warmup_then_constant() -> None:
    assert rates(learning_rate=4.0) == [1, 2, 3, 4, 4, 4, 4, 4, 4, 4]


def test_linear_falls_by_equal_parts_after_warmup_and_never_to_zero() -> None:
    assert rates(learning_rate=7.0, schedule="linear")[3:] == pytest.approx([7, 6, 5, 4, 3, 2, 1])


def test_cosine_is_half_way_in_the_middle() -> None:
    found = rates(learning_rate=2.0, schedule="cosine", warmup_steps=4, steps=11)
    # Steps 4 to 12 are the half period; step 8 is its middle.
    assert found[3] == 2.0
    assert found[7] == pytest.approx(1.0)
    assert found[5] == pytest.approx(1 + 0.5**0.5)
    assert found[10] > 0


def test_without_warmup_the_first_step_has_the_whole_rate() -> None:
    assert rates(learning_rate=1.0, warmup_steps=0)[0] == 1.0


def one_step(name: str, weight: torch.Tensor, grad: torch.Tensor, decay: float) -> torch.Tensor:
    parameter = torch.nn.Parameter(weight.clone())
    parameter.grad = grad
    optimizers.create(name, [parameter], learning_rate=0.1, weight_decay=decay).step()
    return parameter.detach()


def test_first_step_of_each_optimizer_by_hand() -> None:
    """All three divide the gradient by its own size at first; only Adam's decay is part of the gradient."""
    weight, grad = torch.full((2, 2), 3.0), torch.full((2, 2), -0.5)
    expected = {"adam": 3.0 - 0.1 * 0.0, "adamw": 3.0 * (1 - 0.1 * 0.5) + 0.1, "adafactor": 3.0 * (1 - 0.1 * 0.5) + 0.1}
    # For Adam the gradient is −0.5 + 0.5 · 3 = 1.
    expected["adam"] = 3.0 - 0.1
    for name, value in expected.items():
        torch.testing.assert_close(one_step(name, weight, grad, 0.5), torch.full((2, 2), value), msg=name)


def test_optimizer_whose_package_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizers.check(dict(SETTINGS))
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        InputError,
        match=r"^training.optimizer is 'adamw_8bit': package 'bitsandbytes' cannot be imported \(.*\); pip install "
        r"--no-deps -r requirements-adamw-8bit.lock, or use adamw$",
    ):
        optimizers.check({**dict(SETTINGS), "optimizer": "adamw_8bit"})


def test_eight_bits_lay_weights_one_after_another() -> None:
    with pytest.raises(
        InputError, match=r"^training\.channels_last is True: expected false: optimizer adamw_8bit lays"
    ):
        optimizers.check({**dict(SETTINGS), "optimizer": "adamw_8bit", "channels_last": True})
    optimizers.check({**dict(SETTINGS), "channels_last": True})


def test_adafactor_does_not_scale_by_the_size_of_the_weights() -> None:
    """With scaling, as is its default elsewhere, the step would be 0.1 · 3."""
    moved = one_step("adafactor", torch.full((4, 4), 3.0), torch.ones(4, 4), 0.0)
    torch.testing.assert_close(moved, torch.full((4, 4), 2.9))


def test_adafactor_keeps_rows_and_columns_instead_of_a_second_moment() -> None:
    parameter = torch.nn.Parameter(torch.zeros(30, 20))
    parameter.grad = torch.ones(30, 20)
    optimizer = optimizers.create("adafactor", [parameter], learning_rate=0.1, weight_decay=0.0)
    optimizer.step()
    sizes = [value.numel() for value in optimizer.state[parameter].values() if isinstance(value, torch.Tensor)]
    assert sum(sizes) == 30 + 20 + 1
