#!/usr/bin/env bash
# A search by two processes for settings of 100,000 steps of LunarLander-v3, 60 trials, then its
# best one beside the defaults on 16 seeds that it has not seen: about 10 minutes on two cores.
# pip install optuna==5.0.0. Writes benchmarks/results/sweep.{csv,md}.
set -euo pipefail
cd "$(dirname "$0")/.."
search() { (cd benchmarks && python sweep.py search sweep --env-id LunarLander-v3 --steps 1e5 --trials 60); }
mkdir -p benchmarks/runs
search > benchmarks/runs/sweep_1.txt 2>&1 &
search > benchmarks/runs/sweep_2.txt 2>&1
wait
best=$(cd benchmarks && python sweep.py best sweep)
task="--env-id LunarLander-v3 --total-timesteps 100000 --eval-episodes 100"
# shellcheck disable=SC2086
benchmarks/train.sh sweep/defaults ppo.py 101-116 $task
# shellcheck disable=SC2086
benchmarks/train.sh sweep/best ppo.py 101-116 $task $best
python benchmarks/summarize.py sweep
