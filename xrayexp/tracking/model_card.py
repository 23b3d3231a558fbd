"""The model card of a merged model: what it is, what it was made from, how good it is, and what it is not for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xrayexp import __version__
from xrayexp.tracking.public import public_config
from xrayexp.tracking.record import read_record
from xrayexp.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

    from xrayexp.metrics.agreement import Agreement

PIPELINE = "image-text-to-text"
_NOT_SHOWN = ("hydra.", "logger", "paths.", "callbacks", "debug")  # of the overrides
_PLACES = ("_target_", "root", "cache_dir")  # of a data source: where, not what


@dataclass(frozen=True)
class MergedModel:
    """How a merged model was made of a run.

    Attributes:
        checkpoint: "best" or "last".
        base: the base's name, without its folder.
        hub_id: of the base; None when it is no model of the hub, or a copy that nobody has named.
        dtype: of the weights.
        dequantized: whether the base's weights are those that the run had quantised, written out.
        repository: on the hub; None when it is on none.
        agreements: how it compares, by what it is compared with.
        compared_on: what the comparison was made on, or why there was none.
    """

    checkpoint: str
    base: str
    hub_id: str | None
    dtype: str
    dequantized: bool
    repository: str | None
    agreements: Mapping[str, Agreement]
    compared_on: str


def model_card(run: RunFolder, config: Mapping[str, Any], merged: MergedModel) -> str:
    """README.md of a merged model: YAML for the hub, then text. Names no user, host or folder of this machine.

    Args:
        run: where metrics, splits and versions are read from, as far as they are there.
        config: the run's resolved config.
        merged: what was made of it.
    """
    shown = public_config(config)
    scores = _scores(run, merged.checkpoint)
    parts = [
        f"---\n{_metadata(shown, scores, merged).to_yaml()}\n---",
        _introduction(shown, merged),
        _usage(shown, merged),
        _data(run, shown),
        _training(run, shown, merged),
        _evaluation(scores),
        _merging(shown, merged),
        _use_and_limits(shown),
        _licence(shown),
        _origin(run),
    ]
    return "\n\n".join(parts) + "\n"


def _scores(run: RunFolder, checkpoint: str) -> dict[str, Any] | None:
    """metrics.json of the test split; None when the checkpoint was not evaluated on it."""
    file = run.evaluation("test", checkpoint) / "metrics.json"
    if not file.exists():
        return None
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def _scored(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The values that exist, by metric."""
    return {metric: estimate for metric, estimate in scores["metrics"].items() if estimate["value"] is not None}


def _metadata(config: Mapping[str, Any], scores: Mapping[str, Any] | None, merged: MergedModel) -> ModelCardData:
    from huggingface_hub import EvalResult, ModelCardData

    base, data = _about(config, "model"), _about(config, "data")
    name = f"{config['model']['name']}-{config['data']['name']}-{config['adapter']['name']}"
    metrics, confidence = (_scored(scores), scores["confidence"]) if scores else ({}, None)
    results = [
        EvalResult(
            task_type=PIPELINE,
            task_name="reports of chest X-rays",
            dataset_type=data.get("card_id") or config["data"]["name"],
            dataset_name=_title(config),
            dataset_split="test",
            metric_type=metric,
            metric_name=f"{metric.replace('_', ' ')}, before merging",
            metric_value=estimate["value"],
            metric_args={key: estimate[key] for key in ("low", "high")} | {"confidence": confidence},
        )
        for metric, estimate in metrics.items()
        if scores is not None and scores["definitions"][metric]["better"] != "neither"
    ]
    return ModelCardData(
        base_model=merged.hub_id,
        base_model_relation="finetune" if merged.hub_id else None,
        library_name="transformers",
        pipeline_tag=PIPELINE,
        language="en",
        tags=["chest-x-ray", "radiology", "report-generation", "peft", config["adapter"]["name"], "merged", "xrayexp"],
        license=base.get("license"),
        license_name=base.get("license_name"),
        license_link=base.get("license_link"),
        datasets=[data["card_id"]] if data.get("card_id") else None,
        metrics=[result.metric_type for result in results] or None,
        model_name=name,
        eval_results=results or None,
    )


def _introduction(config: Mapping[str, Any], merged: MergedModel) -> str:
    model, adapter = config["model"]["name"], config["adapter"]["name"]
    return (
        f"# {model} fine-tuned on {config['data']['name']} with {adapter}\n\n"
        f"Writes the report of a chest X-ray: FINDINGS, LOCATIONS and IMPRESSION. The base is {_base(merged)}; "
        f"a {adapter} adapter was trained on {_title(config)} and merged into it. For research only: "
        "**not for any decision about a patient**."
    )


