"""What every job needs: errors, atomic files, the batch shape, engines, configuration, reports."""
