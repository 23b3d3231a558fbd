"""Evaluates a run of train.py: writes predictions.jsonl and metrics.json into its folder, prints the table.

python evaluate.py run=outputs/2026-01-31/12-00-00_tiny_lora
python evaluate.py run=outputs/2026-01-31/12-00-00_tiny_lora split=validation checkpoint=none
"""

from xrayexp.entry import launch

if __name__ == "__main__":
    launch("evaluate", "evaluate")
