#!/usr/bin/env bash
# LunarLander-v3 with the defaults of ppo.py, 10 seeds of 300,000 steps: about 5 minutes on two cores.
# Writes benchmarks/results/lunarlander.{csv,md} and lunarlander_curves.csv.
set -euo pipefail
cd "$(dirname "$0")/.."
benchmarks/train.sh lunarlander ppo.py 10 \
    --env-id LunarLander-v3 --total-timesteps 300000 --eval-episodes 100
python benchmarks/summarize.py lunarlander