def _usage(config: Mapping[str, Any], merged: MergedModel) -> str:
    where = merged.repository or "."
    return f"""\
## How to use it

```python
from PIL import Image, ImageOps
from transformers import AutoModelForImageTextToText, AutoProcessor

name = "{where}"  # this folder, or its name on the hub
model = AutoModelForImageTextToText.from_pretrained(name, dtype="auto", device_map="auto")
processor = AutoProcessor.from_pretrained(name)

image = Image.open("chest.png").convert("L").convert("RGB")  # a frontal view with 8 bits
image = ImageOps.pad(image, (max(image.size), max(image.size)))  # the processor would distort it
prompt = {json.dumps(str(config["data"]["prompt"]), ensure_ascii=False)}
content = [{{"type": "image", "image": image}}, {{"type": "text", "text": prompt}}]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": content}}],
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
).to(model.device, dtype=model.dtype)
answer = model.generate(**inputs, max_new_tokens={config["model"]["max_new_tokens"]}, do_sample=False)
print(processor.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```"""


def _data(run: RunFolder, config: Mapping[str, Any]) -> str:
    data = config["data"]
    chosen = {
        "selection": _what(data["source"]),
        "split": data["split"],
        "max_images": data["max_images"],
        "preprocessing": data["preprocessing"],
        "augmentation": config["augmentation"]["name"],
        "curriculum": config["curriculum"]["name"],
    }
    if data.get("synthetic"):
        chosen["synthetic"] = {"max_share": data["synthetic"]["max_share"]}
    link = _about(config, "data").get("link")
    return (
        f"## Data\n\nThe data are {_title(config)}{f', <{link}>' if link else ''}. Patients were split, so that no "
        f"patient, study or report is in two of the splits.{_counts(run)}\n\n```yaml\n{_yaml(chosen)}```"
    )


def _what(source: Any) -> Any:
    """The options of a data source without those that say where it lies."""
    if not isinstance(source, Mapping):
        return source
    return {key: _what(value) for key, value in source.items() if key not in _PLACES}


def _counts(run: RunFolder) -> str:
    """Images and patients of every split."""
    if not run.splits_file.exists():
        return ""
    import pandas as pd

    rows = pd.read_parquet(run.splits_file)
    used = {name: rows[rows["split"] == name] for name in ("train", "validation", "test")}
    table = [[name, f"{len(part):,}", f"{part['PatientID'].nunique():,}"] for name, part in used.items()]
    return "\n\n" + _table(["split", "images", "patients"], table)


def _training(run: RunFolder, config: Mapping[str, Any], merged: MergedModel) -> str:
    adapter, trainer, quantization = config["adapter"], config["trainer"], config["quantization"]
    options = {key: value for key, value in adapter["peft"].items() if value is not None}
    optimizer = {key: value for key, value in config["optimizer"].items() if not key.startswith("_")}
    schedule = {key: value for key, value in config["scheduler"].items() if not key.startswith("_")}
    rows = {
        "method": f"{adapter['name']} ({options.pop('_target_')})",
        "options": _inline(options),
        "layers": adapter["target"],
        "quantisation of the base": quantization["name"],
        "optimiser": f"{_last(config['optimizer'])}: {_inline(optimizer)}",
        "schedule": f"{_last(config['scheduler'])}: {_inline(schedule)}",
        "samples a step": trainer["effective_batch_size"],
        "precision": trainer["precision"],
        "seed": config["seed"],
        **_outcome(run, merged.checkpoint),
    }
    return "## Adapter and training\n\n" + _table(["", ""], [[key, str(value)] for key, value in rows.items()])


def _outcome(run: RunFolder, checkpoint: str) -> dict[str, str]:
    """What summary.json says; nothing of a run that has not ended."""
    if not run.summary_file.exists():
        return {}
    summary = json.loads(run.summary_file.read_text(encoding="utf-8"))
    chosen = f"{checkpoint}, after {summary['steps']} steps"
    if checkpoint == "best" and summary["best_score"] is not None:
        chosen = f"best {summary['monitor']}, {summary['best_score']:.3f} after {summary['best_step']} steps"
    found = {
        "trained parameters": f"{summary['trainable_parameters']:,} of {summary['total_parameters']:,}",
        "steps": f"{summary['steps']:,}",
        "checkpoint": chosen,
    }
    return found | ({"not good": summary["not_good"]} if summary.get("not_good") else {})


