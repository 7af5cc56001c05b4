#!/usr/bin/env bash
# What the clip does: LunarLander-v3 with the standard setting of tutorials (2048 steps per rollout,
# minibatches of 64, learning rate 3e-4, γ 0.99, λ 0.95), a clip range of 0.2, 0.5, 1.0 and none, and
# 4, 10 and 20 epochs; the value is not clipped. Ten seeds of 500,000 steps: six hours on two cores;
# SEEDS=101-103 for fewer. 1e6 switches the clip off.
set -euo pipefail
cd "$(dirname "$0")/.."
for epochs in 4 10 20; do
    for clip in 0.2 0.5 1.0 1e6; do
        python benchmarks/train.py "clip $clip, $epochs epochs" "${SEEDS:-101-110}" ppo.py \
            --env-id LunarLander-v3 --total-timesteps 500000 --clip-coef $clip --no-clip-vloss \
            --num-envs 1 --num-steps 2048 --num-minibatches 32 --update-epochs $epochs \
            --learning-rate 3e-4 --gamma 0.99 --gae-lambda 0.95 --ent-coef 0 \
            --no-norm-obs --no-norm-reward --no-anneal-lr
    done
done
python benchmarks/summarize.py
