"""Writes the model card of shipped weights from what is measured here and now.

    FERL_DATA=FOLDER python benchmarks/model_card.py ferl-small ferlightning/weights/ferl-small.md

FOLDER has fer2013.csv, fer2013new.csv and CK+48. It takes some ten minutes on one core.
"""

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from deploy.compress import measure, table

from ferlightning.checkpoint import HEADER, read_checkpoint
from ferlightning.files import replacing
from ferlightning.weights import REGISTRY, find_weights

CORRUPTIONS = (
    "GaussianBlur", "GaussianNoise", "JPEG", "LowLight", "EyesOcclusion", "MouthOcclusion", "Rotation", "LowResolution",
)  # fmt: skip
SEVERITY = 3
TEXT = """# {weights}

{parameters:.2f} M parameters, {multiply_adds:.1f} M multiply-adds for a grey face of 48x48 pixels. It tells FER+'s
eight classes apart; FER2013's seven are a view of it, which a test on such data takes by itself (in Python:
`load("{weights}", view="fer2013")`).

Trained on FER2013's Training images with FER2013's labels and the votes of FER+, {made}

## Accuracy

PublicTest, in percent with 95 % intervals; PrivateTest was not looked at. Balanced accuracy is the mean recall of the
classes. CK+ has no neutral, and few images of contempt.

| | n | accuracy | balanced | n without copies | accuracy | balanced |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
{rows}

## Recall on FER+

| class | images | recall |
| --- | ---: | ---: |
{recall}

## Calibration

Expected calibration error {calibration_error:.3f}, negative log-likelihood {nll:.3f} on FER+. {calibration}

## Damaged images, severity {severity} of 5

| corruption | accuracy on FER+ |
| --- | ---: |
{damaged}

{exported}## Use and limits

For research, teaching, and as a start for your own faces. It reads what a face shows, not what a person feels. People
agree with FER2013's labels about two times in three. Disgust and contempt are rare in the training images and often
missed. Who is shown is unknown, so accuracy by age, sex or skin colour is too: measure it on your own people first.
The European Union bans the inference of emotions at work and in schools (AI Act, article 5). The images of FER2013
were gathered from the web for research; ask a lawyer before you sell what was trained on them.

Measured with `python benchmarks/model_card.py {weights} FILE`, {device}, {precision}.
"""

MADE = {
    "ferl-small": """by the recipe of
`configs/strong/small.yaml` and with two larger networks of the same data as teachers. Nothing else was used. Chosen
as the best of three seeds on PublicTest, so that its figures are a little lucky.""",
    "ferl-nano": """by the recipe of
`configs/strong/nano_distilled.yaml`, with `ferl-best` as teacher, in bf16. Nothing else was used. The better of two
seeds on FER2013's PublicTest, so that its figures are a little lucky.""",
    "ferl-best": """by two networks: VGG-13-like, with
Muon and CutMix, and the same with SGD; it is the mean of their probabilities. Nothing else was used.""",
}
CALIBRATION = """The last layers are
divided by a temperature, which `benchmarks/temperature.py` fitted on every second image of PublicTest without a copy.
On the others:

| | temperature | n | calibration error before | after | NLL before | after |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
"""
EXPORTED = """## As an ONNX file

`{weights}.onnx` takes `image`, uint8 (N, 1, 48, 48), and gives `probabilities` of the eight classes and `fer2013` of
the seven; their order is in the metadata `ferlightning`, as JSON. PublicTest without copies; milliseconds of CPU a face
on one thread of ONNX Runtime, {processor}. int8 is what `ferl export {weights} --int8 --data=FER2013`
writes.

{rows}

"""


