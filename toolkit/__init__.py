"""mvtk as a Python library: formats, batch jobs and the services behind the ``mvtk`` command."""
