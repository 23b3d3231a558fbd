from __future__ import annotations

import pickle

import pytest

from xrayexp.checks import Check, require
from xrayexp.errors import ConfigError, RequirementError, UserError

OK = Check("GPU", "ok", "24 GiB")
SMALL = Check("GPU memory", "warning", "8 GiB", "trainer.micro_batch_size=1")
NO_DATA = Check("PadChest", "missing", "no folder given", "set PADCHEST_DIR")
NO_WEIGHTS = Check("weights", "missing", "not downloaded")


def test_warnings_do_not_stop_a_run() -> None:
    with pytest.raises(RequirementError) as raised:
        require([OK, SMALL, NO_DATA])
    assert raised.value.checks == (NO_DATA,), "the warning is not what stopped it"
    require([OK, SMALL])
    require([])


def test_everything_missing_is_in_one_message() -> None:
    with pytest.raises(RequirementError) as raised:
        require(iter([OK, NO_DATA, SMALL, NO_WEIGHTS]))
    assert raised.value.checks == (NO_DATA, NO_WEIGHTS)
    assert str(raised.value).splitlines()[1:] == [
        "  PadChest: no folder given",
        "    fix: set PADCHEST_DIR",
        "  weights: not downloaded",
    ]


def test_a_config_error_lists_its_problems_one_a_line() -> None:
    assert str(ConfigError(["r is negative", "lr is zero"])).splitlines()[1:] == [
        "  r is negative",
        "  lr is zero",
    ]


@pytest.mark.parametrize("error", [ConfigError(["r is negative", "lr is zero"]), RequirementError([NO_DATA])])
def test_errors_survive_the_way_between_processes(error: UserError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
