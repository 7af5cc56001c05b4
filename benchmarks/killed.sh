#!/usr/bin/env bash
# LunarLander-v3 with the defaults on twenty seeds, each run killed five times with kill -9 and
# resumed, against the unbroken runs of lunarlander.sh: about 10 minutes on two cores.
# Writes benchmarks/results/killed.{csv,md}.
set -euo pipefail
cd "$(dirname "$0")/.."
benchmarks/lunarlander.sh
benchmarks/train.sh killed tests/kill.py 20 --kills 5 --seconds 16 \
    --env-id LunarLander-v3 --eval-episodes 100
python benchmarks/summarize.py killed
