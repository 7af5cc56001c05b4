#!/usr/bin/env bash
# The environments of environments.csv with the default settings, and some with other flags as well;
# greedy evaluation over 100 episodes. Nine hours on two cores with ten seeds; SEEDS=101-103 for fewer.
set -euo pipefail
cd "$(dirname "$0")/.."
while IFS=, read -r name env_id script steps flags; do
    # shellcheck disable=SC2086  # flags are words
    python benchmarks/train.py "$name" "${SEEDS:-101-110}" "$script" --env-id "$env_id" \
        --total-timesteps "$steps" --eval-episodes 100 $flags
done < <(tail -n +2 benchmarks/environments.csv)
python benchmarks/baselines.py
python benchmarks/summarize.py
