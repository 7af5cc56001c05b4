#!/usr/bin/env bash
# The variants in benchmarks/variants compared with the unmodified scripts, greedy return over 100
# episodes: about an hour on two cores. Results are in benchmarks/results/runs.csv.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
export PYTHONPATH=$root/benchmarks  # environments.py
run() {  # ENVIRONMENT NAME [flags]: the variant of that name, or the unmodified script if there is none
    local env=$1 name=$2 script=$root/benchmarks/runs/scripts/$2/$kind.py
    shift 2
    mkdir -p "$(dirname "$script")"
    cp "$kind.py" "$script"
    if [ -e "benchmarks/variants/$name.patch" ]; then
        patch -s "$script" "benchmarks/variants/$name.patch"
    fi
    hash=$(python -c "from train import code_hash; print(code_hash('$kind.py'))")
    COMMAND="python $script" python benchmarks/train.py "variant $name, $env" "${SEEDS:-101-110}" \
        "edited $hash" --eval-episodes 100 --env-id "$id" --total-timesteps "$steps" "$@"
}

kind=ppo
id=Taxi-v4 steps=200000
for name in base action_mask; do run Taxi $name; done
id=environments:CartPoleWithoutVelocities-v1 steps=300000
for name in base gru; do run CartPoleWithoutVelocities $name --num-minibatches 4; done
id=environments:DeepSea-v0 steps=150000
for name in base rnd; do run DeepSea $name --no-norm-reward; done
id=environments:FlatBreakout-v1 steps=500000
run Breakout base --no-norm-obs
id=environments:MinAtar/Breakout-v1
run Breakout cnn --no-norm-obs

kind=ppo_continuous
id=LunarLanderContinuous-v3 steps=200000
for name in base continuous_{squashed,beta,state_std}; do run LunarLanderContinuous $name; done
python benchmarks/summarize.py