def _evaluation(scores: Mapping[str, Any] | None) -> str:
    if scores is None:
        return "## Evaluation\n\nThis checkpoint was not evaluated on the test split."
    rows = []
    for metric, estimate in _scored(scores).items():
        low, high, definition = estimate["low"], estimate["high"], scores["definitions"][metric]
        interval = "none" if low is None or high is None else f"{low:.3f} to {high:.3f}"
        title = definition.get("title", metric.replace("_", " "))  # files of earlier versions have none
        rows.append([title, f"{estimate['value']:.3f}", interval, definition["weakness"]])
    kind = scores.get("interval", "percentiles")  # earlier versions had no other
    interval = (
        f"Intervals: {scores['confidence']:.0%}, {kind} of {scores['bootstrap']:,} resamples of patients."
        if scores["bootstrap"]
        else "Intervals were not computed."
    )
    return (
        f"## Evaluation\n\nTest split, {scores['images']:,} images of {scores['patients']:,} patients, with the "
        f"adapter on the base that it was trained on, before merging. {interval}\n\n"
        + _table(["metric", "value", "interval", "what it does not show"], rows)
    )


def _merging(config: Mapping[str, Any], merged: MergedModel) -> str:
    quantized = config["quantization"]["name"]
    if merged.dequantized:
        way = (
            f"The adapter was merged into the weights on which it was trained: rounded by {quantized}, and written out "
            "in full. They are coarser than the original ones."
        )
    elif quantized == "none":
        way = "The adapter was merged into the weights on which it was trained; they were never quantised."
    else:
        way = (
            f"The adapter was merged into the original weights. It was trained on weights rounded by {quantized}, and "
            "may have learnt to make up for the rounding: the merged model is another model than the trained one, and "
            "the scores above are those of the trained one."
        )
    lines = [f"- Beside {other}: {agreement}." for other, agreement in merged.agreements.items()]
    differences = "\n".join(lines) if lines else "How far the outputs differ was not measured."
    return (
        f"## Merging\n\n{way} Each layer was merged in float32 and rounded once to {merged.dtype}.\n\n"
        f"{differences}\n\n{merged.compared_on}"
    )


def _use_and_limits(config: Mapping[str, Any]) -> str:
    limits = _about(config, "data").get("limits")
    return (
        "## Intended use\n\nResearch on methods: fine-tuning, evaluation and comparison of models that write reports. "
        "It is no medical device, was validated for no clinical use, and must not inform diagnosis or treatment.\n\n"
        "## Limits\n\n"
        "- It names only findings and locations of the vocabulary that it was trained on, and misses and invents "
        "some of those.\n"
        "- It gives no measure of its certainty, and sees one image: no earlier study, no second view, no patient.\n"
        "- How it does in groups of patients, by age, sex, device or hospital, is not known unless stated above.\n"
        f"- The base model's own biases and limits remain.{f'{chr(10)}- {limits}' if limits else ''}"
    )


def _licence(config: Mapping[str, Any]) -> str:
    base, data = _about(config, "model"), _about(config, "data")
    unknown = "The licence of the base model holds for this model too."
    link = f" <{base['license_link']}>" if base.get("license_link") else ""
    terms = f" {data['terms']}" if data.get("terms") else ""
    return f"## Licence\n\n{base.get('terms') or unknown}{link}{terms}"


def _origin(run: RunFolder) -> str:
    """Versions and commit of the training, and the choices by which it can be repeated."""
    lines = [f"Merged by xrayexp {__version__}."]
    if run.record_file.exists():
        record = read_record(run)
        start = record["starts"][-1]
        lines.append("Trained with " + ", ".join(f"{name} {version}" for name, version in start["versions"].items()))
        if start["git"] is not None:
            changed = ", with uncommitted changes" if start["git"]["dirty"] else ""
            lines.append(f"Commit {start['git']['commit']}{changed}")
        if record["overrides"] is not None:
            lines.append(f"`{_command(record['overrides'])}`")
    return "## Origin\n\n" + "\n".join(f"- {line}" for line in lines)


def _command(overrides: Sequence[str]) -> str:
    """The command line of the training, without what is private or says where things lie."""
    shown = []
    for override in overrides:
        key, _, value = override.partition("=")
        public = public_config({key.rpartition(".")[2]: value})  # nothing, when the key names a secret
        if public and not key.lstrip("+~").startswith(_NOT_SHOWN):
            shown += [f"{key}={text}" for text in public.values()]
    return " ".join(["python", "train.py", *shown])


def _about(config: Mapping[str, Any], room: str) -> Mapping[str, Any]:
    about: Mapping[str, Any] = config[room].get("about") or {}
    return about


def _title(config: Mapping[str, Any]) -> str:
    return str(_about(config, "data").get("title") or config["data"]["name"])


def _base(merged: MergedModel) -> str:
    return f"[{merged.hub_id}](https://huggingface.co/{merged.hub_id})" if merged.hub_id else merged.base


def _last(section: Mapping[str, Any]) -> str:
    return str(section["_target_"]).rpartition(".")[2]


def _inline(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items())


def _yaml(content: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
