"""The ``mvtk`` command: what a person types, sees and gets back as an exit code."""
