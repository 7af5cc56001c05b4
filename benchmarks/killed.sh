#!/usr/bin/env bash
# LunarLander-v3 with the defaults on twenty seeds, each run killed five times with kill -9 and
# resumed, against the unbroken runs of lunarlander.sh and heldout.sh: about 12 minutes on two cores.
# Writes benchmarks/results/killed.{csv,md}.
set -euo pipefail
cd "$(dirname "$0")/.."
benchmarks/lunarlander.sh
benchmarks/heldout.sh
benchmarks/train.sh killed tests/kill.py 20 --kills 5 --seconds 12 \
    --env-id LunarLander-v3 --total-timesteps 300000 --eval-episodes 100
python benchmarks/summarize.py killed
