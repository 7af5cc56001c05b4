#!/usr/bin/env bash
# LunarLander-v3 with the defaults of ppo.py, 20 seeds of 500,000 steps: about 7 minutes on two
# cores. Writes benchmarks/results/lunarlander.{csv,md} and lunarlander_curves.csv.
set -euo pipefail
cd "$(dirname "$0")/.."
benchmarks/train.sh lunarlander ppo.py 20 --env-id LunarLander-v3 --eval-episodes 100
python benchmarks/summarize.py lunarlander
