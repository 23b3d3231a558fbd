"""Fine-tunes a model on chest X-rays and evaluates it.

python train.py                                                    the embedded default: no GPU, no download
python train.py adapter=dora adapter.r=16 trainer.max_steps=500    another adapter, fewer steps
python train.py model=medgemma15 adapter=dora                      MedGemma 1.5 4B on PadChest
python train.py --help                                             every choice there is
"""

from xrayexp.entry import launch

if __name__ == "__main__":
    launch("train", "train")
