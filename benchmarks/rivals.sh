#!/usr/bin/env bash
# LunarLander-v3 with other implementations on the same machine, ten seeds each, 1M steps or 15
# minutes: CleanRL, Stable-Baselines3 with its defaults and with rl-baselines3-zoo's setting, SBX with
# that setting. Ours are those of lunarlander.sh. Hours on two cores; SEEDS=101-103 for fewer.
#
# CleanRL needs Gymnasium below 1.0, so that it has an environment of its own (Python 3.10), and
# LunarLander-v2, the same task.
set -euo pipefail
cd "$(dirname "$0")/.."
benchmarks/fetch_cleanrl.sh
export LIMIT=900
seeds=${SEEDS:-101-110}
train() { COMMAND=$1 python benchmarks/train.py "$2" "$seeds" "$3" --total-timesteps 1000000 "${@:4}"; }
rivals="python $PWD/benchmarks/rivals.py"
train "$PWD/benchmarks/runs/cleanrl/venv/bin/python $PWD/benchmarks/runs/cleanrl/cleanrl/ppo.py" \
    "CleanRL" "CleanRL fe8d8a0, gymnasium 0.29.1" --no-cuda --env-id LunarLander-v2
train "$rivals sbx zoo" "SBX, zoo's setting" "sbx-rl 0.28.0"
train "$rivals sb3 zoo" "SB3, zoo's setting" "stable-baselines3 2.9.2"
train "$rivals sb3 default" "SB3, its defaults" "stable-baselines3 2.9.2"
train "$rivals sb3 zoo" "SB3, zoo's setting, rendered" "stable-baselines3 2.9.2" --render-mode rgb_array
python benchmarks/summarize.py
