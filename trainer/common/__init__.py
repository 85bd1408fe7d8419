"""What every part of the trainer uses: seeds, axis letters, device, threads, reports, exit codes."""
