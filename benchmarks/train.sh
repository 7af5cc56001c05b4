#!/usr/bin/env bash
# Train one script on one environment with several seeds, one thread each, as many at a time as
# there are cores:
#
#   benchmarks/train.sh NAME SCRIPT SEEDS [flags of the script]
#
# SEEDS is a number, 5 for seeds 1 to 5, or a range, 21-30. Each seed has a folder
# benchmarks/runs/NAME/SEED with its run and its output. A seed that has finished with the same
# script and flags is not trained again, so that an interrupted benchmark can be started again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=$1 script=$(cd "$(dirname "$2")" && pwd)/$(basename "$2") seeds=$3
shift 3
version=$(cksum < "$script" | cut -d' ' -f1)

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
