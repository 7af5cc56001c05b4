#!/usr/bin/env bash
# Everything that benchmarks/README.md shows, one to two days on two cores. It can be interrupted:
# what has finished is in results/ and is not run again. Needs requirements.txt of this folder, Python
# 3.10 for CleanRL, and git.
set -euo pipefail
cd "$(dirname "$0")"
for command in lunarlander rivals ratchet defaults variants; do
    bash $command.sh
done
for environment in LunarLander-v3 MountainCar-v0 Hopper-v5; do
    python ablations.py $environment "${SEEDS:-101-110}"
done
python speed.py
python summarize.py
python figures.py
python gif.py
