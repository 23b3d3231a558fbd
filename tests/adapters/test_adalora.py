"""AdaLoRA's phases, and its knowledge of the importance of ranks on its way through a checkpoint."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peft import PeftModel

from xrayexp.adapters.adalora import allocation_state, restore_allocation
from xrayexp.errors import ConfigError


def test_phases_that_leave_no_time_are_refused_with_the_reason(attached: Callable[..., PeftModel]) -> None:
    with pytest.raises(ConfigError, match=r"adapter=adalora: .*budgeting phase"):
        attached("adalora", "adapter.phases.tinit=0.8")


def test_averages_go_where_the_adapter_is(attached: Callable[..., PeftModel]) -> None:
    """Checkpoints are read to the CPU; on another device the next step could not add to them."""
    model = attached("adalora")
    names = [name for name, _ in model.get_base_model().named_parameters() if "lora_" in name]
    averages = {name: torch.ones(2, 2) for name in names}
    state = allocation_state(model) | {"exp_avg_ipt": averages, "exp_avg_unc": averages}
    restore_allocation(model.to("meta"), state)
    restored = allocation_state(model)
    for average in ("exp_avg_ipt", "exp_avg_unc"):
        assert list(restored[average]) == names
        assert {tensor.device.type for tensor in restored[average].values()} == {"meta"}
