#!/usr/bin/env bash
# Train one script on one environment with several seeds, as many at a time as there are cores, one
# thread each:
#
#   benchmarks/train.sh NAME SCRIPT SEEDS [flags of the script]
#
# SEEDS is a number, 5 for seeds 1 to 5, or a range, 21-30.
# Each seed has a folder benchmarks/runs/NAME/SEED with its run and what it printed. A seed that has
# finished with this version of the scripts is not trained again: interrupt and start again at will.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=$1 script=$(cd "$(dirname "$2")" && pwd)/$(basename "$2") seeds=$3
shift 3
version=$(cat "$script" "$here/../ppo.py" | cksum | cut -d' ' -f1)  # ppo.py: tests/kill.py runs it

train() {
    local folder=$1
    [ -e "$folder/finished" ] && [ "$(cat "$folder/finished")" = "$version $flags" ] && return
    rm -rf "$folder" && mkdir -p "$folder" && cd "$folder"
    # shellcheck disable=SC2086
    python "$script" --seed "$(basename "$folder")" $flags > output.txt 2>&1 || { cat output.txt; return 255; }
    echo "$version $flags" > finished
    echo "$folder: $(grep 'greedy return' output.txt)"
}
export -f train
export script version flags="$*"
# shellcheck disable=SC2086
seq ${seeds/-/ } | xargs -P "${JOBS:-$(getconf _NPROCESSORS_ONLN)}" -I{} bash -c "train '$here/runs/$name/{}'"
