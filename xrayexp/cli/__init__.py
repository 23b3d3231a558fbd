"""The console command `xrayexp`: what is not a run of train.py, evaluate.py or sweep.py. One file a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from xrayexp import __version__
from xrayexp.cli import compare, data, doctor, export, gallery, losses, plan, runs, wandb_dashboard
from xrayexp.entry import INTERRUPTED, USER_ERROR, prepare_environment
from xrayexp.messages import explain

COMMANDS = (doctor, data, plan, runs, compare, gallery, losses, export, wandb_dashboard)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Args:
        argv: the arguments; None means those of the process.

    Returns:
        The exit status: 0, 1 when the command's answer is no, 2 for what the user can fix, 130 after Ctrl+C.

    Raises:
        Exception: whatever the user cannot fix, that is, a bug.
    """
    prepare_environment()
    arguments = _parse(argv)
    try:
        return int(arguments.command(arguments))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return USER_ERROR


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the arguments; overrides may stand on both sides of options, which argparse takes for a mistake."""
    parser = argparse.ArgumentParser(prog="xrayexp", description="Fine-tuning experiments on chest X-rays.")
    parser.add_argument("--version", action="version", version=f"xrayexp {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    arguments, rest = parser.parse_known_args(argv)
    if rest and not (hasattr(arguments, "overrides") and all(not word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides += rest
    return arguments
