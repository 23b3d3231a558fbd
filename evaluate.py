"""Evaluates a run of train.py, a file of predictions or a model as it is: predictions.jsonl, metrics.json, the table.

python evaluate.py run=outputs/2026-01-31/12-00-00_tiny_lora
python evaluate.py run=outputs/2026-01-31/12-00-00_tiny_lora split=validation checkpoint=none
python evaluate.py predictions=answers.csv data=mimic data_root=FOLDER prompt=english_report
python evaluate.py pretrained=google/medgemma-1.5-4b-it data=vindr data_root=FOLDER prompt=medgemma_boxes
"""

from xrayexp.entry import launch

if __name__ == "__main__":
    launch("evaluate", "evaluate")