def test(weights: str, *words: str) -> dict[str, Any]:
    """The report of ``ferl test`` with these options."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ferlightning", "test", f"--ckpt_path={weights}", *words]
        subprocess.run([*command, f"--trainer.default_root_dir={folder}"], check=True, stdout=subprocess.DEVNULL)
        report: dict[str, Any] = json.loads(Path(folder, "report/metrics.json").read_text())
        return report


def percent(entry: dict[str, float]) -> str:
    return f"{100 * entry['value']:.2f} ({100 * entry['low']:.2f} to {100 * entry['high']:.2f})"


def line(what: str, report: dict[str, Any]) -> str:
    """A row of the table of accuracies: all images, then those without a copy among the training images."""
    cells = []
    for part in (report, report["deduplicated"]):
        metrics = part["metrics"] if part else None
        cells += (
            [str(part["n"]), percent(metrics["accuracy"]), percent(metrics["balanced_accuracy"])] if metrics else []
        )
    return f"| {what} | " + " | ".join(cells + ["-"] * (6 - len(cells))) + " |"


def exported(weights: str) -> str:
    """The section on the ONNX file that ships, and on its like in integers."""
    with tempfile.TemporaryDirectory() as folder:
        written, integers = Path(folder, "int8.onnx"), Path(folder, f"{weights}, int8")
        command = [sys.executable, "-m", "ferlightning", "export", weights, str(written), "--int8", "--data=FER2013"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        written.rename(integers)  # the name that the table shows
        rows = table(measure([find_weights(f"{weights}.onnx"), integers]))
    vnni = " with VNNI" if torch.cpu._is_vnni_supported() else ""
    processor = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}{vnni}"
    return EXPORTED.format(weights=weights, processor=processor, rows=rows)


def card(weights: str) -> str:
    """The text of the card."""
    seven, eight = test(weights, "--data=FER2013"), test(weights, "--data=FERPlus")
    mirrored = [test(weights, f"--data={data}", "--model.mirror=true") for data in ("FER2013", "FERPlus")]
    ck = test(weights, "--data=CKPlus", "--data.fold=null")
    made = eight["provenance"]
    rows = [
        line("FER2013, 7 classes", seven),
        line("FER2013, with mirror images", mirrored[0]),
        line("FER+, 8 classes", eight),
        line("FER+, with mirror images", mirrored[1]),
        line("CK+48, never trained on", ck),
    ]
    recall = [
        f"| {name} | {found['support']} | {percent({'value': found['recall']} | found)} |"
        for name, found in eight["per_class"].items()
    ]
    damaged = []
    for name in CORRUPTIONS:
        found = test(weights, "--data=FERPlus", f"--data.corrupt={name}", f"--data.corrupt.severity={SEVERITY}")
        damaged.append(f"| {name} | {percent(found['metrics']['accuracy'])} |")
    scores = eight["metrics"]
    fitted = read_checkpoint(weights)[HEADER].get("calibration", {})
    calibration = [
        f"| {data} | {found['temperature']:.2f} | {found['images']} | "
        + " | ".join(
            f"{found[when][name]:.3f}" for name in ("calibration_error", "nll") for when in ("before", "after")
        )
        + " |"
        for data, found in zip(("FER+", "FER2013"), fitted.values(), strict=bool(fitted))
    ]
    return TEXT.format(
        weights=weights,
        parameters=made["parameters"] / 1e6,
        multiply_adds=made["multiply_adds"] / 1e6,
        rows="\n".join(rows),
        recall="\n".join(recall),
        made=MADE[weights],
        calibration=CALIBRATION + "\n".join(calibration) if calibration else "No temperature is built in.",
        exported=exported(weights) if f"{weights}.onnx" in REGISTRY else "",
        calibration_error=scores["calibration_error"]["value"],
        nll=scores["nll"]["value"],
        severity=SEVERITY,
        damaged="\n".join(damaged),
        device=made["device"],
        precision=made["precision"],
    )


if __name__ == "__main__":
    name, place = sys.argv[1:]
    with replacing(Path(place)) as temporary:
        temporary.write_text(card(name), encoding="utf-8")
