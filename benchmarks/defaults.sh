#!/usr/bin/env bash
# The defaults on eight environments, greedy evaluation over 100 episodes: about 25 minutes on two
# cores. Writes benchmarks/results/defaults.{csv,md}.
set -euo pipefail
cd "$(dirname "$0")/.."
run() { benchmarks/train.sh "$2" "$1" "$4" --env-id "$2" --total-timesteps "$3" --eval-episodes 100; }
run ppo.py CartPole-v1 100000 5
run ppo.py LunarLander-v3 500000 5
run ppo.py Acrobot-v1 300000 5
run ppo.py MountainCar-v0 500000 5
run ppo_continuous.py Pendulum-v1 200000 3
run ppo_continuous.py InvertedPendulum-v5 300000 3
run ppo_continuous.py Hopper-v5 1000000 3
run ppo_continuous.py HalfCheetah-v5 1000000 3
python benchmarks/summarize.py defaults CartPole-v1 LunarLander-v3 Acrobot-v1 MountainCar-v0 \
    Pendulum-v1 InvertedPendulum-v5 Hopper-v5 HalfCheetah-v5
