"""Ultralytics' classes, subclassed: datasets, augmentation, models, trainer and validator.

The modules here import torch and Ultralytics when they are imported, so they are imported inside functions only, within
:func:`toolkit.yolo.containment.contained_ultralytics`. No class of Ultralytics is changed.
"""
