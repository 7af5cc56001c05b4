#!/usr/bin/env bash
# LunarLander-v3 with the defaults of ppo.py, 500,000 steps, ten seeds that were not used to choose
# the defaults (SEEDS=1-20 for others): about 5 minutes on two cores. The last line says how many
# seeds reached a mean return of 200 over the last 100 episodes.
set -euo pipefail
cd "$(dirname "$0")/.."
name="LunarLander-v3${SEEDS:+, seeds $SEEDS}"  # other seeds stay out of the tables
python benchmarks/train.py "$name" "${SEEDS:-101-110}" ppo.py --env-id LunarLander-v3 \
    --total-timesteps 500000 --eval-episodes 100
python benchmarks/summarize.py
