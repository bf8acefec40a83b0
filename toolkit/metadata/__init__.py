"""Metadata-only datasets: ``.npy`` files of image paths and annotations; the images stay where they are."""
