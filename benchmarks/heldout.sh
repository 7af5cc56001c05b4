#!/usr/bin/env bash
# LunarLander-v3 with the defaults on ten seeds that had no part in choosing them: about 4 minutes
# on two cores. Writes benchmarks/results/heldout.{csv,md}.
set -euo pipefail
cd "$(dirname "$0")/.."
benchmarks/train.sh heldout ppo.py 21-30 --env-id LunarLander-v3 --eval-episodes 100
python benchmarks/summarize.py heldout
