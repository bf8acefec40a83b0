#!/bin/sh
# From images, masks and labels to a detector that sees image and mask: convert, verify, train, validate, predict, export.
#
#   sh configs/yolo-mask-attention.sh CONVERT.yaml OUTPUT [options of mvtk yolo train ...]
#
# CONVERT.yaml    options of `mvtk dataset convert-mask-attention`: where images, labels and masks are
# OUTPUT          a folder for everything that is made
#
# With photographs in which the mask tells what to find (`make demo-yolo` makes them and runs this line):
#
#   sh configs/yolo-mask-attention.sh configs/yolo-convert.yaml demo-output/yolo --config configs/yolo-train.yaml
#
# When it was interrupted, the same line goes on: what is done is skipped, and training resumes. MVTK names the program.
set -eu

[ $# -ge 2 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
convert=$1
output=$2
shift 2
mvtk=${MVTK:-mvtk}
dataset=$output/dataset
run=$output/run
model=$run/weights/best.pt

"$mvtk" dataset convert-mask-attention --config "$convert" --output-root "$dataset"
"$mvtk" dataset verify "$dataset"
if [ -e "$run/weights/last.pt" ]; then
  set -- "$@" --resume
fi
"$mvtk" yolo train "$dataset" "$@" --output "$run" --report "$output/train.json"
"$mvtk" yolo val "$dataset" --model "$model" --output "$output/val" --overwrite
"$mvtk" yolo predict "$dataset/images/val" --model "$model" --output "$output/predictions" --save-conf
"$mvtk" yolo export --model "$model" --output "$output/model.onnx" --overwrite
