"""YOLO models on images and on image and mask pairs."""
