#!/usr/bin/env bash
# What `python ppo.py` prints, shortened, for the README: about a minute.
# Writes benchmarks/results/quickstart.md.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
cp ppo.py "$folder"
(cd "$folder" && python ppo.py > output.txt 2>&1) || { cat "$folder/output.txt"; exit 1; }
{
    echo '```'
    head -4 "$folder/output.txt"
    echo '...'
    tail -5 "$folder/output.txt"
    echo '```'
} > benchmarks/results/quickstart.md
cat benchmarks/results/quickstart.md
