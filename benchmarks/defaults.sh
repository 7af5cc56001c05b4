#!/usr/bin/env bash
# The default settings on eight environments, greedy evaluation over 100 episodes: about an hour on
# two cores. Writes benchmarks/results/defaults.{csv,md}.
set -euo pipefail
cd "$(dirname "$0")/.."
run() { benchmarks/train.sh "$2" "$1" "${SEEDS:-101-110}" --env-id "$2" --total-timesteps "$3" --eval-episodes 100; }
run ppo.py CartPole-v1 100000
run ppo.py Acrobot-v1 300000
run ppo.py MountainCar-v0 500000
run ppo.py LunarLander-v3 500000
run ppo_continuous.py Pendulum-v1 200000
run ppo_continuous.py InvertedPendulum-v5 300000
run ppo_continuous.py Hopper-v5 1000000
run ppo_continuous.py HalfCheetah-v5 1000000
python benchmarks/summarize.py defaults CartPole-v1 Acrobot-v1 MountainCar-v0 LunarLander-v3 \
    Pendulum-v1 InvertedPendulum-v5 Hopper-v5 HalfCheetah-v5
