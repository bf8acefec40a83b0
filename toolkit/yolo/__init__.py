"""YOLO by Ultralytics, on mask-attention NPZ datasets and on plain ones: prepare, train, validate, predict, export."""
