"""Searches for the best adapter, rank and learning rate.

python sweep.py                                         12 short trials of the embedded default
python sweep.py search=padchest_12gb model=medgemma15   MedGemma 1.5 4B on PadChest, within 12 GB
python sweep.py resume=outputs/...                      goes on with a sweep, or joins it as a second process
"""

from xrayexp.entry import launch

if __name__ == "__main__":
    launch("sweep", "train")
