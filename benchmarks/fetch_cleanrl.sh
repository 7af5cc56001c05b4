#!/usr/bin/env bash
# CleanRL at a fixed commit, in benchmarks/runs/cleanrl, with a virtual environment of its own: it
# needs Python 3.10 at most and Gymnasium 0.29.
set -euo pipefail
cd "$(dirname "$0")"
[ -e runs/cleanrl/fetched ] && exit
rm -rf runs/cleanrl
git clone https://github.com/vwxyzjn/cleanrl runs/cleanrl
git -C runs/cleanrl checkout fe8d8a03c41a7ef5b523e2e354bd01c363e786bb
"${PYTHON310:-python3.10}" -m venv runs/cleanrl/venv
runs/cleanrl/venv/bin/pip install torch==2.13.0 gymnasium==0.29.1 numpy==1.26.4 box2d==2.3.10 \
    pygame==2.6.1 mujoco==2.3.7 imageio==2.38.0 tyro==1.0.17 tensorboard==2.21.0
touch runs/cleanrl/fetched
