"""Making a dataset that Ultralytics trains on from images and their label files."""
