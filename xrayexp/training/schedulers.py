"""Learning-rate schedules, stepped after every optimiser step."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup

from xrayexp.errors import ConfigError


def cosine(optimizer: Optimizer, total_steps: int, warmup: float) -> LRScheduler:
    """Linear warm-up over the share `warmup` of all steps, then half a cosine down to zero."""
    schedule: LRScheduler = get_cosine_schedule_with_warmup(optimizer, _warmup_steps(total_steps, warmup), total_steps)
    return schedule


def constant(optimizer: Optimizer, total_steps: int, warmup: float) -> LRScheduler:
    """Linear warm-up over the share `warmup` of all steps, then the optimiser's own rate."""
    schedule: LRScheduler = get_constant_schedule_with_warmup(optimizer, _warmup_steps(total_steps, warmup))
    return schedule


def one_cycle(optimizer: Optimizer, total_steps: int, warmup: float) -> LRScheduler:
    """One cycle (Smith and Topin 2017): a cosine up over the share `warmup`, then a cosine down to nearly zero."""
    rising = _warmup_steps(total_steps, warmup)
    # torch divides by the length of each phase less one step.
    share = min(max(rising, 2), max(total_steps - 1, 1)) / max(total_steps, 2)
    rates = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, rates, total_steps=max(total_steps, 3), pct_start=share, cycle_momentum=False)


def _warmup_steps(total_steps: int, warmup: float) -> int:
    if not 0 <= warmup < 1:
        raise ConfigError([f"scheduler.warmup is a share of all steps in [0, 1), not {warmup}"])
    return min(round(warmup * total_steps), total_steps - 1)  # one step at the full rate at least
