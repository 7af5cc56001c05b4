#!/usr/bin/env bash
# What `python ppo.py` prints, shortened, for the README: about a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
(cd "$folder" && python "$OLDPWD/ppo.py" > output.txt)
{
    echo '```'
    head -3 "$folder/output.txt"
    echo '...'
    tail -4 "$folder/output.txt"
    echo '```'
} > benchmarks/results/quickstart.md
cat benchmarks/results/quickstart.md
