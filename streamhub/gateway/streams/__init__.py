"""What any stream needs: the channel to its client, the task that feeds it, the timer wheel."""
