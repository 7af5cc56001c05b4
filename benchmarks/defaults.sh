#!/usr/bin/env bash
# The default settings on the environments of environments.csv, greedy evaluation over 100 episodes:
# five hours on two cores with ten seeds. SEEDS=101-103 for fewer.
set -euo pipefail
cd "$(dirname "$0")/.."
while IFS=, read -r name env_id script steps; do
    python benchmarks/train.py "$name" "${SEEDS:-101-110}" "$script" --env-id "$env_id" \
        --total-timesteps "$steps" --eval-episodes 100
done < <(tail -n +2 benchmarks/environments.csv)
python benchmarks/baselines.py
python benchmarks/summarize.py
