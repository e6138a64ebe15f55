"""From labels and reviews to decisions: pure, but for `readback`, which reads topics."""
